"""Keeping one index a true copy: follow the change feed, rebuild when the way back is lost.

::

    no position ──▶ register, scan everything ──▶ follow: poll, read, apply, advance ─┐
         ▲                                             ▲                              │
         └── row gone, other timeline, broken copy ────┴──────────────────────────────┘

The consumer is registered before the scan, so whatever commits during the scan comes again in the feed.
The copy commits its position together with the data; the row in PostgreSQL follows afterwards and only keeps
the feed from being trimmed too early.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import structlog
import trio

from sercha.domain.document import DocumentId
from sercha.errors import Transient
from sercha.services.backoff import Backoff
from sercha.services.ports import (
    Change,
    ChangeFeed,
    DocumentStore,
    FeedPosition,
    Notices,
    SearchIndex,
    Subscription,
)
from sercha.services.waiting import until_any
from sercha.telemetry import metrics

CHANNEL = "sercha_change"
POLL_INTERVAL = 2.0
"""Seconds between polls when no notice comes: a notice is a courtesy."""
ADVANCE_INTERVAL = 30.0
"""Seconds between notes of an unchanged position, so that the feed can be trimmed."""
BATCH = 200
"""Documents read and applied at once: bounds memory."""

_log = structlog.get_logger()


@dataclass
class FollowState:
    """What the follower is doing; read by health and readiness."""

    is_caught_up: bool = False
    """The copy has reached the state that the truth had when the follower started."""
    is_rebuilding: bool = False
    error: str | None = None
    rebuilds: int = 0
    applied: int = 0
    """Documents taken over since the start, by a rebuild too."""
    pending: int = 0
    """Documents of the last poll's changes that are not in the copy yet."""
    polls_begun: int = 0
    polls_applied: int = 0
    """The last poll whose changes are all in the copy; polls are numbered from 1."""
    poll_begun_at: float = field(default_factory=trio.current_time)
    complete_at: float = field(default_factory=trio.current_time)
    """The copy has all that was committed before this instant of Trio's clock; before it has caught up, the
    start of the follower."""
    changed: trio.Event = field(default_factory=trio.Event)
    """Set, and replaced by a new one, whenever the follower has done something."""

    def begin_poll(self) -> None:
        """Say that the truth is about to be asked for changes."""
        self.polls_begun += 1
        self.poll_begun_at = trio.current_time()

    def end_poll(self) -> None:
        """Say that the present poll is in the copy with all its changes."""
        self.polls_applied = self.polls_begun
        self.complete_at = self.poll_begun_at
        self.error = None
        self.note_progress()

    def note_progress(self) -> None:
        """Wake whoever waits for something to be done."""
        self.changed.set()
        self.changed = trio.Event()


class Following(Protocol):
    """Whatever keeps an index true, or watches whoever does."""

    @property
    def state(self) -> FollowState: ...

    def request_rebuild(self) -> None: ...

    def wake(self) -> None: ...

    async def catch_up(self) -> None: ...

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None: ...


