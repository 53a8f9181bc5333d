"""The ledger of tasks, and wake-ups."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import UUID

from sercha.domain.task import Claim, NewTask, Outcome, Task, TaskKind, TaskState
from sercha.services.ports.database import Transaction


class TaskQueue(Protocol):
    """The ledger of tasks. (task, owner, attempt) is a claim's token in every call."""

    async def enqueue(self, tx: Transaction, tasks: Sequence[NewTask]) -> list[UUID]:
        """Add tasks when *tx* commits; a task whose ``dedupe_key`` is queued already gives that one's id."""
        ...

    async def claim(self, owner: UUID, limit: int, kinds: Collection[TaskKind]) -> list[Claim]:
        """Claim up to *limit* due tasks of *kinds*, by priority, due time, id; empty when there are none.

        Tasks of other kinds are left to workers that know them: versions may run side by side.
        """
        ...

    async def beat(self, owner: UUID, claims: Sequence[Claim]) -> set[tuple[UUID, int]]:
        """Extend claims in one statement; returns (task, attempt) of those that are still ours."""
        ...

    async def settle(self, outcomes: Sequence[Outcome]) -> set[UUID]:
        """Record how attempts ended; returns the ids that were accepted. A lost claim is left alone."""
        ...

    async def give_back(self, claims: Sequence[Claim]) -> set[UUID]:
        """Return interrupted attempts to the queue, uncharged; merges into a queued twin."""
        ...

    async def verify(self, tx: Transaction, claim: Claim, *, progressed: bool = False) -> None:
        """Hold the claim's row until *tx* ends; ``progressed`` forgives the tries so far.

        Raises:
            ClaimLost: the claim is no longer ours; *tx* must not commit.
        """
        ...

    async def reap(self) -> int:
        """Give the tasks of dead workers back to the queue (or to the dead letters); how many."""
        ...

    async def cancel_keyed(self, tx: Transaction, concurrency_key: str) -> None:
        """Cancel all tasks with *concurrency_key* when *tx* commits."""
        ...

    async def get(self, task_id: UUID) -> Task | None: ...

    async def list(self, *, state: TaskState | None, limit: int) -> list[Task]: ...

    async def counts(self) -> dict[TaskState, int]: ...


class Subscription(Protocol):
    """One listener's view of a channel."""

    async def wait(self) -> None:
        """Return at once when a notice came since the last return, else when the next one comes.

        Also returns after the listening connection was lost and is back: something may have been missed.
        """
        ...


class Notices(Protocol):
    """Wake-ups from PostgreSQL (LISTEN/NOTIFY). A notice may be missed: poll as well."""

    def subscribe(self, channel: str) -> AbstractContextManager[Subscription]:
        """Count notices on *channel* from now on."""
        ...
