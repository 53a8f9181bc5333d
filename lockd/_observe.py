"""What lockd tells its host: events for logs and metrics, and statistics on demand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from lockd._errors import LossReason


class EventKind(StrEnum):
    """What happened."""

    WAITING = "lease.waiting"
    """Somebody else holds it; once for each attempt that found it so."""
    ACQUIRED = "lease.acquired"
    RENEWED = "lease.renewed"
    RENEW_FAILED = "lease.renew_failed"
    """A renewal got no answer; it is tried again inside the deadline."""
    STORE_FAILED = "lease.store_failed"
    """Another request got no answer."""
    LOST = "lease.lost"
    FENCE_REFUSED = "lease.fence_refused"
    """A stale actor was stopped by the fence; always worth an alert."""
    OVERRAN = "lease.overran"
    """The body had not ended a margin after it was cancelled. Told from a thread."""
    RELEASED = "lease.released"
    RELEASE_FAILED = "lease.release_failed"
    """No answer to the release: the lease is left to expire."""


@dataclass(frozen=True, slots=True)
class LeaseEvent:
    """One event of one lease."""

    kind: EventKind
    name: str
    holder: UUID | None = None
    token: int | None = None
    reason: LossReason | None = None
    error: str | None = None
    seconds: float | None = None
    """How long the request took, where there was one."""


Observer = Callable[[LeaseEvent], None]
"""Called in the event loop, except for `EventKind.OVERRAN`. Must be quick and must not raise."""


def ignore(_: LeaseEvent) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class LeaseStatistics:
    """One lease at one moment."""

    state: str
    token: int
    remaining: float
    """Seconds of trust left; 0 when it is lost."""
    renewals: int
    renew_failures: int
    """Renewals without an answer, in all."""
    fence_refusals: int
    renew_seconds_max: float
    """The slowest renewal that was answered."""
