"""Removing what nobody asks for any more: ended tasks, expired sessions and answers, processes long gone, old vectors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from sercha.services.attempt import Attempt, Interrupted
from sercha.services.ports import ChangeFeed
from sercha.services.ports.retention import RetentionStore

DAY = 24 * 3600.0
COMPLETED_KEPT = 7 * DAY
"""Seconds that a completed task is kept; a dead or cancelled one is looked at later."""
OTHERS_KEPT = 30 * DAY
NODES_KEPT = DAY
VECTORS_KEPT = 7 * DAY
"""A text that comes back before needs no new vector."""
EVENTS_KEPT = DAY
"""A client may stay away for so long and still miss none."""
BATCH = 1_000
"""Rows that one statement removes."""

_log = structlog.get_logger()


class Prune:
    """The handler of ``prune`` tasks. Two at once, or one that is done again, do no harm."""

    def __init__(
        self,
        retention: RetentionStore,
        feed: ChangeFeed,
        *,
        batch: int = BATCH,
    ) -> None:
        self._retention = retention
        self._feed = feed
        self._batch = batch

    async def __call__(self, attempt: Attempt) -> None:
        """Remove all of it, batch by batch, each by a commit of its own.

        Raises:
            Interrupted: the process drains; what is left is removed by the next attempt.
        """
        remove = self._retention
        counts = {
            "tasks": await self._all(
                attempt, partial(remove.remove_tasks, completed=COMPLETED_KEPT, others=OTHERS_KEPT)
            ),
            "sessions": await self._all(attempt, remove.remove_sessions),
            "answers": await self._all(attempt, remove.remove_answers),
            "events": await self._all(attempt, partial(remove.remove_events, age=EVENTS_KEPT)),
            "nodes": await self._all(attempt, partial(remove.remove_nodes, silence=NODES_KEPT)),
            "document_vectors": await self._all(attempt, remove.remove_document_vectors),
            "vectors": await self._all(attempt, partial(remove.remove_vectors, age=VECTORS_KEPT)),
        }
        await self._feed.trim()
        _log.info("leftovers.pruned", **counts)

    async def _all(self, attempt: Attempt, remove: Callable[..., Awaitable[int]]) -> int:
        """Repeat *remove* until a batch is not full; how many were removed."""
        total = 0
        while True:
            if attempt.draining.is_set():
                raise Interrupted
            removed = await remove(limit=self._batch)
            total += removed
            if removed < self._batch:
                return total
