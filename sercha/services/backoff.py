"""How long to wait before the next try: exponential, capped, jittered."""

from __future__ import annotations

from random import Random


class Backoff:
    """Delays for one series of failures: base, doubled each time, at most *cap* seconds.

    Each delay is drawn from the upper half of its range ("equal jitter"), so that processes which failed
    together do not come back together, and none comes back at once.
    """

    def __init__(self, *, base: float, cap: float, random: Random | None = None) -> None:
        self._base = base
        self._cap = cap
        self._random = random or Random()
        self.failures = 0

    def next(self) -> float:
        """Return the delay in seconds after one more failure."""
        delay = min(self._cap, self._base * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return delay * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin anew after a success."""
        self.failures = 0
