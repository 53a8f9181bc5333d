"""The two front doors: `hold` a lease for the length of a block, or `lead` for ever."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Literal, NoReturn, cast

import trio

from lockd._cleanup import bounded_cleanup
from lockd._clock import Clock, SystemClock
from lockd._contender import Ground, Won, win
from lockd._errors import LeaseLost, LossReason, StoreUnreachable
from lockd._lease import Lease
from lockd._observe import EventKind, Observer, ignore
from lockd._store import LeaseStore
from lockd._terms import Terms

OVERRUN_STATUS = 75
"""Exit status of a process that ended itself because a body overran: EX_TEMPFAIL."""
REST_SECONDS = 1.0
"""How long whoever lost or left a lease stays away, at least; up to twice as long."""

OnBusy = Literal["wait", "raise"]
OnOverrun = Literal["log", "exit"]

_log = logging.getLogger("lockd")


@asynccontextmanager
async def hold(
    store: LeaseStore,
    name: str,
    *,
    ttl: float = 60.0,
    on_busy: OnBusy = "wait",
    on_overrun: OnOverrun = "log",
    drift: float = 0.01,
    observe: Observer = ignore,
    clock: Clock | None = None,
    random: Random | None = None,
) -> AsyncGenerator[Lease]:
    """Hold the lease *name* for the block; the block is cancelled when it is lost.

    *ttl* (seconds, at least 1) is how long the store keeps the lease of a holder that fell silent; the block
    is cancelled about ``ttl * drift + min(5, ttl / 12)`` before that. *drift* bounds how much faster the
    server's clock may run than ours. The lease is freed when the block, with everything it started, has ended.

    ``on_busy="wait"`` waits for as long as it takes: put a time limit around it. *on_overrun* is for a block
    that has not ended a margin after it was cancelled (shielded, or computing): ``"log"``, or ``"exit"``, which
    ends the process with status 75. *clock* and *random* are for simulations.

    Cancelled while it waits or acquires, nothing stays taken but by an answer that was lost, for one TTL at
    most. Cancelled in the block, the lease is kept until the block has ended, then freed.

    Raises:
        LeaseTaken: somebody else holds it, with ``on_busy="raise"``.
        LeaseLost: from the end of the block, never inside a group: the lease was lost meanwhile. Errors of the
            block itself come before it, an outer cancellation too.
        StoreUnreachable: no answer for as long as *ttl* while acquiring.
        ValueError: *ttl* or *drift* is out of bounds.
    """
    ground = Ground(
        store=store,
        name=name,
        terms=Terms(ttl, drift),
        clock=clock or SystemClock(),
        random=random or Random(),
        observe=observe,
        bark=_Bark(on_overrun),
    )
    won: Won | None = None
    error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            won = await win(ground, nursery, on_busy)
            with won.lease.scope, bounded_cleanup(ground.terms.cleanup):
                yield won.lease
        except BaseException as caught:  # noqa: ASYNC103, BLE001  # raised again below, outside
            error = caught
        if won is not None:
            won.lease.end_body()
            won.keeper.stop()
    if won is not None:
        await won.keeper.release()
        _raise_loss(won.lease, error)
    if error is not None:
        raise error


async def lead(
    store: LeaseStore,
    name: str,
    run: Callable[[Lease], Awaitable[object]],
    *,
    ttl: float = 60.0,
    on_overrun: OnOverrun = "log",
    drift: float = 0.01,
    observe: Observer = ignore,
    clock: Clock | None = None,
    random: Random | None = None,
) -> NoReturn:
    """Hold the lease again and again, and call *run* with it each time.

    After *run* has ended or the lease was lost, it rests for a second or two, so that others have a chance. A
    store that does not answer is asked again, for ever. Ends only by cancellation, or by an error of *run*.
    """
    clock, random = clock or SystemClock(), random or Random()
    while True:
        try:
            async with hold(
                store,
                name,
                ttl=ttl,
                on_overrun=on_overrun,
                drift=drift,
                observe=observe,
                clock=clock,
                random=random,
            ) as lease:
                await run(lease)
        except (LeaseLost, StoreUnreachable) as error:
            _log.info("%s", error)
        await clock.sleep_until(clock.now().monotonic + REST_SECONDS * (1 + random.random()))


def _raise_loss(lease: Lease, error: BaseException | None) -> None:
    """Raise `LeaseLost` if that is what the block ended by; beside an outer cancellation, that one alone."""
    if error is None:
        if lease.loss is not None:
            raise LeaseLost(lease.name, lease.loss)
    elif isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        losses, rest = group.split(
            lambda leaf: isinstance(leaf, LeaseLost) and leaf.name == lease.name
        )
        if losses is None:
            return
        if rest is None:
            raise LeaseLost(lease.name, lease.loss or LossReason.RELEASED) from group
        if rest.split(Exception)[0] is None:  # nothing but the cancellation
            raise cast("BaseException", rest) from None


class _Bark:
    """What happens when a body overruns; called in the watchdog's thread."""

    def __init__(self, on_overrun: OnOverrun) -> None:
        assert on_overrun in ("log", "exit")
        self._on_overrun = on_overrun

    def __call__(self, lease: Lease) -> None:
        lease.tell(EventKind.OVERRAN)
        _log.critical("the work under lease %r has not ended in time", lease.name)
        if self._on_overrun == "exit":
            logging.shutdown()
            os._exit(OVERRUN_STATUS)
