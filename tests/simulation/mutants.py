"""Broken leases, each with a bug that some other lease really had; the checks must find them all.

A mutant is put over lockd or over the modelled servers for the length of a block; nothing of it is shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid5

import lockd._contender
import lockd._hold
import lockd._keeper
from lockd import Instant, Lease, StoreUnreachable
from lockd._keeper import RELEASE_SECONDS, Keeper
from lockd._requests import ask
from lockd._terms import later

from .database import Database, Fence, Statement
from .lease_server import LeaseServer
from .process import ProcessClock
from .rows import Rows
from .watch import replaced
from .world import World

Mutant = Callable[[], AbstractContextManager[None]]

_NAMESPACE = UUID(int=0)


@contextmanager
def all_replaced(*replacements: tuple[object, str, object]) -> Iterator[None]:
    """Put each value in the place of an attribute of its owner, for the block."""
    with ExitStack() as stack:
        for owner, name, value in replacements:
            stack.enter_context(replaced(owner, name, value))
        yield


def no_fence() -> AbstractContextManager[None]:
    """M1: effects are not checked against the fence (sercha-core)."""
    return all_replaced((Rows, "_is_allowed", lambda *_: True))


def counts_from_the_reply() -> AbstractContextManager[None]:
    """M2: the trust is counted from when the answer came."""
    extend, acquire = Lease.extend, lockd._contender._acquire

    def late_extend(lease: Lease, sent: Instant) -> None:
        extend(lease, lease._clock.now())

    async def late_acquire(ground: Any, *arguments: Any) -> Any:
        answer, _, *others = await acquire(ground, *arguments)
        return answer, ground.clock.now(), *others

    return all_replaced(
        (Lease, "extend", late_extend), (lockd._contender, "_acquire", late_acquire)
    )


def renews_by_name() -> AbstractContextManager[None]:
    """M3: a renewal extends the lease whoever has it (Oban)."""
    return all_replaced(
        (LeaseServer, "_may_renew", lambda *_: True), (Rows, "_may_renew", lambda *_: True)
    )


def believes_through_errors() -> AbstractContextManager[None]:
    """M4: an error of the store is no reason to stop (Oban)."""
    doubt = Lease.doubt

    def trusting_doubt(lease: Lease) -> None:
        doubt(lease)
        until = lease.terms.trusted_until(lease._clock.now())
        lease._trusted_until = later(lease._trusted_until, until)
        lease._set_deadline()

    return all_replaced((Lease, "doubt", trusting_doubt))


def releases_without_compare() -> AbstractContextManager[None]:
    """M5: a release frees the lease whoever has it."""
    return all_replaced(
        (LeaseServer, "_may_release", lambda *_: True), (Rows, "_may_release", lambda *_: True)
    )


def holder_is_the_host() -> AbstractContextManager[None]:
    """M6: all processes of a host have one holder id (oban-py)."""

    def host_holder(world: World, process: Any) -> UUID:
        holder = uuid5(_NAMESPACE, process.node.plan.host)
        world._labels[holder] = process.node.plan.host
        return holder

    return all_replaced((World, "new_holder", host_holder))


def releases_before_the_body_has_ended() -> AbstractContextManager[None]:
    """M7: the lease is freed as soon as it is lost, while the body still runs (client-go)."""
    run = Keeper.run

    async def eager_run(keeper: Keeper) -> None:
        await run(keeper)
        lease = keeper._lease
        if lease.loss is not None:
            await lockd._keeper.free(keeper._store, lease.name, lease.holder, keeper._clock)

    return all_replaced((Keeper, "run", eager_run))


def tells_nobody() -> AbstractContextManager[None]:
    """M8: that a renewal was refused is kept from the body (ShedLock)."""
    lose = Lease.lose

    def silent_lose(lease: Lease, reason: Any) -> None:
        if reason not in lockd._lease._NOT_THERE:
            lose(lease, reason)

    return all_replaced((Lease, "lose", silent_lose))


def forgets_before_the_answer() -> AbstractContextManager[None]:
    """M9: the holder is forgotten when the release begins, so that a cancelled one cannot be repeated (redis-py)."""

    async def forgetful_release(keeper: Keeper) -> None:
        lease = keeper._lease
        if not lease.begin_release():
            return
        held: list[UUID] = [lease.holder]
        is_answered = False
        try:
            request = partial(keeper._store.release, lease.name, held.pop())
            await ask(keeper._clock, RELEASE_SECONDS, request)
            is_answered = True
        except StoreUnreachable:
            pass
        finally:
            if not is_answered and held:
                is_answered = await lockd._keeper.free(
                    keeper._store, lease.name, held[0], keeper._clock
                )
            lease.end_release(is_answered=is_answered)

    return all_replaced((Keeper, "release", forgetful_release))


def releases_in_the_cancelled_scope() -> AbstractContextManager[None]:
    """M15: the release is not shielded from the cancellation that led to it."""

    async def bare_free(store: Any, name: str, holder: UUID, clock: Any) -> bool:
        try:
            await ask(clock, RELEASE_SECONDS, partial(store.release, name, holder))
        except StoreUnreachable:
            return False
        return True

    return all_replaced((lockd._keeper, "free", bare_free), (lockd._contender, "free", bare_free))


def goes_by_the_wall_clock() -> AbstractContextManager[None]:
    """M16: deadlines are on the wall clock."""

    def wall_now(clock: ProcessClock) -> Instant:
        wall = clock._host.wall()
        return Instant(wall, wall)

    def true_time(clock: ProcessClock, reading: float) -> float:
        return (reading - clock._host.wall_offset) / clock._host.rate + 1e-9

    return all_replaced(
        (ProcessClock, "now", wall_now),
        (ProcessClock, "monotonic", lambda clock: clock._host.wall()),
        (ProcessClock, "deadline", true_time),
        (ProcessClock, "true_boottime", true_time),
    )


def takes_any_newer_token() -> AbstractContextManager[None]:
    """M17: the fence lets pass who has its token or a larger one, whoever he is."""

    def is_allowed(_: Rows, fence: Fence, __: UUID, token: int) -> bool:
        return token >= fence.token

    return all_replaced((Rows, "_is_allowed", is_allowed))


def goes_by_the_statements_start() -> AbstractContextManager[None]:
    """M18: expiry is counted by `now()`, which stands still while the statement waits for a lock."""

    def statement_time(_: Database, statement: Statement) -> float:
        return statement.started_at

    return all_replaced((Database, "statement_time", statement_time))


MUTANTS: dict[str, Mutant] = {
    "M1": no_fence,
    "M2": counts_from_the_reply,
    "M3": renews_by_name,
    "M4": believes_through_errors,
    "M5": releases_without_compare,
    "M6": holder_is_the_host,
    "M7": releases_before_the_body_has_ended,
    "M8": tells_nobody,
    "M9": forgets_before_the_answer,
    "M15": releases_in_the_cancelled_scope,
    "M16": goes_by_the_wall_clock,
    "M17": takes_any_newer_token,
    "M18": goes_by_the_statements_start,
}
