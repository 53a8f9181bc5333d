"""The arithmetic of trust: pure, without clocks, tasks or stores.

::

    sent                                        trusted until      D + margin        key may expire
     │───────── T/3 ──────────┤ renewal               │                │                  │
     t0 ──────────────────────────────────────────────D────────────────┼──────────────────t0 + T
                                                      └─ scope cancelled └─ overrun: the body must have ended

The server counts the TTL from when it carried out the request, which is after ``t0``, the reading of our clock
just before the request was queued. So by a server's clock that runs at most ``drift`` faster than ours the key
lives at least until ``t0 + T * (1 - drift)`` on our clock, and the scope is cancelled ``margin`` earlier. The
same arithmetic, with flags in place of scopes, is in River (since its pull request 1213, 2026).
"""

from __future__ import annotations

from dataclasses import dataclass

from lockd._clock import Instant

TTL_MIN = 1.0
"""Seconds; below, the margins are of the size of a scheduler's hiccup."""
MARGIN_MAX = 5.0
RETRY_BASE = 0.2
RETRY_CAP = 2.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What a holder may rely on, for one TTL. All times are seconds."""

    ttl: float
    """How long the store keeps the lease after it carried out a request."""
    drift: float = 0.01
    """Bound on how much faster the server's clock runs than ours, as a ratio less one."""

    def __post_init__(self) -> None:
        if not TTL_MIN <= self.ttl < float("inf"):
            raise ValueError(f"ttl must be at least {TTL_MIN:g} s, not {self.ttl:g}")
        if not 0 <= self.drift <= 0.1:
            raise ValueError(f"drift must be between 0 and 0.1, not {self.drift:g}")
        # Three attempts that fail slowly, and the end of the scope, must fit into the TTL.
        assert self.ttl * (1 - self.drift) > 3 * (self.margin + self.attempt_timeout)

    @property
    def margin(self) -> float:
        """Time to stop in: longer than the longest step between two checkpoints and the clean-up."""
        return min(MARGIN_MAX, self.ttl / 12)

    @property
    def cleanup(self) -> float:
        """How long a connection may clean up under a shield: half of the margin, so that the body ends within it."""
        return self.margin / 2

    @property
    def attempt_timeout(self) -> float:
        """How long one request to the store may take."""
        return min(MARGIN_MAX, self.ttl / 12)

    @property
    def tick(self) -> float:
        """How often the clock that counts sleep is looked at."""
        return min(1.0, self.margin)

    def trusted_until(self, sent: Instant) -> Instant:
        """Return until when a request sent at *sent* and granted can be relied on: ``D``."""
        return sent.after(self.ttl * (1 - self.drift) - self.margin)

    def overrun_at(self, trusted_until: Instant) -> Instant:
        """Return when a body that was cancelled at *trusted_until* must have ended."""
        return trusted_until.after(self.margin)

    def renew_at(self, sent: Instant, spread: float) -> float:
        """Return when to renew, on the monotonic clock; *spread* in [0, 1) moves it by up to 10 % each way."""
        return sent.monotonic + self.ttl / 3 * (0.9 + 0.2 * spread)

    def retry_delay(self, failures: int, spread: float) -> float:
        """Return how long to wait after *failures* failed requests in a row: doubled, capped, halved at random."""
        scale = min(1.0, self.ttl / 60)
        longest = min(RETRY_CAP, RETRY_BASE * 2.0 ** min(failures - 1, 10)) * max(scale, 0.1)
        return longest * (0.5 + 0.5 * spread)


def has_passed(deadline: Instant, now: Instant) -> bool:
    """Say whether either clock has reached *deadline*."""
    return now.monotonic >= deadline.monotonic or now.boottime >= deadline.boottime


def later(one: Instant, other: Instant) -> Instant:
    """Return the later of two moments, on each clock by itself."""
    return Instant(max(one.monotonic, other.monotonic), max(one.boottime, other.boottime))
