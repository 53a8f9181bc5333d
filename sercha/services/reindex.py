"""Making every copy of the index anew."""

from __future__ import annotations

import structlog

from sercha.services.attempt import Attempt
from sercha.services.ports import Database, TaskQueue
from sercha.services.ports.copies import CopyStore

_log = structlog.get_logger()


class Reindex:
    """The handler of ``reindex`` tasks: it asks; each process that has a copy rebuilds it by itself."""

    def __init__(self, database: Database, copies: CopyStore, queue: TaskQueue) -> None:
        self._database = database
        self._copies = copies
        self._queue = queue

    async def __call__(self, attempt: Attempt) -> None:
        """Let every copy lose its place in the change feed, under the claim.

        A copy that finds its place gone is rebuilt from the truth, and its old content answers meanwhile; one
        whose process is down is rebuilt at the next start. Returns without waiting for any of them.

        Raises:
            ClaimLost: another worker does it.
        """
        async with self._database.transaction() as tx:
            await self._queue.verify(tx, attempt.claim)
            count = await self._copies.forget_all(tx)
        _log.info("index.rebuilds_requested", copies=count)
