"""The role that makes vectors: of all workers, the one that holds the lease."""

from __future__ import annotations

import structlog
import trio

from lockd import Lease, LeaseStore, OnOverrun
from sercha.roles.leading import Leading
from sercha.services.embedding import EmbeddingWork
from sercha.telemetry.health import ComponentHealth

LEASE = "embedding"

_log = structlog.get_logger()


class Embedding:
    """Makes vectors while it holds the lease, until drained."""

    def __init__(
        self, work: EmbeddingWork, leases: LeaseStore, *, on_overrun: OnOverrun = "log"
    ) -> None:
        self._work = work
        self._leading = Leading(LEASE, leases, self._run, on_overrun=on_overrun)
        self.run = self._leading.run
        """See `Leading.run`."""
        self._is_leading = False

    async def probe(self) -> ComponentHealth:
        """Say how it is doing, for ``/health``."""
        await trio.lowlevel.checkpoint()
        if self._leading.error is not None:
            return ComponentHealth(is_healthy=False, message=self._leading.error)
        if not self._is_leading:
            return ComponentHealth(is_healthy=True, message="another process makes vectors")
        state = self._work.state
        if state.errors:
            return ComponentHealth(is_healthy=False, message="; ".join(state.errors.values()))
        return ComponentHealth(is_healthy=True, message=f"{state.pending} documents wait")

    async def _run(self, lease: Lease) -> None:
        _log.info("embedding.started", lease=LEASE, token=lease.token)
        self._is_leading = True
        try:
            await self._work.run()
        finally:
            self._is_leading = False
