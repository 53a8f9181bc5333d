"""The role that feeds an index which all processes share: of all workers, the one that holds the lease.

::

    hold the lease ─▶ make the engine ready ─▶ follow the change feed │ sweep, now and then
         ▲                                                            │
         └───────── lost, or drained: at once, in the middle ─────────┘

A feeder that was replaced and does not know it yet does no harm: each write says which version it has, and the
position names the one before it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

import structlog
import trio

from lockd import EventKind, Lease, LeaseEvent, LeaseStore, OnOverrun, lead
from sercha.errors import SerchaError
from sercha.services.backoff import Backoff
from sercha.services.follow import Follower
from sercha.telemetry.health import ComponentHealth

LEASE_TTL = 15.0
"""Seconds after which another worker takes over from one that died."""
SWEEP_INTERVAL = 30.0

_log = structlog.get_logger()


class SharedIndex(Protocol):
    """What the feeder needs of the engine beside what its follower does."""

    async def prepare(self) -> None:
        """Make the engine ready for documents; without effect where it is."""
        ...

    async def sweep(self) -> None:
        """Remove for good what nobody can find any more."""
        ...


class Feeder:
    """Feeds while it holds the lease, until drained."""

    def __init__(
        self,
        name: str,
        index: SharedIndex,
        new_follower: Callable[[], Follower],
        leases: LeaseStore,
        *,
        on_overrun: OnOverrun = "log",
    ) -> None:
        self._lease = f"index:{name}"
        self._index = index
        self._new_follower = new_follower
        self._leases = leases
        self._on_overrun: OnOverrun = on_overrun
        self._follower: Follower | None = None
        self._error: str | None = None

    async def probe(self) -> ComponentHealth:
        """Say how it is doing, for ``/health``."""
        await trio.lowlevel.checkpoint()
        if self._error is not None:
            return ComponentHealth(is_healthy=False, message=self._error)
        if self._follower is None:
            return ComponentHealth(is_healthy=True, message="another process feeds the index")
        state = self._follower.state
        if state.error is not None:
            return ComponentHealth(is_healthy=False, message=state.error)
        doing = "rebuilding" if state.is_rebuilding else "feeding"
        return ComponentHealth(is_healthy=True, message=f"{doing}, {state.pending} documents wait")

    async def run(
        self,
        *,
        drain: trio.Event,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Feed until *drain* is set; then stop at once and free the lease.

        Started at once, whoever holds the lease. What fails is tried again, in a bounded and jittered way, and shown by
        `probe`. Cancelled, what is under way is given up: it is done again by whoever feeds next.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(
                    lead,
                    self._leases,
                    self._lease,
                    self._feed,
                    ttl=LEASE_TTL,
                    on_overrun=self._on_overrun,
                    observe=self._observe,
                )
            )
            task_status.started()
            await drain.wait()
            nursery.cancel_scope.cancel("draining")

    async def _feed(self, lease: Lease) -> None:
        _log.info("feeder.started", lease=self._lease, token=lease.token)
        try:
            await self._until_done(self._index.prepare)
            follower = self._follower = self._new_follower()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(follower.run)
                while True:
                    await self._until_done(self._index.sweep)
                    await trio.sleep(SWEEP_INTERVAL)
        finally:
            self._follower = None

    async def _until_done(self, step: Callable[[], Awaitable[None]]) -> None:
        delays = Backoff(base=0.5, cap=30.0)
        while True:
            try:
                await step()
            except SerchaError as error:
                self._error = error.message
                pause = delays.next()
                _log.warning("feeder.step_failed", error=error.message, retry_in=round(pause, 1))
                await trio.sleep(pause)
            else:
                self._error = None
                return

    def _observe(self, event: LeaseEvent) -> None:
        if event.kind is EventKind.STORE_FAILED:
            self._error = f"the lease cannot be taken: {event.error}"
        elif event.kind in (EventKind.ACQUIRED, EventKind.WAITING):
            self._error = None
