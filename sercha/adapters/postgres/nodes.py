"""Who lives, and what each does: one row per process, refreshed by its own beat."""

from __future__ import annotations

from typing import Any, LiteralString
from uuid import UUID

from sercha.adapters.postgres.pool import ConnectionPool
from sercha.services.ports.accounts import Node, NodeState, RunningTask

NODE_TTL = 24 * 3600.0
"""Seconds after which a silent node is forgotten."""
NODE_SILENCE = 35.0
"""Seconds without a sign of life after which a node counts as dead; it gives one every 10 s."""

_BEAT: LiteralString = """
INSERT INTO node (id, role, host, pid, version, started_at) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()
"""

# A worker that beats for its claims is alive, whatever became of the other beat.
_LIST: LiteralString = """
SELECT n.id, n.role, n.host, n.pid, n.version, n.started_at, n.seen_at,
       n.seen_at > clock_timestamp() - make_interval(secs => %(silence)s)
       OR EXISTS (SELECT 1 FROM heartbeat h WHERE h.node_id = n.id AND h.expires_at > clock_timestamp())
FROM node n ORDER BY n.started_at DESC, n.id
"""

# A heartbeat that is over still says whose the task was, until somebody takes it over.
_RUNNING: LiteralString = """
SELECT h.node_id, t.id, t.kind, t.attempt, t.claimed_at, s.id, s.name, y.items_done, y.items_expected
FROM task t
JOIN heartbeat h ON h.owner = t.owner
LEFT JOIN source s ON s.id::text = t.payload ->> 'source_id'
LEFT JOIN sync_state y ON y.source_id = s.id AND y.task_id = t.id
WHERE t.state = 'running' ORDER BY t.claimed_at, t.id
"""


class PostgresNodeStore:
    """`sercha.services.ports.NodeStore` on one pool."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def beat(self, node: Node) -> None:
        """Say that *node* lives."""
        async with self._pool.connection() as connection:
            await connection.execute(
                _BEAT,
                [node.id, node.role, node.host, node.pid, node.version, node.started_at],
            )

    async def leave(self, node_id: UUID) -> None:
        """Remove a node that stops in order, and those silent for `NODE_TTL`."""
        async with self._pool.connection() as connection:
            await connection.execute(
                """DELETE FROM node WHERE id = %s
                   OR seen_at < clock_timestamp() - make_interval(secs => %s)""",
                [node_id, NODE_TTL],
            )

    async def list(self) -> list[NodeState]:
        """Return all nodes, the newest first, with what they are doing."""
        async with self._pool.connection() as connection:
            nodes = await (await connection.execute(_LIST, {"silence": NODE_SILENCE})).fetchall()
            tasks = await (await connection.execute(_RUNNING)).fetchall()
        return [
            NodeState(
                Node(*row[:7]),
                is_alive=row[7],
                running=tuple(_running(task) for task in tasks if task[0] == row[0]),
            )
            for row in nodes
        ]


def _running(row: tuple[Any, ...]) -> RunningTask:
    return RunningTask(*row[1:])
