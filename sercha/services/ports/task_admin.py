"""Looking at tasks, and putting one back or away by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from sercha.domain.task import Task, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks to list; what is None does not matter."""

    state: TaskState | None = None
    kind: str | None = None
    source_id: UUID | None = None
    """Only tasks of this source."""
    before: UUID | None = None
    """Only tasks that were made before this one: the last of the former page."""


class TaskAdmin(Protocol):
    """The ledger as administrators see it."""

    async def list(self, chosen: TaskFilter, *, limit: int) -> list[Task]:
        """Return the newest *limit* tasks of those *chosen*."""
        ...

    async def get(self, task_id: UUID) -> Task | None: ...

    async def counts(self) -> dict[TaskState, int]:
        """How many tasks there are in each state."""
        ...

    async def retry(self, task_id: UUID) -> UUID:
        """Put a dead or cancelled task back into the queue, due at once, with all its tries.

        Where a task with the same dedupe key waits already, nothing changes. Returns the id of the one that
        waits. A sync that is retried begins anew.

        Raises:
            NotFound: there is no such task.
            Conflict: it is in another state (``task-state``).
            Transient: others enqueued and ended twins of it all the time (``claim-race``).
        """
        ...

    async def cancel(self, task_id: UUID) -> None:
        """Cancel a queued or running task; what a running one has committed stays.

        Raises:
            NotFound: there is no such task.
            Conflict: it has ended (``task-state``).
            Transient: it was claimed and given back all the time (``claim-race``).
        """
        ...
