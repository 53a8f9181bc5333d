"""The role that schedules: of all processes, the one that holds the lease.

::

    ┌─ hold the lease ─────────────┐      lost: the step under way is cancelled, and refused by the fence
    │  step ▸ wait ▸ step ▸ wait   │      drained: the step is cancelled, the lease freed, the next one begins
    └──────────────────────────────┘
    ┌─ only with SCHEDULER_LOCK_REQUIRED=false, while the lease's store is away ─┐
    │  step ▸ wait ▸ ...      without a lease: the key of each slot protects     │
    └────────────────────────────────────────────────────────────────────────────┘

It waits for the next slot, for a notice that a schedule has changed, or for the poll interval.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from random import Random
from typing import Protocol
from uuid import UUID

import structlog
import trio

from lockd import (
    EventKind,
    Lease,
    LeaseEvent,
    LeaseLost,
    LeaseStore,
    OnOverrun,
    StoreUnreachable,
    hold,
)
from sercha.errors import SerchaError
from sercha.services.backoff import Backoff
from sercha.services.ports import Notices, Transaction
from sercha.services.scheduler import OpenTransaction, Tick, Ticker
from sercha.services.waiting import until_any
from sercha.telemetry import metrics
from sercha.telemetry.health import ComponentHealth

LEASE = "scheduler"
CHANNEL = "sercha_schedule"
WAIT_MIN = 0.005
"""Seconds to wait beyond the moment of the next slot."""
REST = 1.0
"""Seconds to stay away after a loss, at least; up to twice as long."""
FORGET_INTERVAL = 60.0
"""Seconds between looks for old outcomes."""

_log = structlog.get_logger()


class FencedDatabase(Protocol):
    """Opens transactions, under a lease or not."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...

    def fenced(self, lease: Lease) -> AbstractAsyncContextManager[Transaction]: ...


class SchedulerState(StrEnum):
    """What the scheduler of this process is doing."""

    STARTING = "starting"
    FOLLOWING = "following"
    """Another process holds the lease."""
    LEADING = "leading"
    PAUSED = "paused"
    """The store of the lease does not answer, and without it nothing is scheduled here."""
    UNLOCKED = "unlocked"
    """The store of the lease does not answer, and scheduling goes on without it."""
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """How one scheduler schedules."""

    lock_required: bool
    lock_ttl: float
    """Seconds."""
    poll_interval: float
    """Seconds to wait when no slot comes and no notice."""
    on_overrun: OnOverrun = "log"
    """What happens when a step does not end in time after the lease was lost; see `lockd.hold`."""


@dataclass(frozen=True, slots=True)
class SchedulerStatistics:
    """The scheduler of this process at one moment."""

    state: SchedulerState = SchedulerState.STARTING
    holder: UUID | None = None
    """Who holds the lease, as far as this process knows."""
    token: int | None = None
    """Our fencing token while we lead."""
    ticked_at: float | None = None
    """When a step succeeded last, on Trio's clock."""
    schedules: int = 0
    """Schedules that were due in that step."""
    late: float = 0.0
    """Seconds that its oldest slot was late."""
    error: str | None = None
    """What keeps the scheduler from scheduling: of the last step, or of the store of the lease."""


