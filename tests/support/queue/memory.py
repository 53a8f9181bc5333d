"""A ledger in memory, on Trio's clock: lives end by it as they do by the server's, so hours take moments."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import trio

from sercha.domain.task import Claim, NewTask, Outcome, TaskState
from sercha.errors import Unavailable


class MemoryQueue:
    """What a worker needs of the port `TaskQueue`; tasks are claimed in the order of their making."""

    def __init__(self, *, claim_ttl: float) -> None:
        self.claim_ttl = claim_ttl
        self.is_away = False
        """Whether each call fails after a second."""
        self.is_silent = False
        """Whether calls get no answer; they fail when it ends."""
        self.beats = 0
        self.refused: list[tuple[UUID, int]] = []
        """Settlements that came too late."""
        self.attempts: dict[UUID, int] = {}
        self.states: dict[UUID, TaskState] = {}
        self._tasks: dict[UUID, NewTask] = {}
        self._owners: dict[UUID, UUID] = {}
        self._expires_at: dict[UUID, float] = {}

    async def add(self, tasks: Sequence[NewTask]) -> list[UUID]:
        ids = [uuid4() for _ in tasks]
        for task_id, task in zip(ids, tasks, strict=True):
            self._tasks[task_id], self.states[task_id] = task, TaskState.QUEUED
            self.attempts[task_id] = 0
        return ids

    async def register(self, owner: UUID, node_id: UUID) -> None:
        await self._answer()
        self._expires_at[owner] = trio.current_time() + self.claim_ttl

    async def beat(self, owner: UUID) -> set[tuple[UUID, int]] | None:
        await self._answer()
        if not self._lives(owner):
            return None
        self.beats += 1
        self._expires_at[owner] = trio.current_time() + self.claim_ttl
        return {(task, self.attempts[task]) for task, by in self._owners.items() if by == owner}

    async def leave(self, owner: UUID) -> None:
        await self._answer()
        self._expires_at[owner] = -math.inf

    async def claim(
        self, owner: UUID, limit: int, kinds: Collection[str], *, free: int | None = None
    ) -> list[Claim]:
        await self._answer()
        queued = [task for task, state in self.states.items() if state is TaskState.QUEUED]
        return [self._claimed(owner, task) for task in queued[:limit]] if self._lives(owner) else []

    def _claimed(self, owner: UUID, task_id: UUID) -> Claim:
        self.states[task_id], self._owners[task_id] = TaskState.RUNNING, owner
        self.attempts[task_id] += 1
        task, attempt = self._tasks[task_id], self.attempts[task_id]
        return Claim(task_id, attempt, owner, task.kind, task.payload, attempt, task.tries_max)

    async def settle(self, outcomes: Sequence[Outcome]) -> set[UUID]:
        await self._answer()
        return {
            outcome.claim.task_id
            for outcome in outcomes
            if self._end(outcome.claim, TaskState.QUEUED if outcome.error else TaskState.COMPLETED)
        }

    async def give_back(self, claims: Sequence[Claim]) -> set[UUID]:
        await self._answer()
        return {claim.task_id for claim in claims if self._end(claim, TaskState.QUEUED)}

    async def disown(self, owner: UUID, attempts: Sequence[tuple[UUID, int]]) -> int:
        raise AssertionError("every answer came, so nothing is unknown")

    def _end(self, claim: Claim, state: TaskState) -> bool:
        is_ours = self._owners.get(claim.task_id) == claim.owner
        if not is_ours or self.attempts[claim.task_id] != claim.attempt:
            self.refused.append((claim.task_id, claim.attempt))
            return False
        del self._owners[claim.task_id]
        self.states[claim.task_id] = state
        return True

    async def reap(self) -> int:
        await self._answer()
        left = [task for task, owner in self._owners.items() if not self._lives(owner)]
        for task in left:
            del self._owners[task]
            self.states[task] = TaskState.QUEUED
        return len(left)

    async def depth(self) -> dict[TaskState, int]:
        states = list(self.states.values())
        return {state: states.count(state) for state in TaskState}

    def _lives(self, owner: UUID) -> bool:
        return trio.current_time() < self._expires_at.get(owner, -math.inf)

    async def _answer(self) -> None:
        await trio.sleep(0.001)
        was_silent = self.is_silent
        while self.is_silent:
            await trio.sleep(1)
        if self.is_away or was_silent:
            await trio.sleep(1)
            raise Unavailable("the ledger is away")


class NoNotices:
    """Notices that never come."""

    @contextmanager
    def subscribe(self, channel: str) -> Iterator[Any]:
        class Silence:
            async def wait(self) -> None:
                await trio.sleep_forever()

        yield Silence()
