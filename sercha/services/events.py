"""Telling what happens to whoever watches: one reader for the process, and a bounded buffer for each watcher.

A watcher begins at a position Q while the reader stands at P. It reads the gap, which is what P shows and Q does
not, from the feed; everything that P does not show comes from the reader. So nothing is missed or given twice,
in whatever order transactions commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import structlog
import trio

from sercha.errors import Transient
from sercha.services.backoff import Backoff
from sercha.services.ports import Notices
from sercha.services.ports.events import Event, EventFeed, EventPosition
from sercha.services.waiting import Signal, until_any
from sercha.telemetry import metrics

CHANNEL = "sercha_event"
POLL_INTERVAL = 2.0
"""Seconds between polls when no notice comes: a notice is a courtesy."""
BUFFER = 1_000
"""Events that wait for one watcher; one that falls further behind is ended, and reads them from the feed."""
GAP_PAGE = 200
"""Events of a gap read at once."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EventBatch:
    """Events for one watcher, in order."""

    events: tuple[Event, ...]
    position: EventPosition | None
    """Where the watcher is after all of them; None: where it was, more of the same stretch follow."""
    is_reset: bool = False
    """Events before `position` are lost to the watcher: load afresh."""


class Watch:
    """One watcher's view; made by `Events.watching`."""

    def __init__(self, feed: EventFeed, start: EventPosition, buffer: int) -> None:
        self.is_ended = False
        """It fell too far behind: begin again from the last position."""
        self._feed = feed
        self._start = start
        self._gap_end: EventPosition | None = None
        self._gap_above = 0
        self._is_joined = self._is_gap_read = False
        self._buffer = buffer
        self._waiting: deque[EventBatch] = deque()
        self._count = 0
        self._signal = Signal()

    async def wait(self) -> None:
        """Return when there may be something to read, or it has ended."""
        await self._signal.wait()

    async def read(self) -> EventBatch | None:
        """Return the next batch, if there is one; never waits for one to come. Cancelled, nothing is lost.

        Raises:
            Transient: the gap could not be read; try again.
        """
        while self._is_joined and not self._is_gap_read:
            batch = await self._read_gap()
            if batch.events or batch.is_reset:
                return batch
        if not self._waiting:
            return None
        batch = self._waiting.popleft()
        self._count -= len(batch.events)
        return batch

    @property
    def is_level(self) -> bool:
        """Whether everything that the reader has seen was given out."""
        return self._is_gap_read and not self._waiting and not self.is_ended

    def join(self, position: EventPosition) -> None:
        """Take from the reader what *position* does not show, and the rest from the feed."""
        if not self._is_joined:
            self._is_joined = True
            self._gap_end = position
            self._signal.set()

    def offer(self, events: tuple[Event, ...], position: EventPosition) -> None:
        """Add what the reader has read; end it when that is too much."""
        fresh = tuple(each for each in events if not self._knows(each, position))
        if self._count + len(fresh) > self._buffer:
            self.end()
        elif fresh and not self.is_ended:
            self._waiting.append(EventBatch(fresh, position))
            self._count += len(fresh)
            self._signal.set()

    def reset(self, position: EventPosition) -> None:
        """Say that everything before *position* may be lost."""
        self._start = position
        self._waiting.clear()
        self._waiting.append(EventBatch((), position, is_reset=True))
        self._count = 0
        self._is_joined = self._is_gap_read = True
        self._signal.set()

    def end(self) -> None:
        """Give up on the watcher."""
        self.is_ended = True
        self._waiting.clear()
        self._signal.set()

    def _knows(self, event: Event, position: EventPosition) -> bool:
        return position.timeline == self._start.timeline and self._start.shows(event.xid)

    async def _read_gap(self) -> EventBatch:
        end = self._gap_end
        assert end is not None
        page = await self._feed.read(self._start, end, above=self._gap_above, limit=GAP_PAGE)
        if page is None:
            # What the lost position shows says nothing of events that come from here on.
            self._start = end
            present = await self._feed.now()
            self._is_gap_read = True
            return EventBatch((), present, is_reset=True)
        if page.events:
            self._gap_above = page.events[-1].id
        self._is_gap_read = page.is_last
        return EventBatch(page.events, end if page.is_last else None)


class Events:
    """What happens, for the watchers of this process."""

    def __init__(
        self,
        feed: EventFeed,
        notices: Notices,
        *,
        poll_interval: float = POLL_INTERVAL,
        buffer: int = BUFFER,
        random: Random | None = None,
    ) -> None:
        self._feed = feed
        self._notices = notices
        self._poll_interval = poll_interval
        self._buffer = buffer
        self._random = random or Random()
        self._watches: set[Watch] = set()
        self._position: EventPosition | None = None

    @property
    def position(self) -> EventPosition | None:
        """How far the reader has read; None: it has not begun."""
        return self._position

    async def start(self, after: str | None) -> EventPosition:
        """Return where to begin: *after* a position that was given out, or now.

        Raises:
            Rejected: *after* is no position (``bad-position``).
            Transient: PostgreSQL is away.
        """
        return await self._feed.now() if after is None else EventPosition.parse(after)

    @contextmanager
    def watching(self, start: EventPosition) -> Generator[Watch]:
        """Watch from *start* on until the block ends."""
        watch = Watch(self._feed, start, self._buffer)
        if self._position is not None:
            watch.join(self._position)
        self._watches.add(watch)
        metrics.EVENT_STREAMS.inc()
        try:
            yield watch
        finally:
            self._watches.remove(watch)
            metrics.EVENT_STREAMS.dec()

    async def run(self) -> None:
        """Read for the watchers until cancelled; while PostgreSQL is away they just wait."""
        backoff = Backoff(base=0.2, cap=10.0)
        with self._notices.subscribe(CHANNEL) as notice:
            while True:
                try:
                    await self._poll()
                except Transient as error:
                    pause = backoff.next()
                    log = _log.warning if backoff.failures == 1 else _log.debug
                    log("events.read_failed", error=error.message, retry_in=round(pause, 2))
                    metrics.DB_RETRIES.inc()
                    await trio.sleep(pause)
                else:
                    backoff.reset()
                    await until_any(self._poll_interval * self._random.uniform(0.75, 1.0), notice)

    async def _poll(self) -> None:
        position = self._position
        if position is None:
            self._position = await self._feed.now()
            for watch in self._watches:
                watch.join(self._position)
            return
        page = await self._feed.read(position, limit=self._buffer)
        # From here on no checkpoint: whoever comes now joins before all of it, or after.
        if page is None:
            _log.warning("events.position_lost")
            self._position = await self._reset()
            return
        self._position = page.until
        for watch in self._watches:
            if page.is_last:
                watch.offer(page.events, page.until)
            else:
                watch.end()

    async def _reset(self) -> EventPosition:
        position = await self._feed.now()
        for watch in self._watches:
            watch.reset(position)
        return position