class Scheduler:
    """Schedules while it holds the lease, until drained."""

    def __init__(
        self,
        ticker: Ticker,
        database: FencedDatabase,
        leases: LeaseStore,
        notices: Notices,
        settings: SchedulerSettings,
        *,
        random: Random | None = None,
    ) -> None:
        self._ticker = ticker
        self._database = database
        self._leases = leases
        self._notices = notices
        self._settings = settings
        self._random = random or Random()
        self._backoff = Backoff(base=0.2, cap=min(10.0, settings.poll_interval), random=random)
        self._now = SchedulerStatistics()
        self._changed = trio.Event()
        self._is_away = False
        self._forget_at = 0.0

    def statistics(self) -> SchedulerStatistics:
        """Return what the scheduler is doing now."""
        return self._now

    async def probe(self) -> ComponentHealth:
        """Say how it is doing, for ``/health``: unhealthy when this process should schedule and cannot."""
        await trio.lowlevel.checkpoint()
        now = self._now
        parts = [str(now.state)]
        if now.state is SchedulerState.FOLLOWING:
            parts.append(f"{now.holder or 'another process'} holds the lease")
        if now.ticked_at is not None:
            parts.append(f"last step {trio.current_time() - now.ticked_at:.0f} s ago")
        if now.error is not None:
            parts.append(now.error)
        is_away = now.state in (SchedulerState.PAUSED, SchedulerState.UNLOCKED)
        is_healthy = now.error is None and not is_away
        return ComponentHealth(is_healthy, ": ".join(parts))

    async def run(
        self,
        *,
        drain: trio.Event,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Schedule until *drain* is set; then stop at once and free the lease.

        Started at once, whoever holds the lease. Errors of PostgreSQL and of the store of the lease are met with a
        bounded, jittered back-off and shown in the statistics. Cancelled, the step under way is rolled back and
        the lease freed, within seconds.
        """
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._lead_forever)
                if not self._settings.lock_required:
                    nursery.start_soon(self._bridge_forever)
                task_status.started()
                _log.info("scheduler.started", lock_required=self._settings.lock_required)
                await drain.wait()
                nursery.cancel_scope.cancel("draining")
        finally:
            metrics.SCHEDULER_LEADING.set(0)
            self._set(state=SchedulerState.STOPPED, token=None)
        _log.info("scheduler.stopped")

    async def _lead_forever(self) -> None:
        while True:
            try:
                async with hold(
                    self._leases,
                    LEASE,
                    ttl=self._settings.lock_ttl,
                    on_overrun=self._settings.on_overrun,
                    observe=self._observe,
                ) as lease:
                    metrics.SCHEDULER_LEADING.set(1)
                    await self._work(partial(self._database.fenced, lease), lease.token)
            except LeaseLost as error:
                _log.warning("scheduler.lease_lost", reason=str(error.reason))
            except StoreUnreachable as error:
                _log.warning("scheduler.lease_unreachable", error=str(error))
            finally:
                metrics.SCHEDULER_LEADING.set(0)
            self._set(state=SchedulerState.FOLLOWING, token=None, holder=None)
            self._note_away(self._is_away)
            await trio.sleep(REST * (1 + self._random.random()))

    async def _bridge_forever(self) -> None:
        """Schedule without a lease whenever its store does not answer."""
        while True:
            while not self._is_away:
                await self._changed.wait()
            _log.warning("scheduler.lease_skipped", hint="the key of each slot protects")
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._cancel_when_back, scope)
                    await self._work(self._database.transaction, None)
            _log.info("scheduler.lease_reachable")

    async def _cancel_when_back(self, scope: trio.CancelScope) -> None:
        while self._is_away:
            await self._changed.wait()
        scope.cancel("the store of the lease answers again")

    async def _work(self, open_transaction: OpenTransaction, token: int | None) -> None:
        """Step and wait, until cancelled.

        Raises:
            LeaseLost: a step was refused by the fence.
        """
        with self._notices.subscribe(CHANNEL) as subscription:
            while True:
                await until_any(await self._step(open_transaction, token), subscription)

    async def _step(self, open_transaction: OpenTransaction, token: int | None) -> float:
        """Do one step; how long to wait for the next one."""
        started_at = trio.current_time()
        try:
            tick = await self._ticker.tick(open_transaction, token=token)
            if started_at >= self._forget_at:
                self._forget_at = started_at + FORGET_INTERVAL
                await self._ticker.forget()
        except LeaseLost:
            raise
        except SerchaError as error:
            return self._note_failure(error.message)
        except Exception as error:  # noqa: BLE001  one schedule must not end the work of the whole process
            _log.error("scheduler.step_crashed", exc_info=error)
            return self._note_failure(f"{type(error).__name__}: {error}")
        self._note_success(tick, started_at)
        wait = self._settings.poll_interval if tick.wait is None else tick.wait + WAIT_MIN
        return min(wait, self._settings.poll_interval)

    def _note_success(self, tick: Tick, started_at: float) -> None:
        self._backoff.reset()
        now = trio.current_time()
        metrics.SCHEDULER_LATE.set(tick.late)
        if tick.schedules:
            metrics.SCHEDULER_TICK_DURATION.observe(now - started_at)
            _log.info(
                "scheduler.ticked",
                schedules=tick.schedules,
                late=round(tick.late, 3),
                **{str(outcome): count for outcome, count in tick.outcomes.items()},
            )
        self._set(ticked_at=now, schedules=tick.schedules, late=tick.late, error=None)

    def _note_failure(self, message: str) -> float:
        metrics.DB_RETRIES.inc()
        pause = self._backoff.next()
        _log.warning("scheduler.step_failed", error=message, retry_in=round(pause, 1))
        self._set(error=message)
        return pause

    def _observe(self, event: LeaseEvent) -> None:
        match event.kind:
            case EventKind.OVERRAN:  # told from a thread
                pass
            case EventKind.ACQUIRED:
                self._note_away(False)
                self._set(
                    state=SchedulerState.LEADING, holder=event.holder, token=event.token, error=None
                )
                _log.info("scheduler.lease_acquired", holder=str(event.holder))
            case EventKind.WAITING:
                self._note_away(False)
                self._set(state=SchedulerState.FOLLOWING, holder=event.holder, error=None)
            case EventKind.STORE_FAILED:
                self._note_away(True, event.error)
            case EventKind.FENCE_REFUSED:
                _log.error("scheduler.fence_refused", holder=str(event.holder))
            case EventKind.RENEW_FAILED:
                _log.warning("scheduler.renew_failed", error=event.error)
            case _:
                pass

    def _note_away(self, is_away: bool, error: str | None = None) -> None:
        if is_away:
            required = self._settings.lock_required
            state = SchedulerState.PAUSED if required else SchedulerState.UNLOCKED
            if self._now.state is not state:
                _log.warning("scheduler.lease_away", state=str(state), error=error)
            reason = f"the lease cannot be taken: {error}" if error else self._now.error
            self._set(state=state, holder=None, error=reason)
        self._is_away = is_away
        self._wake()

    def _set(self, **changes: object) -> None:
        self._now = replace(self._now, **changes)  # type: ignore[arg-type]

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
