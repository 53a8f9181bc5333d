"""The ledger as administrators see it: pages of tasks, and one put back or away by hand."""

from __future__ import annotations

from typing import Any, LiteralString
from uuid import UUID

from psycopg.errors import UniqueViolation

from sercha.adapters.postgres.pool import ConnectionPool
from sercha.adapters.postgres.tasks import Announce
from sercha.domain.task import Task, TaskState
from sercha.errors import Conflict, NotFound, Transient
from sercha.services.ports.task_admin import TaskFilter

RACES_MAX = 8
"""How often a retry is tried again after a twin came or went in the same moment."""

_TASK: LiteralString = """
SELECT id, kind, state, payload, attempt, tries, tries_max, created_at, run_at, finished_at, last_error, owner
FROM task"""

# Ids are in the order of their making.
_LIST: LiteralString = (
    _TASK
    + """
WHERE (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(kind)s::text IS NULL OR kind = %(kind)s)
  AND (%(source_id)s::text IS NULL OR payload ->> 'source_id' = %(source_id)s)
  AND (%(before)s::uuid IS NULL OR id < %(before)s)
ORDER BY id DESC LIMIT %(limit)s"""
)

# The twin is locked: one that is being claimed or cancelled at this moment is no twin any more.
_RETRY: LiteralString = """
WITH twin AS MATERIALIZED (
    SELECT id FROM task WHERE state = 'queued' AND dedupe_key = (
        SELECT dedupe_key FROM task WHERE id = %(id)s)
    FOR UPDATE
), retried AS (
    UPDATE task SET state = 'queued', tries = 0, run_at = clock_timestamp(), finished_at = NULL, owner = NULL
    WHERE id = %(id)s AND state IN ('dead', 'cancelled') AND NOT EXISTS (SELECT 1 FROM twin)
    RETURNING id
), forgotten AS (
    UPDATE sync_state SET task_id = NULL WHERE task_id IN (SELECT id FROM retried)
)
SELECT self.state, coalesce((SELECT id FROM retried), (SELECT id FROM twin)),
       (SELECT pg_notify('sercha_task', '') FROM retried)
FROM task self WHERE self.id = %(id)s
"""

# The end of a task with a concurrency key may let another one run.
_CANCEL: LiteralString = """
WITH cancelled AS (
    UPDATE task SET state = 'cancelled', finished_at = clock_timestamp(), owner = NULL
    WHERE id = %(id)s AND state IN ('queued', 'running') RETURNING id
)
SELECT self.state, EXISTS (SELECT 1 FROM cancelled),
       (SELECT pg_notify('sercha_task', '') FROM cancelled)
FROM task self WHERE self.id = %(id)s
"""


class PostgresTaskAdmin:
    """`sercha.services.ports.task_admin.TaskAdmin` on one pool.

    *announce* is told of tasks that may be claimed, where workers do not listen to PostgreSQL.
    """

    def __init__(self, pool: ConnectionPool, *, announce: Announce | None = None) -> None:
        self._pool = pool
        self._announce = announce

    async def list(self, chosen: TaskFilter, *, limit: int) -> list[Task]:
        """Return the newest *limit* tasks of those *chosen*."""
        rows = await self._run(
            _LIST,
            {
                "state": chosen.state,
                "kind": chosen.kind,
                "source_id": None if chosen.source_id is None else str(chosen.source_id),
                "before": chosen.before,
                "limit": limit,
            },
        )
        return [_task(row) for row in rows]

    async def get(self, task_id: UUID) -> Task | None:
        """Return one task, or None."""
        rows = await self._run(_TASK + " WHERE id = %(id)s", {"id": task_id})
        return _task(rows[0]) if rows else None

    async def counts(self) -> dict[TaskState, int]:
        """Count tasks by state; states without tasks are 0."""
        counts = dict.fromkeys(TaskState, 0)
        for state, count in await self._run("SELECT state, count(*) FROM task GROUP BY state", {}):
            counts[TaskState(state)] = count
        return counts

    async def retry(self, task_id: UUID) -> UUID:
        """Put a dead or cancelled task back into the queue, or leave it to a twin that waits; its id.

        Raises:
            NotFound: there is no such task.
            Conflict: it is in another state (``task-state``).
            Transient: twins came and went all the time (``claim-race``).
        """
        for _ in range(RACES_MAX):
            try:
                rows = await self._run(_RETRY, {"id": task_id})
            except UniqueViolation:  # a twin was enqueued in the same moment
                continue
            if not rows:
                raise _none(task_id)
            state, heir = TaskState(rows[0][0]), rows[0][1]
            if state not in (TaskState.DEAD, TaskState.CANCELLED):
                raise _in_state(task_id, state, "a dead or cancelled one can be retried")
            if heir is not None:
                if self._announce is not None and heir == task_id:
                    self._announce([task_id])
                return heir
        raise Transient(f"task {task_id}: raced with its twins too often", code="claim-race")

    async def cancel(self, task_id: UUID) -> None:
        """Cancel a queued or running task; its worker is told by its next beat or commit.

        Raises:
            NotFound: there is no such task.
            Conflict: it has ended (``task-state``).
            Transient: it was claimed and given back all the time (``claim-race``).
        """
        for _ in range(RACES_MAX):
            rows = await self._run(_CANCEL, {"id": task_id})
            if not rows:
                raise _none(task_id)
            state, is_cancelled = TaskState(rows[0][0]), rows[0][1]
            if is_cancelled:
                return
            if state not in (TaskState.QUEUED, TaskState.RUNNING):
                raise _in_state(task_id, state, "a queued or running one can be cancelled")
        raise Transient(f"task {task_id}: changed too often", code="claim-race")

    async def _run(
        self, statement: LiteralString, parameters: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            return await (await connection.execute(statement, parameters)).fetchall()


def _none(task_id: UUID) -> NotFound:
    return NotFound(f"task {task_id}: there is none", code="task-not-found")


def _in_state(task_id: UUID, state: TaskState, rule: str) -> Conflict:
    return Conflict(f"task {task_id}: is {state}; {rule}", code="task-state")


def _task(row: tuple[Any, ...]) -> Task:
    return Task(
        id=row[0],
        kind=row[1],
        state=TaskState(row[2]),
        payload=row[3],
        attempt=row[4],
        tries=row[5],
        tries_max=row[6],
        created_at=row[7],
        run_at=row[8],
        finished_at=row[9],
        last_error=row[10],
        owner=row[11],
    )
