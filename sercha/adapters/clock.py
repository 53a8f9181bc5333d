"""Wall time from the machine."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """`sercha.services.ports.Clock` by the machine's clock."""

    def now(self) -> datetime:
        """Return the current time in UTC."""
        return datetime.now(UTC)
