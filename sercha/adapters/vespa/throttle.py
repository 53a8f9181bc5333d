"""How many writes are under way at a time: more while all goes well, fewer when the server says that it is too many.

Additive increase and multiplicative decrease, as in TCP (Chiu and Jain, 1989), with the steps of Vespa's own feed
clients: a tenth of a write more for each success, half of what is under way at an overload.
"""

from __future__ import annotations

import trio

INCREASE = 0.1
DECREASE = 0.5


class Throttle:
    """Permission for one write per task; at least *low*, at most *high* at once."""

    def __init__(self, low: int, high: int) -> None:
        assert 1 <= low <= high
        self._low, self._high = float(low), float(high)
        self._target = float(low)
        self.slots = trio.CapacityLimiter(low)
        """To be held while a write is under way: ``async with throttle.slots``."""

    def note_success(self) -> None:
        """Allow a little more."""
        self._aim(self._target + INCREASE)

    def note_overload(self) -> None:
        """Allow half of what is under way now; many answers to one overload count as one."""
        self._aim(min(self._target, self.slots.borrowed_tokens * DECREASE))

    def _aim(self, target: float) -> None:
        self._target = min(self._high, max(self._low, target))
        self.slots.total_tokens = int(self._target)
