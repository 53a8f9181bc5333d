"""Getting a lease: one holder id a round, answers that were lost, and waiting without a herd.

A round asks with one fresh holder id until there is a definite answer. An answer may be lost after the store
carried the request out; the next one then finds our own id there, and the lease is ours from the *first*
request on. Or the request is still being carried out, as a slow commit is: while one is unanswered, "busy" with
nobody as the holder is no answer. A round that ends in any other way frees what it may have taken, under a
shield.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Literal, TypeVar
from uuid import UUID, uuid4

import trio

from lockd._clock import Clock, Instant
from lockd._errors import LeaseTaken, StoreUnreachable
from lockd._keeper import Keeper, free
from lockd._lease import Lease
from lockd._observe import EventKind, LeaseEvent, Observer
from lockd._requests import ask
from lockd._store import Busy, Granted, LeaseStore, Notices
from lockd._terms import Terms

T = TypeVar("T")

FENCE_SECONDS = 10.0
"""How long taking the fence may take: it waits for a fenced transaction of the holder before."""
POLL_SECONDS_MAX = 5.0
"""Longest time between two looks at a lease that somebody else holds."""
HERD_SECONDS = 0.05
"""After a notice the waiters come one after another within this time."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What a contender stands on."""

    store: LeaseStore
    name: str
    terms: Terms
    clock: Clock
    random: Random
    observe: Observer
    bark: Callable[[Lease], None]
    new_holder: Callable[[], UUID] = uuid4


@dataclass(frozen=True, slots=True)
class Won:
    """A lease that is held, with its keeper running."""

    lease: Lease
    keeper: Keeper


async def win(ground: Ground, nursery: trio.Nursery, on_busy: Literal["wait", "raise"]) -> Won:
    """Contend until the lease is held; its keeper runs in *nursery*.

    Cancellation frees what was taken (shielded, bounded).

    Raises:
        LeaseTaken: somebody else holds it, with ``on_busy="raise"``.
        StoreUnreachable: no answer for as long as the TTL.
    """
    listening: AbstractAsyncContextManager[Notices | None] = nullcontext()
    if on_busy == "wait":
        listening = ground.store.notices(ground.name)
    async with listening as notices:
        while True:
            outcome = await _round(ground, nursery)
            if isinstance(outcome, Won):
                return outcome
            if notices is None:
                raise LeaseTaken(ground.name, outcome.holder, outcome.remaining)
            ground.observe(LeaseEvent(EventKind.WAITING, ground.name, outcome.holder))
            await _wait(ground, notices, outcome)


async def _wait(ground: Ground, notices: Notices, busy: Busy) -> None:
    """Wait for a notice, or until the lease may have expired, or until it is time to look again."""
    pause = POLL_SECONDS_MAX
    if busy.remaining is not None:
        pause = min(pause, max(0.0, busy.remaining) + ground.random.random() * 0.5)
    clock = ground.clock
    wake_at = clock.now().monotonic + pause
    with trio.CancelScope(deadline=clock.deadline(wake_at)):
        await notices.wait()
        # Squared, so that few waiters lose little time, and many still come one after another.
        wake_at = clock.now().monotonic + ground.random.random() ** 2 * HERD_SECONDS
    await clock.sleep_until(wake_at)


async def _round(ground: Ground, nursery: trio.Nursery) -> Won | Busy:
    holder = ground.new_holder()
    seen = await _until_answered(ground, partial(ground.store.seen, ground.name))
    won: Won | None = None
    try:
        answer, sent, unanswered = await _acquire(ground, holder, seen.token)
        if isinstance(answer, Busy):
            if unanswered:
                await _undo(ground, holder, None)
            return answer
        won = _keep(ground, holder, sent, nursery)
        token = answer.token
        if token is None:
            token = await _take_fence(ground, holder, seen.token)
        won.lease.notice_time()
        if token is not None and won.lease.loss is None:
            won.lease.take_token(token)
            won.lease.tell(EventKind.ACQUIRED)
            return won
        busy = Busy(None, 0.0)  # somebody was faster at the fence, or it took too long
    except BaseException:
        await _undo(ground, holder, won)
        raise
    await _undo(ground, holder, won)
    return busy


def _keep(ground: Ground, holder: UUID, sent: Instant, nursery: trio.Nursery) -> Won:
    lease = Lease(
        ground.store, ground.name, holder, ground.terms, sent, ground.clock, ground.observe
    )
    keeper = Keeper(ground.store, lease, ground.clock, ground.random, ground.bark)
    nursery.start_soon(keeper.run)
    return Won(lease, keeper)


async def _undo(ground: Ground, holder: UUID, won: Won | None) -> None:
    if won is not None:
        won.keeper.stop()
        await won.keeper.release()
    else:
        await free(ground.store, ground.name, holder, ground.clock)


async def _acquire(ground: Ground, holder: UUID, seen: int) -> tuple[Granted | Busy, Instant, int]:
    """Ask until there is a definite answer.

    Returns it, when the request was sent that it counts from, and how many were not answered.
    """
    clock, ttl = ground.clock, ground.terms.ttl
    sent: list[Instant] = []
    answers = 0

    async def once() -> Granted | Busy:
        sent.append(clock.now())
        return await ground.store.acquire(ground.name, holder, ttl, seen)

    while True:
        answer = await _until_answered(ground, once)
        answers += 1
        unanswered = len(sent) - answers
        if isinstance(answer, Granted):
            return answer, sent[-1], unanswered
        if answer.holder == holder:
            return Granted(answer.token), sent[0], unanswered
        now = clock.now().monotonic
        if not unanswered or answer.holder is not None or now >= sent[0].monotonic + ttl:
            return answer, sent[-1], unanswered
        await clock.sleep_until(now + ground.terms.retry_delay(answers, ground.random.random()))


async def _take_fence(ground: Ground, holder: UUID, seen: int) -> int | None:
    """Move the fence; without an answer read it, since a second move could evict a successor."""
    try:
        return await ask(
            ground.clock, FENCE_SECONDS, partial(ground.store.fence, ground.name, holder, seen)
        )
    except StoreUnreachable as error:
        _note_failure(ground, holder, error)
    row = await _until_answered(ground, partial(ground.store.seen, ground.name))
    return row.token if row.holder == holder else None


async def _until_answered(ground: Ground, request: Callable[[], Awaitable[T]]) -> T:
    """Repeat *request* with pauses until the store answers; for as long as the TTL at most.

    Raises:
        StoreUnreachable: the last one, when the time is over.
    """
    clock, terms = ground.clock, ground.terms
    give_up_at = clock.now().monotonic + terms.ttl
    failures = 0
    while True:
        try:
            return await ask(clock, terms.attempt_timeout, request)
        except StoreUnreachable as error:
            failures += 1
            _note_failure(ground, None, error)
            wake_at = clock.now().monotonic + terms.retry_delay(failures, ground.random.random())
            if wake_at >= give_up_at:
                raise
        await clock.sleep_until(wake_at)


def _note_failure(ground: Ground, holder: UUID | None, error: StoreUnreachable) -> None:
    ground.observe(LeaseEvent(EventKind.STORE_FAILED, ground.name, holder, error=str(error)))
