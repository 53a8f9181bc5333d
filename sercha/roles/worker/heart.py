"""The worker's life in the ledger: it beats, learns what is its own, and knows when to stop believing.

Trust is counted from before a beat is sent, so it ends before the ledger can give a claim away, whatever became
of the answer. A worker whose time is over lives on under a new name; what it held is lost.
"""

from __future__ import annotations

import time
from uuid import UUID, uuid4

import structlog
import trio

from sercha.errors import SerchaError
from sercha.roles.worker.desk import Desk, Key
from sercha.services.backoff import Backoff
from sercha.services.ports import TaskQueue
from sercha.services.waiting import until_any
from sercha.telemetry import metrics

CLOCK_DRIFT = 0.01
"""Bound on the ratio of the server's clock rate to ours, less one."""
LEAVE_TIMEOUT = 2.0
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts while the machine sleeps, which Trio's clock does not on Linux."""

_log = structlog.get_logger()


class Heart:
    """Keeps one worker alive in the ledger while `run` runs."""

    def __init__(self, queue: TaskQueue, desk: Desk, node_id: UUID) -> None:
        self._queue = queue
        self._desk = desk
        self._node_id = node_id
        self._interval = queue.claim_ttl / 3
        self._trusted_until = 0.0
        self._trusted_until_boottime = 0.0
        self._alive = trio.Event()
        self._told_dead = trio.Event()
        self._strangers: set[Key] = set()
        """Claims under our name that the last beat showed and nobody here knows."""
        self.owner: UUID | None = None
        """Under which name to claim; None while there is none."""
        self.beat_at: float | None = None
        """When a beat was last confirmed, on Trio's clock."""

    def is_trusted(self) -> bool:
        """Whether we surely live at this moment, also after a stop or a sleep of the machine. No checkpoint."""
        return (
            trio.current_time() < self._trusted_until and _boottime() < self._trusted_until_boottime
        )

    async def wait_until_alive(self) -> UUID:
        """Return the name to claim under, as soon as there is one."""
        while self.owner is None:
            await self._alive.wait()
        return self.owner

    async def run(self) -> None:
        """Live until cancelled; errors of the ledger are met with a bounded back-off."""
        while True:
            owner = await self._register()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._beat_until_dead, owner)
                await self._wait_for_death()
                # At once: a beat that gets no answer may take its time to end.
                self._die(owner)
                nursery.cancel_scope.cancel("dead")

    async def leave(self) -> None:
        """Say that this worker is no more, within `LEAVE_TIMEOUT` seconds; errors are logged only."""
        owner, self.owner = self.owner, None
        if owner is None:
            return
        with trio.move_on_after(LEAVE_TIMEOUT):
            try:
                await self._queue.leave(owner)
            except SerchaError as error:
                _log.warning("worker.leave_failed", error=error.message)

    async def _register(self) -> UUID:
        backoff = Backoff(base=0.1, cap=5.0)
        while True:
            owner, sent_at = uuid4(), trio.current_time()
            try:
                await self._queue.register(owner, self._node_id)
            except SerchaError as error:
                log = _log.warning if backoff.failures == 0 else _log.debug
                log("worker.register_failed", error=error.message)
                await trio.sleep(backoff.next())
                continue
            self._trust(sent_at)
            if trio.current_time() < self._trusted_until:
                self._told_dead = trio.Event()
                self.owner = owner
                self._alive.set()
                return owner

    async def _wait_for_death(self) -> None:
        """Return when the time is over, or the ledger has said so."""
        while (now := trio.current_time()) < self._trusted_until:
            await until_any(self._trusted_until - now, self._told_dead)
            if self._told_dead.is_set():
                return

    def _die(self, owner: UUID) -> None:
        self.owner, self._alive = None, trio.Event()
        self._strangers = set()
        lost = self._desk.lose(self._desk.expected())
        _log.warning("worker.died", owner=str(owner), claims_lost=lost)

    async def _beat_until_dead(self, owner: UUID) -> None:
        backoff = Backoff(base=0.2, cap=self._interval / 3)
        while True:
            await trio.sleep(backoff.next() if backoff.failures else self._interval)
            try:
                if not await self._beat(owner):
                    self._told_dead.set()
                    return
                backoff.reset()
            except SerchaError as error:
                metrics.DB_RETRIES.inc()
                backoff.failures = max(1, backoff.failures)
                _log.warning("worker.beat_failed", error=error.message)

    async def _beat(self, owner: UUID) -> bool:
        """Beat once, and give up the claims that the answer does not name; False when we are dead."""
        expected, sent_at = self._desk.expected(), trio.current_time()
        kept = await self._queue.beat(owner)
        if kept is None:
            return False
        if self.owner != owner:
            return True  # the answer came too late
        self._trust(sent_at)
        self.beat_at = trio.current_time()
        mine = [held for held in expected if held.claim.owner == owner]
        if lost := self._desk.lose(held for held in mine if held.key not in kept):
            _log.warning("worker.claims_lost", count=lost)
        await self._return_strangers(owner, kept)
        return True

    async def _return_strangers(self, owner: UUID, kept: set[Key]) -> None:
        """Give back claims that two beats have shown and nobody knows: their answers were lost."""
        strangers = {key for key in kept if not self._desk.knows(key)}
        lasting, self._strangers = strangers & self._strangers, strangers
        if lasting:
            count = await self._queue.disown(owner, sorted(lasting))
            _log.warning("worker.claims_disowned", count=count)

    def _trust(self, sent_at: float) -> None:
        """Believe in our life for as long as the server surely does, less the time for stopping."""
        ttl = self._queue.claim_ttl
        self._trusted_until = sent_at + ttl * (1 - CLOCK_DRIFT) - min(5.0, ttl / 12)
        left = self._trusted_until - trio.current_time()
        self._trusted_until_boottime = _boottime() + left


def _boottime() -> float:
    return time.clock_gettime(_BOOTTIME)
