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
FULL_SECONDS = 0.02
"""For how long a dispatch that had so many entries is not asked again."""
FLUSH_TIMEOUT = 2.0

_log = structlog.get_logger()


class Announcer:
    """Announces what it is called with, while `run` runs.

    A short cut, not a promise: what is not announced is found by a relay, or by a worker that polls.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._pending: list[UUID] = []
        self._due = Signal()
        self._backoff = Backoff(base=0.5, cap=10.0)
        self._away_until = 0.0
        self._full_until = 0.0

    def __call__(self, task_ids: Sequence[UUID]) -> None:
        """Announce tasks soon. Neither blocks nor raises."""
        room = PENDING_MAX - len(self._pending)
        if task_ids and room > 0 and trio.current_time() >= self._full_until:
            self._pending.extend(task_ids[:room])
            self._due.set()

    async def run(self, queue: TaskQueue) -> None:
        """Announce until cancelled; workers of *queue* are woken by it while the dispatch is away.

        Cancelled, it announces what is pending, for `FLUSH_TIMEOUT` seconds at most: whoever enqueues and ends at
        once is not to wait for a relay.
        """
        try:
            while True:
                await self._due.wait()
                await self._announce(queue)
        finally:
            with trio.move_on_after(FLUSH_TIMEOUT, shield=True):
                await self._announce(queue)

    async def _announce(self, queue: TaskQueue) -> None:
        # Not forgotten before it is done: a cancelled call may have done nothing.
        while pending := self._pending[:]:
            try:
                if trio.current_time() < self._away_until:
                    await queue.wake()
                else:
                    entries = await self._dispatch.announce(pending, at_most=ENTRIES_MAX)
                    self._backoff.reset()
                    if entries >= ENTRIES_MAX:
                        self._full_until = trio.current_time() + FULL_SECONDS
            except SerchaError as error:
                self._away_until = trio.current_time() + self._backoff.next()
                _log.debug("announcer.failed", error=error.message)
                await self._wake(queue)
            del self._pending[: len(pending)]

    async def _wake(self, queue: TaskQueue) -> None:
        try:
            await queue.wake()
        except SerchaError as error:
            _log.debug("announcer.wake_failed", error=error.message)
