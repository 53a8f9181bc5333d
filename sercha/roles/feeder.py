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
from typing import Protocol

import structlog
import trio

from lockd import Lease, LeaseStore, OnOverrun
from sercha.errors import SerchaError
from sercha.roles.leading import Leading
from sercha.services.backoff import Backoff
from sercha.services.follow import Follower
from sercha.telemetry.health import ComponentHealth

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
    """Feeds while it holds the lease, until drained; what fails is tried again, and shown by `probe`."""

    def __init__(
        self,
        name: str,
        index: SharedIndex,
        new_follower: Callable[[], Follower],
        leases: LeaseStore,
        *,
        on_overrun: OnOverrun = "log",
    ) -> None:
        self._index = index
        self._new_follower = new_follower
        self._leading = Leading(f"index:{name}", leases, self._feed, on_overrun=on_overrun)
        self.run = self._leading.run
        """See `Leading.run`."""
        self._follower: Follower | None = None
        self._error: str | None = None

    async def probe(self) -> ComponentHealth:
        """Say how it is doing, for ``/health``."""
        await trio.lowlevel.checkpoint()
        if error := self._leading.error or self._error:
            return ComponentHealth(is_healthy=False, message=error)
        if self._follower is None:
            return ComponentHealth(is_healthy=True, message="another process feeds the index")
        state = self._follower.state
        if state.error is not None:
            return ComponentHealth(is_healthy=False, message=state.error)
        doing = "rebuilding" if state.is_rebuilding else "feeding"
        return ComponentHealth(is_healthy=True, message=f"{doing}, {state.pending} documents wait")

    async def _feed(self, lease: Lease) -> None:
        _log.info("feeder.started", lease=lease.name, token=lease.token)
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
