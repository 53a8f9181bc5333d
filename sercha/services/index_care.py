"""Looking after an index: compare it with the truth, or make it anew."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

import trio

from sercha.errors import Unavailable
from sercha.services.follow import Following
from sercha.services.ports import ChangeFeed, SearchIndex, VerifyReport

CATCH_UP_TIMEOUT = 300.0
ROUNDS_MAX = 5
"""Comparisons until one finds nothing: a document that changes during one looks like a difference."""
BATCH = 2_000


@dataclass(frozen=True, slots=True)
class IndexState:
    """How one copy is doing."""

    generation: str
    is_caught_up: bool
    """It has reached the state that the truth had when the process started."""
    is_rebuilding: bool
    applied: int
    """Documents taken over since the process started: grows while the copy makes progress."""
    pending: int
    """Documents known to have changed and not taken over yet; more may have changed since."""
    lag: float
    """The copy has everything that was committed until this many seconds ago."""
    error: str | None


class IndexCare:
    """Verify and rebuild for the index of this process."""

    def __init__(self, index: SearchIndex, feed: ChangeFeed, follower: Following) -> None:
        self._index = index
        self._feed = feed
        self._follower = follower

    async def verify(self) -> VerifyReport:
        """Count the differences between the copy and the truth, after the copy has caught up.

        While writes go on, a comparison may see a document on one side only; so it is made again, a few
        times, before a difference is believed.

        Raises:
            Unavailable: the copy does not catch up within `CATCH_UP_TIMEOUT` seconds (``index-behind``).
        """
        report = VerifyReport(checked=0)
        for _ in range(ROUNDS_MAX):
            await self.catch_up(CATCH_UP_TIMEOUT)
            async with aclosing(self._feed.versions(batch=BATCH)) as versions:
                report = await self._index.verify(versions)
            if not report.differences:
                break
        return report

    async def rebuild(self) -> None:
        """Ask for a rebuild from the truth and wait for its end; the old content answers meanwhile."""
        before = self._follower.state.rebuilds
        self._follower.request_rebuild()
        while self._follower.state.rebuilds == before:
            await self._follower.state.changed.wait()

    async def catch_up(self, seconds: float) -> None:
        """Wait until a search here sees everything that was committed before this call.

        Raises:
            Unavailable: that takes more than *seconds* (``index-behind``).
        """
        with trio.move_on_after(seconds) as scope:
            await self._follower.catch_up()
        if scope.cancelled_caught:
            raise Unavailable("the index is behind the truth", code="index-behind", retry_after=1)

    def state(self) -> IndexState:
        """Say how the copy of this process is doing, and make it look for changes at once.

        So whoever asks again soon sees a `lag` that says something about the time since the first look.
        """
        self._follower.wake()
        state = self._follower.state
        return IndexState(
            generation=self._index.generation,
            is_caught_up=state.is_caught_up,
            is_rebuilding=state.is_rebuilding,
            applied=state.applied,
            pending=state.pending,
            lag=trio.current_time() - state.complete_at,
            error=state.error,
        )
