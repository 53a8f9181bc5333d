"""Who lives: one row per process, refreshed by its heartbeat."""

from __future__ import annotations

from uuid import UUID

from sercha.adapters.postgres.pool import ConnectionPool
from sercha.services.ports import Node

NODE_TTL = 24 * 3600.0
"""Seconds after which a silent node is forgotten."""

_BEAT = """
INSERT INTO node (id, role, host, pid, version, started_at) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()
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

    async def list(self) -> list[Node]:
        """Return all nodes, the newest first."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                """SELECT id, role, host, pid, version, started_at, seen_at FROM node
                   ORDER BY started_at DESC"""
            )
            return [Node(*row) for row in await cursor.fetchall()]
