"""An index that another process keeps true, as seen from here: how far it is, and which generation answers."""

from __future__ import annotations

from typing import Protocol

import structlog
import trio

from sercha.errors import Transient
from sercha.services.backoff import Backoff
from sercha.services.follow import FollowState
from sercha.services.ports import ChangeFeed, FeedPosition, Notices
from sercha.services.waiting import until_any
from sercha.telemetry import metrics

CHANNEL = "sercha_generation"
LOOK_INTERVAL = 1.0
"""Seconds between looks; a notice shortens them."""
CATCH_UP_INTERVAL = 0.1

_log = structlog.get_logger()


class SharedCopy(Protocol):
    """An index of which generations answer one after the other."""

    @property
    def generation(self) -> str: ...

    async def position(self) -> FeedPosition | None:
        """How far the generation is that answers now, which is found out anew."""
        ...


class RemoteFollower:
    """Satisfies `sercha.services.follow.Following` for an index that is fed elsewhere."""

    def __init__(
        self, index: SharedCopy, feed: ChangeFeed, notices: Notices, consumer_id: str
    ) -> None:
        self._index = index
        self._feed = feed
        self._notices = notices
        self._consumer_id = consumer_id
        self.state = FollowState()
        self._wake = trio.Event()
        self._rebuild_wanted = False

    def request_rebuild(self) -> None:
        """Ask whoever feeds the index for a new generation; the present one answers until it is complete."""
        self._rebuild_wanted = True
        self.wake()

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    async def catch_up(self) -> None:
        """Return when everything that was committed before this call is in the index.

        Waits as long as that takes, also while PostgreSQL or the engine is away.
        """
        moment: str | None = None
        while True:
            try:
                moment = moment or await self._feed.moment()
                position = await self._index.position()
                if position is not None and await self._feed.covers(position, moment):
                    return
            except Transient as error:
                self.state.error = error.message
            await trio.sleep(CATCH_UP_INTERVAL)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep an eye on the index for ever; ``started()`` once PostgreSQL has said which generation answers.

        Errors of PostgreSQL or the engine are met with a bounded, jittered back-off and shown in ``state``.
        """
        backoff = Backoff(base=0.2, cap=LOOK_INTERVAL)
        with self._notices.subscribe(CHANNEL) as subscription:
            while True:
                self._wake = trio.Event()
                pause = LOOK_INTERVAL
                try:
                    await self._look()
                except Transient as error:
                    metrics.DB_RETRIES.inc()
                    if self.state.error is None:
                        _log.warning("index.look_failed", error=error.message)
                    self.state.error = error.message
                    pause = backoff.next()
                else:
                    backoff.reset()
                    self.state.error = None
                if not self.state.is_caught_up and self.state.error is None:
                    self.state.is_caught_up = True
                    task_status.started()
                await until_any(pause, subscription, self._wake)

    async def _look(self) -> None:
        if self._rebuild_wanted:
            await self._feed.unregister(self._consumer_id)
            self._rebuild_wanted = False
            self.state.is_rebuilding = True
        before = self._index.generation
        looked_at = trio.current_time()
        moment = await self._feed.moment()
        position = await self._index.position()
        if before and self._index.generation != before:
            self.state.rebuilds += 1
            self.state.is_rebuilding = False
            _log.info("index.generation_changed", generation=self._index.generation)
        if position is not None and await self._feed.covers(position, moment):
            self.state.complete_at = looked_at
        self.state.note_progress()
