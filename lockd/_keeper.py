"""Keeping a granted lease: renew it, watch both clocks, and free it at the end.

The keeper's tasks run under a shield, ended only by `Keeper.stop`: when the world around the body is cancelled,
the body may still need a while to come to its end, and until then the lease must live. They run in the same
event loop as the body, on purpose: a loop that hangs must lose its leases.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from uuid import UUID

import trio

from lockd._clock import Clock
from lockd._errors import LossReason, StoreUnreachable
from lockd._lease import Lease
from lockd._observe import EventKind
from lockd._requests import ask
from lockd._store import LeaseStore, Renewal

RELEASE_SECONDS = 2.0
"""How long a release may take, under a shield; then the lease is left to expire."""


class Keeper:
    """The tasks behind one lease."""

    def __init__(
        self,
        store: LeaseStore,
        lease: Lease,
        clock: Clock,
        random: Random,
        bark: Callable[[Lease], None],
    ) -> None:
        self._store = store
        self._lease = lease
        self._clock = clock
        self._random = random
        self._scope = trio.CancelScope(shield=True)
        self._watchdog = clock.watchdog(partial(bark, lease))

    async def run(self) -> None:
        """Keep the lease until it is lost or `stop` is called."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tick)
                await self._renew_until_lost()

    def stop(self) -> None:
        """Renew no more and watch no more: the body has ended."""
        self._scope.cancel()
        self._watchdog.stop()

    async def release(self) -> None:
        """Free the lease, also in a cancelled scope, if it may still be there. The body has ended."""
        lease = self._lease
        if not lease.begin_release():
            return
        is_answered = await free(self._store, lease.name, lease.holder, self._clock)
        lease.end_release(is_answered=is_answered)
        lease.tell(EventKind.RELEASED if is_answered else EventKind.RELEASE_FAILED)

    async def _renew_until_lost(self) -> None:
        lease, failures = self._lease, 0
        self._watch()
        while lease.loss is None:
            if failures == 0:
                wake_at = lease.terms.renew_at(lease.sent, self._random.random())
            else:
                delay = lease.terms.retry_delay(failures, self._random.random())
                wake_at = self._clock.now().monotonic + delay
            await self._clock.sleep_until(wake_at)
            failures = 0 if await self._renew() else failures + 1

    async def _renew(self) -> bool:
        """Renew once; False when there was no answer."""
        lease = self._lease
        lease.notice_time()
        if lease.loss is not None:
            return True
        sent = self._clock.now()
        limit = min(lease.terms.attempt_timeout, lease.trusted_until.monotonic - sent.monotonic)
        request = partial(self._store.renew, lease.name, lease.holder, lease.terms.ttl)
        try:
            answer = await ask(self._clock, limit, request)
        except StoreUnreachable as error:
            lease.doubt()
            lease.tell(EventKind.RENEW_FAILED, error=str(error))
            return False
        seconds = self._clock.now().monotonic - sent.monotonic
        match answer:
            case Renewal.RENEWED:
                lease.extend(sent)
                if lease.loss is None:
                    lease.counters.renewals += 1
                    lease.counters.renew_seconds_max = max(
                        lease.counters.renew_seconds_max, seconds
                    )
                    self._watch()
                    lease.tell(EventKind.RENEWED, seconds=seconds)
            case Renewal.TAKEN:
                lease.lose(LossReason.TAKEN)
            case Renewal.GONE:
                lease.lose(LossReason.GONE)
        return True

    async def _tick(self) -> None:
        """Notice the end of trust, and that the machine slept; Trio's deadline cannot see the second."""
        while self._lease.loss is None:
            now = self._clock.now().monotonic
            until = self._lease.trusted_until.monotonic
            tick = now + self._lease.terms.tick
            await self._clock.sleep_until(min(tick, until) if until > now else tick)
            self._lease.notice_time()

    def _watch(self) -> None:
        terms = self._lease.terms
        self._watchdog.watch(terms.overrun_at(self._lease.trusted_until))


async def free(store: LeaseStore, name: str, holder: UUID, clock: Clock) -> bool:
    """Compare and delete under a shield, in `RELEASE_SECONDS` at most; whether there was an answer."""
    with trio.CancelScope(shield=True):
        try:
            await ask(clock, RELEASE_SECONDS, partial(store.release, name, holder))
        except StoreUnreachable:
            return False
    return True