class Follower:
    """Makes one index follow the feed until cancelled."""

    def __init__(
        self,
        index: SearchIndex,
        feed: ChangeFeed,
        documents: DocumentStore,
        notices: Notices,
        new_consumer_id: Callable[[], str],
    ) -> None:
        self._index = index
        self._feed = feed
        self._documents = documents
        self._notices = notices
        self._new_consumer_id = new_consumer_id
        self.state = FollowState()
        self._rebuild_wanted = False
        self._wake = trio.Event()

    def request_rebuild(self) -> None:
        """Ask for a rebuild from the truth; the old content answers until the new one is complete."""
        self._rebuild_wanted = True
        self._wake.set()

    def wake(self) -> None:
        """Look for changes now rather than with the next notice or at the next interval."""
        self._wake.set()

    async def catch_up(self) -> None:
        """Return when everything that was committed before this call is in the copy.

        Waits as long as that takes; writes that come later are not waited for.
        """
        wanted = self.state.polls_begun + 1
        self._wake.set()
        while True:
            changed = self.state.changed
            if self.state.polls_applied >= wanted:
                return
            await changed.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow for ever; ``started()`` once the copy has caught up with the state of the start.

        Errors of PostgreSQL or the disk are met with a bounded, jittered back-off and shown in ``state``.
        Cancellation leaves the copy at its last commit.
        """
        backoff = Backoff(base=0.2, cap=10.0)
        with self._notices.subscribe(CHANNEL) as subscription:
            while True:
                try:
                    await self._step(subscription, task_status)
                except Transient as error:
                    self.state.error = error.message
                    metrics.DB_RETRIES.inc()
                    delay = backoff.next()
                    _log.warning("index.follow_failed", error=error.message, retry_in=delay)
                    await trio.sleep(delay)
                else:
                    backoff.reset()

    async def _step(self, subscription: Subscription, task_status: trio.TaskStatus[None]) -> None:
        position = None if self._rebuild_wanted else await self._index.position()
        if position is None:
            position = await self._rebuild()
        await self._follow(position, subscription, task_status)

    async def _rebuild(self) -> FeedPosition:
        """Fill the copy from the truth; what changes meanwhile is fed afterwards."""
        self._rebuild_wanted = False
        self.state.is_rebuilding = True
        try:
            position = await self._feed.register(self._new_consumer_id())
            _log.info("index.rebuild_started", consumer=position.consumer_id)
            with self._counted():
                async with (
                    aclosing(self._feed.scan(batch=BATCH)) as scan,
                    aclosing(self._everything(scan)) as everything,
                ):
                    await self._index.replace(everything, position)
        except BaseException:
            self._rebuild_wanted = True
            raise
        finally:
            self.state.is_rebuilding = False
        self.state.rebuilds += 1
        self.state.note_progress()
        _log.info("index.rebuilt", consumer=position.consumer_id)
        return position

    async def _follow(
        self,
        position: FeedPosition,
        subscription: Subscription,
        task_status: trio.TaskStatus[None],
    ) -> None:
        """Follow until the copy is lost; then return, for the caller to rebuild."""
        advanced_at = trio.current_time()
        while not self._rebuild_wanted:
            # Renewed before the poll: a wish that comes from here on is not slept through.
            self._wake = trio.Event()
            self.state.begin_poll()
            batch = await self._feed.poll(position)
            if batch is None:
                _log.warning("index.position_lost", consumer=position.consumer_id)
                self._rebuild_wanted = True
                return
            # Without changes the old position stays: only one that the database knows durably may be left.
            if batch.document_ids or trio.current_time() > advanced_at + ADVANCE_INTERVAL:
                await self._feed.advance(position, batch.position)
                await self._apply_all(batch.document_ids, batch.position)
                await self._feed.trim()
                position = batch.position
                advanced_at = trio.current_time()
            self.state.end_poll()
            if not self.state.is_caught_up:
                self.state.is_caught_up = True
                task_status.started()
            if not batch.document_ids:
                await until_any(POLL_INTERVAL, subscription, self._wake)

    async def _apply_all(self, ids: Sequence[DocumentId], position: FeedPosition) -> None:
        """Apply a delta in batches, the position with the last one."""
        batches = _batched(ids, BATCH) or [()]
        self.state.pending = len(ids)
        with self._counted():
            for number, batch in enumerate(batches, 1):
                try:
                    await self._apply(batch, position if number == len(batches) else None)
                except Transient as error:
                    if error.error_code == "index-full":
                        await self._apply_removals(batches[number:])
                    raise

    async def _apply_removals(self, batches: Sequence[Sequence[DocumentId]]) -> None:
        """Hide what is gone, though there is no room for what is new; all of it comes again."""
        for batch in batches:
            changes = await self._documents.read(batch)
            await self._index.apply([it for it in changes if it.document is None], None)

    @contextmanager
    def _counted(self) -> Generator[None]:
        """Take back what the block counted as applied when it fails: work done over and over is no progress."""
        before = self.state.applied
        try:
            yield
        except BaseException:
            self.state.applied = before
            raise

    async def _apply(self, ids: Sequence[DocumentId], position: FeedPosition | None) -> None:
        await self._index.apply(await self._documents.read(ids), position)
        self.state.applied += len(ids)
        self.state.pending -= len(ids)

    async def _everything(
        self, scan: AsyncIterable[Sequence[DocumentId]]
    ) -> AsyncGenerator[list[Change]]:
        async for ids in scan:
            yield await self._documents.read(ids)
            self.state.applied += len(ids)


def _batched(ids: Sequence[DocumentId], size: int) -> list[Sequence[DocumentId]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]
