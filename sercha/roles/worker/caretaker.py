"""What each worker does for all of them: taking back what the dead have left."""

from __future__ import annotations

from random import Random

import structlog
import trio

from sercha.errors import SerchaError
from sercha.services.ports import Dispatch, TaskQueue
from sercha.telemetry import metrics

INTERVAL_MAX = 10.0
"""Seconds between two rounds; less where lives are shorter."""
COUNT_INTERVAL = 15.0
"""Seconds between two counts for the metrics."""

_log = structlog.get_logger()


class Caretaker:
    """Reaps tasks, and entries of the dispatch, while `run` runs."""

    def __init__(
        self, queue: TaskQueue, dispatch: Dispatch | None, *, random: Random | None = None
    ) -> None:
        self._queue = queue
        self._dispatch = dispatch
        self._random = random or Random()
        self._count_at = 0.0

    async def run(self) -> None:
        """Go round until cancelled; errors are logged, and the next round tries again."""
        interval = min(INTERVAL_MAX, self._queue.claim_ttl / 3)
        while True:
            try:
                if reaped := await self._queue.reap():
                    _log.warning("task.reaped", count=reaped)
                await self._count()
            except SerchaError as error:
                _log.warning("worker.reap_failed", error=error.message)
            if self._dispatch is not None:
                await self._sweep(self._dispatch)
            await trio.sleep(interval * self._random.uniform(0.8, 1.2))

    async def _count(self) -> None:
        if trio.current_time() < self._count_at:
            return
        self._count_at = trio.current_time() + COUNT_INTERVAL
        depth = await self._queue.depth()
        metrics.set_states(metrics.TASKS, {str(state): number for state, number in depth.items()})

    async def _sweep(self, dispatch: Dispatch) -> None:
        """Remove entries that dead workers hold: what is still queued is offered again."""
        try:
            if left := await dispatch.sweep(idle=self._queue.claim_ttl):
                _log.info("dispatch.swept", count=len(left))
                await dispatch.confirm(left)
        except SerchaError as error:
            _log.debug("dispatch.sweep_failed", error=error.message)
