"""Schedules with their slots."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sercha.domain.schedule import Schedule, SlotOutcome
from sercha.domain.source import Source
from sercha.services.ports.database import Transaction


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """A slot with its outcome, or a stretch of slots that share one."""

    schedule_id: UUID
    slot: datetime
    last: datetime
    """The last slot of the stretch; ``slot`` itself where it is one."""
    outcome: SlotOutcome
    task_id: UUID | None = None
    """The task that does its work."""
    token: int | None = None
    """The fencing token of who recorded it; None: without a lease."""
    recorded_at: datetime | None = None
    """None: not yet."""


@dataclass(frozen=True, slots=True)
class DueSchedule:
    """A schedule that is due and locked."""

    schedule: Schedule
    is_resting: bool
    """Its source is paused."""


class ScheduleStore(Protocol):
    """Keeps schedules. What changes ``next_slot`` holds the schedule's row until its transaction ends."""

    async def seconds_to_next(self, kinds: Collection[str]) -> float | None:
        """Return how long until the first slot of a schedule for *kinds*, by the server's clock.

        Negative when it is due; None when there is none to come.
        """
        ...

    async def now(self, tx: Transaction) -> datetime:
        """Tell the server's time."""
        ...

    async def lock_due(
        self, tx: Transaction, limit: int, kinds: Collection[str]
    ) -> tuple[list[DueSchedule], datetime]:
        """Lock up to *limit* schedules for *kinds* that are due, by their slots, and tell the server's time.

        Those that somebody else has locked are passed over.
        """
        ...

    async def lock(self, tx: Transaction, schedule_id: UUID) -> tuple[DueSchedule, datetime] | None:
        """Lock one schedule, waiting for whoever has it; the server's time is read after that."""
        ...

    async def record(
        self, tx: Transaction, records: Sequence[SlotRecord]
    ) -> set[tuple[UUID, datetime]]:
        """Record outcomes, and return the slots that had none before; the others stay as they are."""
        ...

    async def amend(self, tx: Transaction, records: Sequence[SlotRecord]) -> None:
        """Put another outcome and task to slots that were recorded in *tx*."""
        ...

    async def advance(
        self, tx: Transaction, next_slots: Mapping[UUID, datetime | None]
    ) -> None: ...

    async def pause_broken(self, tx: Transaction, reasons: Mapping[UUID, str]) -> None:
        """Pause schedules that cannot be computed."""
        ...

    async def add(self, tx: Transaction, schedule: Schedule) -> None:
        """Add a schedule.

        Raises:
            Conflict: the name is taken (``schedule-exists``).
            Rejected: there is no such source.
        """
        ...

    async def add_default(self, tx: Transaction, source: Source) -> None:
        """Add the schedule that a new source gets from the team's settings."""
        ...

    async def save(self, tx: Transaction, schedule: Schedule) -> None:
        """Write the whole definition and ``next_slot`` of a locked schedule, under the next version.

        Raises:
            Conflict: the name is taken (``schedule-exists``).
        """
        ...

    async def remove(self, tx: Transaction, schedule_id: UUID) -> bool: ...

    async def get(self, schedule_id: UUID) -> Schedule | None: ...

    async def list(
        self, *, source_id: UUID | None = None, name: str | None = None, limit: int, offset: int
    ) -> list[Schedule]:
        """Return schedules by name."""
        ...

    async def count(self, *, source_id: UUID | None = None, name: str | None = None) -> int: ...

    async def slots(self, schedule_id: UUID, *, limit: int, offset: int) -> list[SlotRecord]:
        """Return the latest slots that have an outcome, the newest first."""
        ...

    async def forget_slots(self, *, older_than: float, limit: int) -> int:
        """Remove up to *limit* slots recorded more than *older_than* seconds ago; how many."""
        ...
