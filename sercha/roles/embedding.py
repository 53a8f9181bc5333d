"""The role that makes vectors: of all workers, the one that holds the lease."""

from __future__ import annotations

from functools import partial

import structlog
import trio

from lockd import EventKind, Lease, LeaseEvent, LeaseStore, OnOverrun, lead
from sercha.services.embedding import EmbeddingWork
from sercha.telemetry.health import ComponentHealth

LEASE = "embedding"
LEASE_TTL = 15.0
"""Seconds after which another worker takes over from one that died."""

_log = structlog.get_logger()


class Embedding:
    """Makes vectors while it holds the lease, until drained."""

    def __init__(
        self, work: EmbeddingWork, leases: LeaseStore, *, on_overrun: OnOverrun = "log"
    ) -> None:
        self._work = work
        self._leases = leases
        self._on_overrun: OnOverrun = on_overrun
        self._is_leading = False
        self._error: str | None = None

    async def probe(self) -> ComponentHealth:
        """Say how it is doing, for ``/health``."""
        await trio.lowlevel.checkpoint()
        if self._error is not None:
            return ComponentHealth(is_healthy=False, message=self._error)
        if not self._is_leading:
            return ComponentHealth(is_healthy=True, message="another process makes vectors")
        state = self._work.state
        if state.errors:
            return ComponentHealth(is_healthy=False, message="; ".join(state.errors.values()))
        return ComponentHealth(is_healthy=True, message=f"{state.pending} documents wait")

    async def run(
        self,
        *,
        drain: trio.Event,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Make vectors until *drain* is set; then stop at once and free the lease.

        Started at once, whoever holds the lease. Cancelled, the batch under way is given up: it is made again by
        whoever goes on.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                partial(
                    lead,
                    self._leases,
                    LEASE,
                    self._run,
                    ttl=LEASE_TTL,
                    on_overrun=self._on_overrun,
                    observe=self._observe,
                )
            )
            task_status.started()
            await drain.wait()
            nursery.cancel_scope.cancel("draining")

    async def _run(self, lease: Lease) -> None:
        _log.info("embedding.started", lease=LEASE, token=lease.token)
        self._is_leading = True
        try:
            await self._work.run()
        finally:
            self._is_leading = False

    def _observe(self, event: LeaseEvent) -> None:
        if event.kind is EventKind.STORE_FAILED:
            self._error = f"the lease cannot be taken: {event.error}"
        elif event.kind in (EventKind.ACQUIRED, EventKind.WAITING):
            self._error = None
