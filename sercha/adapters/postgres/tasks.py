"""The ledger of tasks on PostgreSQL: claims by SKIP LOCKED, beats and settlements in batches.

Each call is one statement or one transaction. Where time is compared, ``clock_timestamp()`` is used: ``now()``
is frozen at the start of a transaction, which may lie before a wait for a lock.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, LiteralString
from uuid import UUID, uuid4

import trio
from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from sercha.adapters.postgres import task_sql as sql
from sercha.adapters.postgres.pool import ConnectionPool
from sercha.adapters.postgres.transaction import connection_of
from sercha.domain.task import Claim, NewTask, Outcome, Task, TaskKind, TaskState
from sercha.errors import ClaimLost, Transient
from sercha.services.ports import Transaction

CLAIM_TTL = 30.0
"""Seconds that a claim lives without a beat."""
IDLE_IN_PAGE_MAX = 10.0
"""Seconds that a transaction which holds a claim may wait for its client between two statements."""
CLAIM_RACES_MAX = 8
"""How often a claim is tried again after losing a race for a concurrency key."""


class PostgresTaskQueue:
    """`sercha.services.ports.TaskQueue` on one pool."""

    def __init__(self, pool: ConnectionPool, *, claim_ttl: float = CLAIM_TTL) -> None:
        self._pool = pool
        self.claim_ttl = claim_ttl

    async def enqueue(self, tx: Transaction, tasks: Sequence[NewTask]) -> list[UUID]:
        """Add *tasks* when *tx* commits; a queued twin (same dedupe key) is answered instead."""
        connection = connection_of(tx)
        ids: list[UUID] = []
        for task in tasks:
            cursor = await connection.execute(
                sql.ENQUEUE,
                {
                    "id": uuid4(),
                    "kind": task.kind,
                    "payload": Jsonb(task.payload),
                    "priority": task.priority,
                    "delay": task.delay,
                    "tries_max": task.tries_max,
                    "dedupe_key": task.dedupe_key,
                    "concurrency_key": task.concurrency_key,
                },
            )
            row = await cursor.fetchone()
            assert row is not None
            ids.append(row[0])
        return ids

    async def claim(self, owner: UUID, limit: int, kinds: Collection[TaskKind]) -> list[Claim]:
        """Claim due tasks of *kinds*, by priority, due time, id.

        Two workers may race for one concurrency key; the loser of the unique index tries again.
        """
        for race in range(CLAIM_RACES_MAX):
            try:
                return await self._claim_once(owner, limit, kinds)
            except UniqueViolation:
                await trio.sleep(0.005 * race)
        raise Transient("tasks: lost the race for a concurrency key too often", code="claim-race")

    async def _claim_once(
        self, owner: UUID, limit: int, kinds: Collection[TaskKind]
    ) -> list[Claim]:
        parameters = {
            "owner": owner,
            "limit": limit,
            "ttl": self.claim_ttl,
            "kinds": [kind.value for kind in kinds],
        }
        async with self._pool.connection() as connection:
            cursor = await connection.execute(sql.CLAIM, parameters)
            rows = await cursor.fetchall()
        return [
            Claim(
                task_id=row[0],
                attempt=row[1],
                owner=owner,
                kind=TaskKind(row[2]),
                payload=row[3],
                tries=row[4],
                tries_max=row[5],
            )
            for row in rows
        ]

    async def beat(self, owner: UUID, claims: Sequence[Claim]) -> set[tuple[UUID, int]]:
        """Extend *claims* in one statement; (task, attempt) of those that are still ours."""
        rows = await self._run(
            sql.BEAT,
            {
                "owner": owner,
                "ttl": self.claim_ttl,
                "ids": [claim.task_id for claim in claims],
                "attempts": [claim.attempt for claim in claims],
            },
        )
        return {(row[0], row[1]) for row in rows}

    async def settle(self, outcomes: Sequence[Outcome]) -> set[UUID]:
        """Record outcomes by (task, owner, attempt); the ids that were accepted."""
        accepted: set[UUID] = set()
        done = [outcome.claim for outcome in outcomes if outcome.error is None]
        if done:
            rows = await self._run(sql.COMPLETE, _tokens(done))
            accepted |= {row[0] for row in rows}
        for outcome in outcomes:
            if outcome.error is None:
                continue
            rows = await self._run(
                sql.REQUEUE,
                {
                    **_tokens([outcome.claim]),
                    "error": outcome.error.replace("\0", " ")[:2_000],
                    "delay": outcome.retry_delay,
                    "refund": 0,
                    "is_final": outcome.is_final,
                },
            )
            accepted |= {row[0] for row in rows}
        return accepted

    async def give_back(self, claims: Sequence[Claim]) -> set[UUID]:
        """Return interrupted attempts, uncharged; a queued twin swallows them."""
        rows = await self._run(
            sql.REQUEUE,
            {**_tokens(claims), "error": None, "delay": 0.0, "refund": 1, "is_final": False},
        )
        return {row[0] for row in rows}

    async def verify(self, tx: Transaction, claim: Claim, *, progressed: bool = False) -> None:
        """Hold the claim until *tx* ends; raise `ClaimLost` when it is not ours any more."""
        statement = sql.VERIFY_PROGRESSED if progressed else sql.VERIFY
        connection = connection_of(tx)
        limit = str(round(IDLE_IN_PAGE_MAX * 1000))
        await connection.execute(sql.VERIFY_LIMIT, {"milliseconds": limit})
        cursor = await connection.execute(
            statement, {"id": claim.task_id, "owner": claim.owner, "attempt": claim.attempt}
        )
        if await cursor.fetchone() is None:
            raise ClaimLost(
                f"task {claim.task_id}: attempt {claim.attempt} no longer holds its claim"
            )

    async def reap(self) -> int:
        """Give the tasks of dead workers back to the queue, charged; how many there were."""
        error = "the worker of the attempt died or lost its claim"
        parameters = {"error": error, "delay": 0.0, "refund": 0, "is_final": False}
        return len(await self._run(sql.REAP, parameters))

    async def release_all(self) -> int:
        """Expire every claim at once: for a starter that knows that no worker lives.

        `sercha up` may say so of its own PostgreSQL, because it holds the data folder's lock.
        """
        await self._run(sql.EXPIRE_ALL, {})
        return await self.reap()

    async def cancel(self, task_id: UUID) -> bool:
        """Cancel a queued or running task; its worker is told by its next beat."""
        return bool(await self._run(sql.CANCEL, {"id": task_id}))

    async def cancel_keyed(self, tx: Transaction, concurrency_key: str) -> None:
        """Cancel all tasks with *concurrency_key* when *tx* commits."""
        await connection_of(tx).execute(sql.CANCEL_KEYED, {"key": concurrency_key})

    async def get(self, task_id: UUID) -> Task | None:
        """Return one task, or None."""
        rows = await self._run(sql.LIST + " WHERE id = %(id)s", {"id": task_id})
        return _task(rows[0]) if rows else None

    async def list(self, *, state: TaskState | None, limit: int) -> list[Task]:
        """Return the newest tasks, of one state or of all."""
        where = "" if state is None else " WHERE state = %(state)s"
        rows = await self._run(
            sql.LIST + where + " ORDER BY created_at DESC, id LIMIT %(limit)s",
            {"state": state, "limit": limit},
        )
        return [_task(row) for row in rows]

    async def counts(self) -> dict[TaskState, int]:
        """Count tasks by state; states without tasks are 0."""
        counts = dict.fromkeys(TaskState, 0)
        for state, count in await self._run(sql.COUNTS, {}):
            counts[TaskState(state)] = count
        return counts

    async def _run(
        self, statement: LiteralString, parameters: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        try:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(statement, parameters)
                return await cursor.fetchall() if cursor.description else []
        except UniqueViolation:  # a twin was enqueued while ours went back to the queue
            raise Transient("tasks: raced with a task of the same key", code="claim-race") from None


def _tokens(claims: Sequence[Claim]) -> dict[str, Any]:
    return {
        "ids": [claim.task_id for claim in claims],
        "attempts": [claim.attempt for claim in claims],
        "owners": [claim.owner for claim in claims],
    }


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
