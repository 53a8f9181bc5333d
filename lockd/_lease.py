"""A lease that is held: what its body may ask of it, and the states it goes through.

::

    PENDING ──token──▶ HELD ◀──answer───── DOUBTFUL
       │                │ └──no answer──────▶ │
       │                │                     │        (each of the three)
       ├────────────────┴────────┬────────────┘──────── loss ──▶ LOST
       │ body ended, or given up │                                │ may it still be there?
       ▼                         ▼                                ▼ yes               no ▼
    RELEASING ◀──────────────────┘◀───────────────────────────────┘                    ENDED
       └── freed, or somebody else's ──▶ ENDED         └── no answer ──▶ LEFT (to expire)

A loss is for good: nothing leads from LOST back to HELD, whatever answer comes later.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

import trio

from lockd._clock import Clock, Instant
from lockd._errors import FenceRefused, LeaseLost, LossReason
from lockd._observe import EventKind, LeaseEvent, LeaseStatistics, Observer
from lockd._store import LeaseStore
from lockd._terms import Terms, has_passed, later


class LeaseState(StrEnum):
    """Where a lease stands."""

    PENDING = "pending"
    """Granted, but the fence does not name us yet."""
    HELD = "held"
    DOUBTFUL = "doubtful"
    """The last renewal got no answer; trusted until the deadline."""
    LOST = "lost"
    RELEASING = "releasing"
    LEFT = "left"
    """The release got no answer: the lease ends by its TTL."""
    ENDED = "ended"


MOVES: frozenset[tuple[LeaseState, LeaseState]] = frozenset(
    {
        (LeaseState.PENDING, LeaseState.HELD),
        (LeaseState.PENDING, LeaseState.LOST),
        (LeaseState.PENDING, LeaseState.RELEASING),
        (LeaseState.HELD, LeaseState.DOUBTFUL),
        (LeaseState.HELD, LeaseState.LOST),
        (LeaseState.HELD, LeaseState.RELEASING),
        (LeaseState.DOUBTFUL, LeaseState.HELD),
        (LeaseState.DOUBTFUL, LeaseState.LOST),
        (LeaseState.DOUBTFUL, LeaseState.RELEASING),
        (LeaseState.LOST, LeaseState.RELEASING),
        (LeaseState.LOST, LeaseState.ENDED),
        (LeaseState.RELEASING, LeaseState.ENDED),
        (LeaseState.RELEASING, LeaseState.LEFT),
    }
)
"""All moves that there are; a test takes each of them."""

_NOT_THERE = (LossReason.TAKEN, LossReason.GONE)


@dataclass
class _Counters:
    renewals: int = 0
    renew_failures: int = 0
    fence_refusals: int = 0
    renew_seconds_max: float = 0.0


class Lease:
    """The right to act in the name of ``name``; made by `lockd.hold`, usable in its block only.

    Whoever acts calls `check` right before, or better acts inside `fenced`: a process that stood still may run
    one more step after its time is over, and only the fence can stop that step.
    """

    def __init__(
        self,
        store: LeaseStore,
        name: str,
        holder: UUID,
        terms: Terms,
        sent: Instant,
        clock: Clock,
        observe: Observer,
    ) -> None:
        self.name = name
        self.holder = holder
        """Made anew for each acquisition."""
        self.lost = trio.Event()
        """Set when the lease is lost; not by the end of the block."""
        self.scope = trio.CancelScope()
        """Around the body; cancelled by a loss, and by Trio when the trust ends."""
        self.terms = terms
        self.sent = sent
        """When the last request that was granted had been sent."""
        self.loss: LossReason | None = None
        self.state = LeaseState.PENDING
        self.counters = _Counters()
        self._store = store
        self._token: int | None = None
        self._clock = clock
        self._observe = observe
        self._trusted_until = terms.trusted_until(sent)
        self._set_deadline()

    @property
    def token(self) -> int:
        """The fencing token: larger than that of every holder before."""
        assert self._token is not None, "the fence has not been taken"
        return self._token

    @property
    def trusted_until(self) -> Instant:
        """Until when the lease can be relied on without another renewal."""
        return self._trusted_until

    def check(self) -> None:
        """Raise unless the lease may be relied on at this moment; no checkpoint.

        Raises:
            LeaseLost: it was lost, its time is over by either clock, or the block has been left.
        """
        if self.loss is None:
            self.notice_time()
        if self.loss is not None:
            raise LeaseLost(self.name, self.loss)
        if self.state in (LeaseState.RELEASING, LeaseState.LEFT, LeaseState.ENDED):
            raise LeaseLost(self.name, LossReason.RELEASED)

    def remaining(self) -> float:
        """Return the seconds of trust that are left without another renewal; 0 when the lease is lost."""
        if self.loss is not None:
            return 0.0
        now, until = self._clock.now(), self._trusted_until
        return max(0.0, min(until.monotonic - now.monotonic, until.boottime - now.boottime))

    @asynccontextmanager
    async def fenced(self, connection: Any) -> AsyncGenerator[Any]:
        """Open a transaction on *connection* that can commit only while the fence names this lease.

        What *connection* and the value are is the store's affair; for PostgreSQL a `TrioConnection` and its
        transaction. Keep it short, with at most some hundred rows: whoever takes over waits for its end.
        Cancelled inside, it is rolled back.

        Raises:
            LeaseLost: before anything was written. The lease is lost then, also when only the fence said so.
        """
        self.check()
        is_open = False
        try:
            async with self._store.fenced(
                connection, self.name, self.holder, self.token
            ) as transaction:
                is_open = True
                yield transaction
        except FenceRefused:
            if is_open:
                raise  # somebody else's, from inside of the block
            self.counters.fence_refusals += 1
            self.tell(EventKind.FENCE_REFUSED)
            self.lose(LossReason.FENCED)
            raise LeaseLost(self.name, self.loss or LossReason.FENCED) from None

    def statistics(self) -> LeaseStatistics:
        """Return what there is to know at this moment."""
        return LeaseStatistics(
            state=self.state.value,
            token=self._token or 0,
            remaining=self.remaining(),
            renewals=self.counters.renewals,
            renew_failures=self.counters.renew_failures,
            fence_refusals=self.counters.fence_refusals,
            renew_seconds_max=self.counters.renew_seconds_max,
        )

    # What follows is for lockd's own tasks.

    def take_token(self, token: int) -> None:
        """Note that the fence names this lease."""
        self._token = token
        self._move(LeaseState.HELD)

    def extend(self, sent: Instant) -> None:
        """Note a renewal that was sent at *sent* and granted; too late, it is a loss."""
        if self.loss is not None:
            return
        if self.scope.cancel_called or has_passed(self._trusted_until, self._clock.now()):
            self.lose(LossReason.LATE)
            return
        self.sent = sent
        self._trusted_until = later(self._trusted_until, self.terms.trusted_until(sent))
        self._set_deadline()
        if self.state is LeaseState.DOUBTFUL:
            self._move(LeaseState.HELD)

    def doubt(self) -> None:
        """Note that a renewal got no answer."""
        self.counters.renew_failures += 1
        if self.state is LeaseState.HELD:
            self._move(LeaseState.DOUBTFUL)

    def notice_time(self) -> None:
        """Find out whether the time is over; if it is, the lease is lost."""
        now = self._clock.now()
        if has_passed(self._trusted_until, now):
            slept = now.monotonic < self._trusted_until.monotonic
            self.lose(LossReason.SUSPENDED if slept else LossReason.EXPIRED)

    def lose(self, reason: LossReason) -> None:
        """Cancel the body, for good; the first reason stays."""
        if self.loss is not None or self.state in (
            LeaseState.RELEASING,
            LeaseState.LEFT,
            LeaseState.ENDED,
        ):
            return
        self.loss = reason
        self._move(LeaseState.LOST)
        self.scope.cancel(reason=f"lease {self.name!r} lost: {reason}")
        self.lost.set()
        self.tell(EventKind.LOST)

    def end_body(self) -> None:
        """Note that the body has ended; one that ended too late had lost the lease."""
        self.notice_time()
        if self.scope.cancelled_caught:
            self.lose(LossReason.EXPIRED)

    def begin_release(self) -> bool:
        """Say whether the store may still have the lease, so that it is to be freed."""
        if self.loss in _NOT_THERE:
            self._move(LeaseState.ENDED)
            return False
        self._move(LeaseState.RELEASING)
        return True

    def end_release(self, *, is_answered: bool) -> None:
        """Note what became of the release."""
        self._move(LeaseState.ENDED if is_answered else LeaseState.LEFT)

    def tell(
        self, kind: EventKind, *, error: str | None = None, seconds: float | None = None
    ) -> None:
        """Tell the observer."""
        self._observe(
            LeaseEvent(kind, self.name, self.holder, self._token, self.loss, error, seconds)
        )

    def _set_deadline(self) -> None:
        self.scope.deadline = self._clock.deadline(self._trusted_until.monotonic)

    def _move(self, state: LeaseState) -> None:
        assert (self.state, state) in MOVES, f"{self.state} -> {state}"
        self.state = state
