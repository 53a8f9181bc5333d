"""The ledger of tasks on PostgreSQL: claims, beats and settlements in batches, each one statement.

Whoever waits for tasks is told by NOTIFY, or, where there is a dispatch, by *announce*.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, LiteralString
from uuid import UUID

import trio
from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from sercha.adapters.postgres import task_sql as sql
from sercha.adapters.postgres.pool import ConnectionPool
from sercha.adapters.postgres.transaction import connection_of
from sercha.domain.ids import new_id
from sercha.domain.task import (
    PRIORITY_MAX,
    PRIORITY_MIN,
    Claim,
    NewTask,
    Outcome,
    TaskState,
)
from sercha.errors import ClaimLost, Conflict, Transient
from sercha.services.ports import Transaction

CLAIM_TTL = 30.0
"""Seconds that an owner lives without a beat."""
IDLE_IN_PAGE_MAX = 10.0
"""Seconds that a transaction which holds a claim may wait for its client between two statements."""
CLAIM_RACES_MAX = 8
"""How often a claim is tried again after losing a race for a concurrency key."""
REAP_MAX = 500
"""Tasks that one statement takes away from the dead."""
ERROR_CHARS_MAX = 2_000
ABANDONED = "the worker of the attempt died or lost its claim"

Announce = Callable[[Sequence[UUID]], None]
"""Told of tasks that may be claimed from now on; must neither block nor raise."""


class PostgresTaskQueue:
    """`sercha.services.ports.TaskQueue` on one pool."""

    def __init__(
        self,
        pool: ConnectionPool,
        *,
        claim_ttl: float = CLAIM_TTL,
        announce: Announce | None = None,
    ) -> None:
        self._pool = pool
        self.announce = announce
        """Told of tasks that may be claimed; None: PostgreSQL's notices tell."""
        self.claim_ttl = claim_ttl

    async def enqueue(self, tx: Transaction, tasks: Sequence[NewTask]) -> list[UUID]:
        """Add *tasks* when *tx* commits; a queued twin (same dedupe key) is answered instead.

        Raises:
            Conflict: an id of *tasks* was enqueued before (``task-exists``).
        """
        connection = connection_of(tx)
        batch = _Batch.of(tasks)
        try:
            cursor = await connection.execute(*self._insertion(batch))
            ids = batch.ids(await cursor.fetchall() if cursor.description else [])
        except UniqueViolation:
            raise _exists() from None
        if self.announce is not None:
            due, announce = batch.due(ids), self.announce
            tx.after_commit(lambda: announce(due))
        return ids

    async def add(self, tasks: Sequence[NewTask]) -> list[UUID]:
        """Add *tasks* in one statement of its own; as `enqueue` else."""
        batch = _Batch.of(tasks)
        try:
            ids = batch.ids(await self._run(*self._insertion(batch)))
        except UniqueViolation:
            raise _exists() from None
        if self.announce is not None:
            due, announce = batch.due(ids), self.announce
            self._pool.after_commit(lambda: announce(due))
        return ids

    async def register(self, owner: UUID, node_id: UUID) -> None:
        """Let *owner*, a new id, live for the time to the first beat."""
        await self._run(sql.REGISTER, {"owner": owner, "node_id": node_id, "ttl": self.claim_ttl})

    async def beat(self, owner: UUID) -> set[tuple[UUID, int]] | None:
        """Go on living; (task, attempt) of all claims of *owner*, None when it is dead."""
        rows = await self._run(sql.BEAT, {"owner": owner, "ttl": self.claim_ttl})
        return {(row[0], row[1]) for row in rows if row[0] is not None} if rows else None

    async def leave(self, owner: UUID) -> None:
        """Stop living at once."""
        await self._run(sql.LEAVE, {"owner": owner})

    async def claim(
        self, owner: UUID, limit: int, kinds: Collection[str], *, free: int | None = None
    ) -> list[Claim]:
        """Claim due tasks of *kinds*, by priority, due time, id."""
        values = {"limit": limit, "free": limit if free is None else free}
        return await self._claim(sql.CLAIM, owner, kinds, values)

    async def claim_ids(
        self,
        owner: UUID,
        task_ids: Sequence[UUID],
        kinds: Collection[str],
        *,
        free: int | None = None,
    ) -> list[Claim]:
        """Claim those of *task_ids* that may be claimed now."""
        if len(task_ids) == 1 and free != 0:
            return await self._claim(sql.CLAIM_ID, owner, kinds, {"id": task_ids[0]})
        values = {"ids": list(task_ids), "free": len(task_ids) if free is None else free}
        return await self._claim(sql.CLAIM_IDS, owner, kinds, values)

    async def _claim(
        self, statement: LiteralString, owner: UUID, kinds: Collection[str], more: dict[str, Any]
    ) -> list[Claim]:
        """Two workers may race for one concurrency key; the loser of the unique index tries again."""
        parameters = {"owner": owner, "kinds": list(kinds), **more}
        for race in range(CLAIM_RACES_MAX):
            try:
                rows = await self._run(statement, parameters, prepare=True)
            except UniqueViolation:
                await trio.sleep(0.005 * race)
                continue
            return [
                Claim(
                    task_id=row[0],
                    attempt=row[1],
                    owner=owner,
                    kind=row[2],
                    payload=row[3],
                    tries=row[4],
                    tries_max=row[5],
                    is_keyed=row[6],
                    time_limit=row[7],
                )
                for row in rows
            ]
        raise Transient("tasks: lost the race for a concurrency key too often", code="claim-race")

    async def due(self, limit: int, kinds: Collection[str]) -> list[UUID]:
        """Return the first tasks that may be claimed now."""
        rows = await self._run(sql.DUE, {"limit": limit, "kinds": list(kinds)})
        return [row[0] for row in rows]

    async def settle(self, outcomes: Sequence[Outcome]) -> set[UUID]:
        """Record outcomes by (task, owner, attempt); the ids that were accepted."""
        accepted: set[UUID] = set()
        done = [outcome.claim for outcome in outcomes if outcome.error is None]
        if done:
            wakes = self.announce is None and any(claim.is_keyed for claim in done)
            rows = await self._run(sql.COMPLETE, {**_tokens(done), "notify": wakes})
            accepted |= {row[0] for row in rows}
        if failed := [outcome for outcome in outcomes if outcome.error is not None]:
            accepted |= await self._back(
                sql.REQUEUE,
                {
                    **_tokens([outcome.claim for outcome in failed]),
                    "errors": [_storable(outcome.error) for outcome in failed],
                    "delays": [float(outcome.retry_delay) for outcome in failed],
                    "finals": [outcome.is_final for outcome in failed],
                    "refund": 0,
                },
            )
        return accepted

    async def give_back(self, claims: Sequence[Claim]) -> set[UUID]:
        """Return interrupted attempts, uncharged; a queued twin swallows them."""
        return await self._back(sql.REQUEUE, {**_tokens(claims), **_uncharged(len(claims))})

    async def disown(self, owner: UUID, attempts: Sequence[tuple[UUID, int]]) -> int:
        """Give back claims of *owner* that it does not know of, uncharged."""
        tokens = {
            "ids": [task_id for task_id, _ in attempts],
            "attempts": [attempt for _, attempt in attempts],
            "owners": [owner] * len(attempts),
        }
        return len(await self._back(sql.REQUEUE, {**tokens, **_uncharged(len(attempts))}))

    async def _back(self, statement: LiteralString, parameters: dict[str, Any]) -> set[UUID]:
        """Run a statement that takes attempts back, and tell of the tasks that can be claimed therefore."""
        try:
            rows = await self._run(statement, {**parameters, "notify": self.announce is None})
        except UniqueViolation:  # a twin was enqueued while ours went back to the queue
            raise Transient("tasks: raced with a task of the same key", code="claim-race") from None
        if self.announce is not None:
            self.announce([heir for _, heir in rows if heir is not None])
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
        """Give the tasks of dead owners back to the queue, charged; how many there were."""
        await self._run(sql.MARK_DEAD, {})
        parameters = {"error": ABANDONED, "refund": 0, "limit": REAP_MAX}
        count = len(await self._back(sql.REAP, parameters))
        await self._run(sql.FORGET_DEAD, {})
        return count

    async def wake(self) -> None:
        """Wake all workers that listen."""
        await self._run(sql.NOTIFY, {})

    async def release_all(self) -> int:
        """Expire every claim at once: for a starter that knows that no worker lives.

        `sercha up` may say so of its own PostgreSQL, because it holds the data folder's lock.
        """
        await self._run(sql.EXPIRE_ALL, {})
        total = 0
        while count := await self.reap():
            total += count
        return total

    async def cancel_keyed(self, tx: Transaction, concurrency_key: str) -> None:
        """Cancel all tasks with *concurrency_key* when *tx* commits."""
        await connection_of(tx).execute(sql.CANCEL_KEYED, {"key": concurrency_key})

    async def depth(self) -> dict[TaskState, int]:
        """Count what is queued, running and dead, each from an index that has hardly more."""
        ((queued, running, dead),) = await self._run(sql.DEPTH, {})
        return {TaskState.QUEUED: queued, TaskState.RUNNING: running, TaskState.DEAD: dead}

    def _insertion(self, batch: _Batch) -> tuple[LiteralString, dict[str, Any]]:
        notify = self.announce is None
        if batch.is_plain:
            return (sql.ENQUEUE_ONE_NOTIFY if notify else sql.ENQUEUE_ONE), batch.columns
        return batch.statement, {**batch.columns, "notify": notify}

    async def _run(
        self,
        statement: LiteralString,
        parameters: dict[str, Any],
        *,
        prepare: bool | None = None,
    ) -> list[tuple[Any, ...]]:
        """Run a statement of its own; prepared at once, or (None) when it has been run a few times."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement, parameters, prepare=prepare)
            return await cursor.fetchall() if cursor.description else []


class _Batch:
    """Tasks to be added by one statement: those with a dedupe key once, the first that has it."""

    def __init__(self, tasks: Sequence[NewTask], given: list[UUID], distinct: list[int]) -> None:
        self._tasks = tasks
        self._given = given
        """An id for each task."""
        chosen = [(tasks[n], given[n]) for n in distinct]
        self._is_keyed = any(task.dedupe_key is not None for task, _ in chosen)
        self.is_plain = len(chosen) == 1 and not self._is_keyed
        """One task without a dedupe key: `sql.ENQUEUE_ONE`, or the one that notifies."""
        self.statement: LiteralString = sql.ENQUEUE_KEYED if self._is_keyed else sql.ENQUEUE
        self.columns = _row(*chosen[0]) if self.is_plain else _columns(chosen)

    @classmethod
    def of(cls, tasks: Sequence[NewTask]) -> _Batch:
        seen: set[str] = set()
        distinct: list[int] = []
        for n, task in enumerate(tasks):
            assert PRIORITY_MIN <= task.priority <= PRIORITY_MAX, task
            if task.dedupe_key is None or task.dedupe_key not in seen:
                distinct.append(n)
            if task.dedupe_key is not None:
                seen.add(task.dedupe_key)
        return cls(tasks, [task.id or new_id() for task in tasks], distinct)

    def ids(self, rows: Sequence[tuple[Any, ...]]) -> list[UUID]:
        """Return the id under which each task is queued, from what the statement has answered."""
        if not self._is_keyed:
            return self._given
        by_key = {row[1]: row[0] for row in rows if row[1] is not None}
        return [
            given if task.dedupe_key is None else by_key[task.dedupe_key]
            for task, given in zip(self._tasks, self._given, strict=True)
        ]

    def due(self, ids: Sequence[UUID]) -> list[UUID]:
        """Return those of *ids* that may be claimed at once."""
        return [task_id for task, task_id in zip(self._tasks, ids, strict=True) if task.delay <= 0]


def _float(number: float | None) -> float | None:
    return None if number is None else float(number)


def _storable(error: str | None) -> str:
    return (error or "").replace("\0", " ")[:ERROR_CHARS_MAX]


def _uncharged(count: int) -> dict[str, Any]:
    return {
        "errors": [None] * count,
        "delays": [0.0] * count,
        "finals": [False] * count,
        "refund": 1,
    }


def _row(task: NewTask, task_id: UUID) -> dict[str, Any]:
    return {
        "id": task_id,
        "kind": str(task.kind),
        "payload": Jsonb(task.payload),
        "priority": task.priority,
        "delay": float(task.delay),
        "tries_max": task.tries_max,
        "concurrency_key": task.concurrency_key,
        "time_limit": _float(task.time_limit),
    }


def _columns(chosen: Sequence[tuple[NewTask, UUID]]) -> dict[str, Any]:
    return {
        "ids": [task_id for _, task_id in chosen],
        "kinds": [str(task.kind) for task, _ in chosen],
        "payloads": [Jsonb(task.payload) for task, _ in chosen],
        "priorities": [task.priority for task, _ in chosen],
        "delays": [float(task.delay) for task, _ in chosen],
        "tries_max": [task.tries_max for task, _ in chosen],
        "dedupe_keys": [task.dedupe_key for task, _ in chosen],
        "concurrency_keys": [task.concurrency_key for task, _ in chosen],
        "time_limits": [_float(task.time_limit) for task, _ in chosen],
    }


def _exists() -> Conflict:
    return Conflict("tasks: a task with this id was enqueued before", code="task-exists")


def _tokens(claims: Sequence[Claim]) -> dict[str, Any]:
    return {
        "ids": [claim.task_id for claim in claims],
        "attempts": [claim.attempt for claim in claims],
        "owners": [claim.owner for claim in claims],
    }
