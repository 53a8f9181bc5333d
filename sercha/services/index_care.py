"""Looking after an index: compare it with the truth, or make it anew."""

from __future__ import annotations

import trio

from sercha.errors import Unavailable
from sercha.services.follow import Follower
from sercha.services.ports import ChangeFeed, SearchIndex, VerifyReport

CATCH_UP_TIMEOUT = 60.0
ROUNDS_MAX = 5
"""Comparisons until one finds nothing: a document that changes during one looks like a difference."""
BATCH = 2_000


class IndexCare:
    """Verify and rebuild for the index of this process."""

    def __init__(self, index: SearchIndex, feed: ChangeFeed, follower: Follower) -> None:
        self._index = index
        self._feed = feed
        self._follower = follower

    async def verify(self) -> VerifyReport:
        """Count the differences between the copy and the truth, after the copy has caught up.

        While writes go on, a comparison may see a document on one side only; so it is made again, a few
        times, before a difference is believed.

        Raises:
            Unavailable: the copy does not catch up within `CATCH_UP_TIMEOUT` seconds.
        """
        report = VerifyReport(checked=0)
        for _ in range(ROUNDS_MAX):
            await self._catch_up()
            report = await self._index.verify(self._feed.versions(batch=BATCH))
            if not report.differences:
                break
        return report

    async def rebuild(self) -> None:
        """Ask for a rebuild from the truth and wait for its end; the old content answers meanwhile."""
        before = self._follower.state.rebuilds
        self._follower.request_rebuild()
        while self._follower.state.rebuilds == before:
            await self._follower.state.changed.wait()

    async def _catch_up(self) -> None:
        with trio.move_on_after(CATCH_UP_TIMEOUT):
            while True:
                changed = self._follower.state.changed
                position = await self._index.position()
                if position is not None:
                    batch = await self._feed.poll(position)
                    if batch is not None and not batch.document_ids:
                        return
                await changed.wait()
        raise Unavailable("the index does not catch up with the truth", code="index-behind")
