"""Telling workers of new tasks: through the dispatch, or by a notice of PostgreSQL while that is away."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import structlog
import trio

from sercha.errors import SerchaError
from sercha.services.backoff import Backoff
from sercha.services.ports import Dispatch, TaskQueue
from sercha.services.waiting import Signal

PENDING_MAX = 64
ENTRIES_MAX = 16
"""A dispatch with as many entries is left to the relays, which know what is most urgent."""

_log = structlog.get_logger()


class Announcer:
    """Announces what it is called with, while `run` runs.

    A short cut, not a promise: what is not announced is found by a relay, or by a worker that polls.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._pending: list[UUID] = []
        self._due = Signal()

    def __call__(self, task_ids: Sequence[UUID]) -> None:
        """Announce tasks soon. Neither blocks nor raises."""
        if task_ids:
            self._pending.extend(task_ids[: PENDING_MAX - len(self._pending)])
            self._due.set()

    async def run(self, queue: TaskQueue) -> None:
        """Announce until cancelled; those of *queue* are woken by it while the dispatch is away."""
        backoff = Backoff(base=0.5, cap=10.0)
        retry_at = 0.0
        while True:
            await self._due.wait()
            pending, self._pending = self._pending, []
            try:
                if trio.current_time() < retry_at:
                    await queue.wake()
                    continue
                await self._dispatch.announce(pending, at_most=ENTRIES_MAX)
                backoff.reset()
            except SerchaError as error:
                retry_at = trio.current_time() + backoff.next()
                _log.debug("announcer.failed", error=error.message)
                await self._wake(queue)

    async def _wake(self, queue: TaskQueue) -> None:
        try:
            await queue.wake()
        except SerchaError as error:
            _log.debug("announcer.wake_failed", error=error.message)
