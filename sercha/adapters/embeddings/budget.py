"""How often an endpoint may be asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

import trio

BURST_SECONDS = 2.0
"""What was not asked in this time may be asked at once."""


class RequestBudget:
    """A token bucket of requests per minute, and pauses that the endpoint asked for."""

    def __init__(self, per_minute: int | None = None) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next_at = 0.0
        """The instant of Trio's clock to which the requests so far have used the budget up."""

    @property
    def wait(self) -> float:
        """Seconds until the next request may be sent."""
        return max(0.0, self._next_at - trio.current_time())

    def take(self) -> None:
        """Count one request that is sent now."""
        earliest = trio.current_time() - BURST_SECONDS
        self._next_at = max(self._next_at, earliest) + self._gap

    def pause(self, seconds: float) -> None:
        """Send nothing for *seconds*."""
        self._next_at = max(self._next_at, trio.current_time() + seconds)


def read_retry_after(header: str | None, now: Callable[[], float]) -> float | None:
    """Return the seconds that ``Retry-After`` asks for, as a number or as a date; None: neither."""
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    try:
        instant = parsedate_to_datetime(header)
    except ValueError:
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return max(0.0, instant.timestamp() - now())
