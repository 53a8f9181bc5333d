"""Asking for the sync of every source that is not paused."""

from __future__ import annotations

import structlog

from sercha.services.attempt import Attempt
from sercha.services.ports import Database, SourceStore, TaskQueue
from sercha.services.task_kinds import sync_task

_log = structlog.get_logger()


class SyncAll:
    """The handler of ``sync_all`` tasks."""

    def __init__(self, database: Database, sources: SourceStore, queue: TaskQueue) -> None:
        self._database = database
        self._sources = sources
        self._queue = queue

    async def __call__(self, attempt: Attempt) -> None:
        """Enqueue the syncs of all enabled sources, all or none of them, under the claim.

        Done again after an end that could not be recorded, it merges into the syncs that still wait. A source
        that is being synced is synced again afterwards.

        Raises:
            ClaimLost: another worker does it.
        """
        sources = [source for source in await self._sources.list() if source.enabled]
        async with self._database.transaction() as tx:
            await self._queue.verify(tx, attempt.claim)
            await self._queue.enqueue(tx, [sync_task(source.id) for source in sources])
        _log.info("syncs.requested", sources=len(sources))
