"""The ledger of tasks, and wake-ups."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol
from uuid import UUID

from sercha.domain.task import Claim, NewTask, Outcome, TaskState
from sercha.services.ports.database import Transaction


class TaskQueue(Protocol):
    """The ledger of tasks. (task, owner, attempt) is a claim's token in every call.

    An owner is one life of one worker: it registers, beats, and when it was silent for longer than ``claim_ttl``
    seconds it is dead for ever, its claims with it. A worker that finds itself dead registers under a new id.
    """

    claim_ttl: float
    """Seconds that an owner lives without a beat."""

    async def enqueue(self, tx: Transaction, tasks: Sequence[NewTask]) -> list[UUID]:
        """Add tasks when *tx* commits; a task whose ``dedupe_key`` is queued already gives that one's id."""
        ...

    async def add(self, tasks: Sequence[NewTask]) -> list[UUID]:
        """Add tasks in a transaction of their own, in one statement; else as `enqueue`."""
        ...

    async def register(self, owner: UUID, node_id: UUID) -> None:
        """Let *owner*, a new id, live; what it claims before is not claimed."""
        ...

    async def beat(self, owner: UUID) -> set[tuple[UUID, int]] | None:
        """Go on living, in one statement. Returns (task, attempt) of all claims of *owner*; None: it is dead."""
        ...

    async def leave(self, owner: UUID) -> None:
        """Stop living; claims that are left are taken back by the next `reap`."""
        ...

    async def claim(
        self, owner: UUID, limit: int, kinds: Collection[str], *, free: int | None = None
    ) -> list[Claim]:
        """Claim up to *limit* due tasks of *kinds*, by priority, due time, id; empty when there are none.

        The first *free* of them (None: all) start at once. Those after them may have to wait for a slot, so
        they are only tasks that have never been claimed and have three tries or more: a death before they start
        is charged to them. Fewer than *limit* may be because of that.

        Tasks of other kinds are left to workers that know them: versions may run side by side. Without an
        answer tasks may have been claimed: the next `beat` shows them.
        """
        ...

    async def claim_ids(
        self,
        owner: UUID,
        task_ids: Sequence[UUID],
        kinds: Collection[str],
        *,
        free: int | None = None,
    ) -> list[Claim]:
        """Claim those of *task_ids* that are due, of *kinds* and free, as `claim` does."""
        ...

    async def due(self, limit: int, kinds: Collection[str]) -> list[UUID]:
        """Return the first due tasks in the order of `claim`, claiming nothing."""
        ...

    async def settle(self, outcomes: Sequence[Outcome]) -> set[UUID]:
        """Record how attempts ended; returns the ids that were accepted. A lost claim is left alone."""
        ...

    async def give_back(self, claims: Sequence[Claim]) -> set[UUID]:
        """Return interrupted attempts to the queue, uncharged; merges into a queued twin."""
        ...

    async def disown(self, owner: UUID, attempts: Sequence[tuple[UUID, int]]) -> int:
        """Give back claims of *owner* that it does not know of: their answer was lost."""
        ...

    async def verify(self, tx: Transaction, claim: Claim, *, progressed: bool = False) -> None:
        """Hold the claim's row until *tx* ends; ``progressed`` forgives the tries so far.

        Raises:
            ClaimLost: the claim is no longer ours; *tx* must not commit.
        """
        ...

    async def reap(self) -> int:
        """Give the tasks of dead owners back to the queue (or to the dead letters); how many."""
        ...

    async def wake(self) -> None:
        """Wake all workers that listen to PostgreSQL."""
        ...

    async def cancel_keyed(self, tx: Transaction, concurrency_key: str) -> None:
        """Cancel all tasks with *concurrency_key* when *tx* commits."""
        ...

    async def depth(self) -> dict[TaskState, int]:
        """How many tasks are queued, running and dead."""
        ...


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
