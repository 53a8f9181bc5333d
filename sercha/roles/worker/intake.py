"""Getting claims: from the dispatch while it is usable, else from the ledger alone.

The dispatch only says which tasks to look at; the ledger decides. So whatever happens to the dispatch costs
time and no task: while it is away the ledger is asked for due tasks, on notice and every second.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from math import inf
from random import Random
from uuid import UUID

import structlog
import trio

from sercha.domain.task import Claim
from sercha.errors import SerchaError, Unavailable
from sercha.roles.worker.desk import Desk
from sercha.roles.worker.heart import Heart
from sercha.roles.worker.relay import Confirmer, Relay
from sercha.roles.worker.settler import Settler
from sercha.services.backoff import Backoff
from sercha.services.ports import Delivery, Dispatch, Notices, Subscription, TaskQueue
from sercha.services.waiting import until_any
from sercha.telemetry import metrics

CHANNEL = "sercha_task"
RECEIVE_WAIT = 3.0
"""Seconds of one wait on the dispatch."""
AWAY_POLL = 1.0
"""Seconds between looks into the ledger while the dispatch is away: not everybody's enqueuing is noticed."""
HOARD_SECONDS = 1.0
"""How long a claim may wait for a slot before it is given back for others."""

_log = structlog.get_logger()


class Intake:
    """Keeps the desk filled until it is told to stop."""

    def __init__(
        self,
        queue: TaskQueue,
        desk: Desk,
        heart: Heart,
        settler: Settler,
        notices: Notices,
        kinds: Collection[str],
        *,
        poll_interval: float,
        dispatch: Dispatch | None = None,
        relay: Relay | None = None,
        confirmer: Confirmer | None = None,
        random: Random | None = None,
    ) -> None:
        self._queue = queue
        self._desk = desk
        self._heart = heart
        self._settler = settler
        self._notices = notices
        self._kinds = kinds
        self._dispatch = dispatch
        self._relay = relay
        self._confirmer = confirmer
        self._random = random or Random()
        self._stopping = trio.Event()
        self._backoff = Backoff(base=0.2, cap=10.0)
        self._receiving: trio.CancelScope | None = None
        self._undecided: list[Delivery] = []
        """Taken from the dispatch, and not decided by the ledger yet."""
        self._needs_slot = False
        """The ledger has kept something back: perhaps tasks that are claimed for a free slot only."""
        self.poll_interval = poll_interval
        self.dispatch_error: str | None = None
        """Why the dispatch is not used at present."""

    def stop(self) -> None:
        """Take nothing more; a claim under way is still taken in. No checkpoint."""
        self._stopping.set()
        if self._receiving is not None:
            self._receiving.cancel("the worker drains")

    async def run(self) -> None:
        """Claim until stopped. Cancelled, a claim may be under way: its tasks come back by our death."""
        if self._dispatch is None or self._confirmer is None or self._relay is None:
            await self._by_ledger(inf, self.poll_interval)
            return
        await self._by_dispatch(self._dispatch, self._confirmer, self._relay)
        if self._undecided:  # others must not wait until we are known to be dead
            self._confirmer.add(self._undecided)

    async def _by_dispatch(self, dispatch: Dispatch, confirmer: Confirmer, relay: Relay) -> None:
        backoff = Backoff(base=0.2, cap=5.0)
        while not self._stopping.is_set():
            try:
                await dispatch.open()
                self._undecided = []  # what we still have comes again
                await relay.recover()
                confirmer.has_failed = False
                if self.dispatch_error is not None:
                    _log.info("dispatch.recovered")
                self.dispatch_error = None
                while not (self._stopping.is_set() or confirmer.has_failed or relay.error):
                    await self._take(dispatch, confirmer)
                    backoff.reset()
                if relay.error:
                    raise relay.error
            except Unavailable as error:
                if self.dispatch_error is None:
                    _log.warning("dispatch.lost", error=error.message)
                self.dispatch_error = error.message
                await self._by_ledger(trio.current_time() + backoff.next(), AWAY_POLL)

    async def _take(self, dispatch: Dispatch, confirmer: Confirmer) -> None:
        """Take entries, claim their tasks, and let the entries go that the ledger has decided about."""
        room = await self._room(inf)
        if not room:
            return
        if not self._undecided:
            with trio.CancelScope() as self._receiving:
                self._undecided = await dispatch.receive(room, wait=RECEIVE_WAIT)
            self._receiving = None
            if not self._undecided:
                return
        ids, free = [delivery.task_id for delivery in self._undecided], self._desk.free
        claims = await self._claim(
            lambda owner: self._queue.claim_ids(owner, ids, self._kinds, free=free)
        )
        if claims is None:
            return
        if len(claims) == len(ids) or free > len(claims):
            # What was not claimed is gone, or not to be claimed now: there was a slot for it.
            decided, self._undecided = self._undecided, []
        else:
            claimed = {claim.task_id for claim in claims}
            decided = [each for each in self._undecided if each.task_id in claimed]
            self._undecided = [each for each in self._undecided if each.task_id not in claimed]
        confirmer.add(decided)
        self._needs_slot = bool(self._undecided)

    async def _by_ledger(self, until: float, interval: float) -> None:
        """Claim from the ledger until the time *until*, on notice and about every *interval* seconds."""
        with self._notices.subscribe(CHANNEL) as subscription:
            while not self._stopping.is_set() and trio.current_time() < until:
                room = await self._room(until)
                if not room:
                    continue
                free = self._desk.free
                claims = await self._claim(
                    lambda owner, room=room, free=free: self._queue.claim(
                        owner, room, self._kinds, free=free
                    )
                )
                if claims is None:
                    continue
                self._needs_slot = len(claims) < room and len(claims) >= free
                if len(claims) < room and not self._needs_slot:
                    await self._pause(min(interval, self.poll_interval), until, subscription)

    async def _pause(self, interval: float, until: float, subscription: Subscription) -> None:
        seconds = interval * self._random.uniform(0.8, 1.2)
        seconds = min(seconds, max(0.0, until - trio.current_time()))
        await until_any(seconds, self._stopping, subscription)

    async def _room(self, until: float) -> int:
        """Return how many claims are wanted, as soon as it is some; 0 when stopped, or after *until*."""
        while not (room := self._desk.room()) or (self._needs_slot and not self._desk.free):
            patience = HOARD_SECONDS if self._desk.waiting else inf
            seconds = min(patience, max(0.0, until - trio.current_time()))
            await until_any(seconds, self._stopping, self._desk.freed)
            if self._stopping.is_set() or trio.current_time() >= until:
                return 0
            for held in self._desk.take_waiting(older_than=HOARD_SECONDS):
                self._settler.give_back(held)  # a long task came in between
        return room

    async def _claim(self, call: Callable[[UUID], Awaitable[list[Claim]]]) -> list[Claim] | None:
        """Claim and take the claims in; None after an error, when a pause has been made."""
        owner = await self._heart.wait_until_alive()
        try:
            with trio.move_on_after(self._queue.claim_ttl / 4):
                claims = await call(owner)
                self._backoff.reset()
                if self._heart.owner == owner:
                    self._desk.put(claims)
                return claims
            error = "no answer in time"
        except SerchaError as failure:
            error = failure.message
        metrics.DB_RETRIES.inc()
        delay = self._backoff.next()
        _log.warning("worker.claim_failed", error=error, retry_in=round(delay, 1))
        await until_any(delay, self._stopping)
        return None
