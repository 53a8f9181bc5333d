"""Slows down guessing of passwords: after some failures in a row an address must wait, longer each time.

Kept in this process alone; with several API processes a guesser gets as many times the tries.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import trio

from sercha.errors import Transient

FREE_FAILURES = 5
"""Failures in a row that cost nothing: people mistype."""
WAIT_BASE = 1.0
WAIT_CAP = 30.0
"""Seconds; low, since anybody can make the wait of somebody else's address grow."""
ADDRESSES_MAX = 10_000


@dataclass(slots=True)
class _Record:
    failures: int
    next_at: float
    """Trio's clock."""


class LoginAttempts:
    """Failed log-ins by email."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def check(self, email: str) -> None:
        """Let an attempt pass.

        Raises:
            Transient: too early (``too-many-attempts``), with the seconds to wait.
        """
        record = self._records.get(email)
        wait = record.next_at - trio.current_time() if record else 0.0
        if wait > 0:
            raise Transient(
                "too many failed log-ins for this email: wait a little",
                code="too-many-attempts",
                retry_after=wait,
            )

    def fail(self, email: str) -> None:
        """Count a failure; the record longest untouched is forgotten when there are too many."""
        record = self._records.setdefault(email, _Record(0, 0.0))
        record.failures += 1
        exponent = record.failures - FREE_FAILURES
        if exponent >= 0:
            wait = min(WAIT_CAP, WAIT_BASE * 2.0 ** min(exponent, 10))
            record.next_at = trio.current_time() + wait
        self._records.move_to_end(email)
        while len(self._records) > ADDRESSES_MAX:
            self._records.popitem(last=False)

    def succeed(self, email: str) -> None:
        """Forget the failures."""
        self._records.pop(email, None)
