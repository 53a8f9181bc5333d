"""Further broken leases, each without one thing that the design has on purpose: the checks must miss none of them."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import trio

import lockd._contender
import lockd._lease
from lockd import Instant, Lease, LeaseState, StoreUnreachable
from lockd._keeper import Keeper
from lockd._requests import ask
from lockd._terms import Terms, later

from .database import Database, Fence
from .mutants import Mutant, all_replaced
from .rows import Rows


def without_margin() -> AbstractContextManager[None]:
    """No time to stop in."""

    def trusted_until(terms: Terms, sent: Instant) -> Instant:
        return sent.after(terms.ttl * (1 - terms.drift))

    return all_replaced((Terms, "trusted_until", trusted_until))


def without_drift() -> AbstractContextManager[None]:
    """Nothing for a server's clock that runs faster."""

    def trusted_until(terms: Terms, sent: Instant) -> Instant:
        return sent.after(terms.ttl - terms.margin)

    return all_replaced((Terms, "trusted_until", trusted_until))


def without_boottime() -> AbstractContextManager[None]:
    """The machine's sleep is not counted."""

    def has_passed(deadline: Instant, now: Instant) -> bool:
        return now.monotonic >= deadline.monotonic

    return all_replaced((lockd._lease, "has_passed", has_passed))


def counts_from_the_last_request() -> AbstractContextManager[None]:
    """A lease that was found to be one's own is counted from the request that found it."""

    acquire = lockd._contender._acquire

    async def last_acquire(ground: Any, *arguments: Any) -> Any:
        store = _Noting(ground)
        answer, _, *others = await acquire(replace(ground, store=store), *arguments)
        return answer, store.sent, *others

    return all_replaced((lockd._contender, "_acquire", last_acquire))


class _Noting:
    """A store that notes when it was last asked for the lease."""

    def __init__(self, ground: Any) -> None:
        self._ground = ground
        self.sent: Instant = ground.clock.now()

    async def acquire(self, *arguments: Any) -> Any:
        self.sent = self._ground.clock.now()
        return await self._ground.store.acquire(*arguments)


def revives() -> AbstractContextManager[None]:
    """A renewal that succeeds too late makes good again what was lost."""

    def extend(lease: Any, sent: Instant) -> None:
        if lease.loss is not None:
            return
        lease.sent = sent
        lease._trusted_until = later(lease._trusted_until, lease.terms.trusted_until(sent))
        lease._set_deadline()
        if lease.state is LeaseState.DOUBTFUL:
            lease._move(LeaseState.HELD)

    return all_replaced((Lease, "extend", extend))


def takes_the_fence_again() -> AbstractContextManager[None]:
    """A move of the fence without an answer is repeated, with the token that is there by then."""

    async def take_fence(ground: Any, holder: UUID, seen: int) -> int | None:
        fence = partial(ground.store.fence, ground.name, holder)
        token: int | None
        try:
            token = await ask(ground.clock, lockd._contender.FENCE_SECONDS, partial(fence, seen))
        except StoreUnreachable:
            read = partial(ground.store.seen, ground.name)
            row = await lockd._contender._until_answered(ground, read)
            again = partial(fence, row.token)
            token = await ask(ground.clock, lockd._contender.FENCE_SECONDS, again)
        return token

    return all_replaced((lockd._contender, "_take_fence", take_fence))


def gives_nothing_back() -> AbstractContextManager[None]:
    """An acquisition that came to nothing keeps what it took."""

    async def undo(_: Any, __: UUID, won: Any) -> None:
        if won is not None:
            won.keeper.stop()
            won.lease.begin_release()

    return all_replaced((lockd._contender, "_undo", undo))


def stops_renewing_when_cancelled() -> AbstractContextManager[None]:
    """A cancellation from outside ends the renewals while the body still cleans up."""
    init = Keeper.__init__

    def bare_init(keeper: Any, *arguments: Any) -> None:
        init(keeper, *arguments)
        keeper._scope = trio.CancelScope()

    return all_replaced((Keeper, "__init__", bare_init))


def ignores_the_timeline() -> AbstractContextManager[None]:
    """Whom a failover brought back may act."""

    def is_allowed(_: Rows, fence: Fence, holder: UUID, token: int) -> bool:
        return (fence.holder, fence.token) == (holder, token)

    return all_replaced((Rows, "_is_allowed", is_allowed))


def locks_nothing() -> AbstractContextManager[None]:
    """The fence moves while a fenced transaction is under way."""
    return all_replaced((Database, "sharers", lambda *_: []))


MORE_MUTANTS: dict[str, Mutant] = {
    "X1": without_margin,
    "X2": without_drift,
    "X3": without_boottime,
    "X4": counts_from_the_last_request,
    "X5": revives,
    "X6": takes_the_fence_again,
    "X7": gives_nothing_back,
    "X8": stops_renewing_when_cancelled,
    "X9": ignores_the_timeline,
    "X10": locks_nothing,
}
