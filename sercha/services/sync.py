"""Syncing one source: list it page by page, read what changed, commit each page with the claim.

The cursor, the counters and the documents of a page commit together, in a transaction that holds the task's
claim: a killed sync goes on after its last page, and a worker that lost its claim writes nothing. Deletions
follow from the key range that a page covers (`ItemPage`), so no state is needed to notice them, and a partial
listing deletes nothing it has not looked at.

Only attempts of the same task go on from the cursor; another task begins anew, because whoever asked for it
wants to see what has changed until then. That costs a listing: what is unchanged is not read again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

import structlog
import trio

from sercha.domain.source import ProviderType, Source, SyncState, SyncStats, SyncStatus
from sercha.errors import ClaimLost, NotFound, SerchaError
from sercha.services.attempt import Attempt, Interrupted
from sercha.services.ingest import Ingest, PagePlan, PageResult
from sercha.services.ports import (
    Clock,
    Connector,
    Database,
    DocumentStore,
    ItemPage,
    SourceStore,
    TaskQueue,
    TextExtractor,
    Transaction,
)
from sercha.telemetry import metrics

COUNT_MAX = 200_000
"""Items counted ahead for the progress bar; larger sources go without a total."""
FLUSH_INTERVAL = 1.0
"""Seconds of reading after which what is read is committed, within a page too."""

_log = structlog.get_logger()


class _Paused(Exception):
    """The source was paused since the attempt began."""


class SyncSource:
    """The handler of ``sync_source`` tasks."""

    def __init__(
        self,
        database: Database,
        sources: SourceStore,
        documents: DocumentStore,
        queue: TaskQueue,
        connectors: Mapping[ProviderType, Connector],
        extractor: TextExtractor,
        clock: Clock,
    ) -> None:
        self._database = database
        self._sources = sources
        self._documents = documents
        self._queue = queue
        self._connectors = connectors
        self._extractor = extractor
        self._clock = clock

    async def __call__(self, attempt: Attempt) -> None:
        """Sync the task's source to its end, or raise.

        Raises:
            NotFound: the source was removed meanwhile.
            Transient: the source or a server is away; the cursor is kept.
            Interrupted: the process drains; the cursor is kept.
        """
        source = await self._sources.get(UUID(str(attempt.claim.payload["source_id"])))
        if source is None:
            raise NotFound("the source was removed", code="source-not-found")
        if not source.enabled:
            _log.info("sync.skipped", source=source.name, reason="paused")
            return
        try:
            state = await self._begin(attempt, source)
            _log.info("sync.started", source=source.name, resumed=state.cursor is not None)
            state = await self._pages(attempt, source, state)
        except (ClaimLost, Interrupted):
            raise
        except _Paused:
            _log.info("sync.stopped", source=source.name, reason="paused")
            return
        except Exception as error:
            await self._note_failure(attempt, source.id, str(error))
            raise
        _log.info("sync.completed", source=source.name, **_counted(state.stats))

    async def _begin(self, attempt: Attempt, source: Source) -> SyncState:
        """Start anew, or go on where an earlier attempt of the same task was stopped."""
        state = await self._sources.sync_state(source.id) or SyncState(source.id)
        if state.task_id == attempt.claim.task_id and state.status is not SyncStatus.COMPLETED:
            state = replace(state, status=SyncStatus.RUNNING, error=None)
        else:
            state = SyncState(
                source_id=source.id,
                status=SyncStatus.RUNNING,
                task_id=attempt.claim.task_id,
                started_at=self._clock.now(),
                completed_at=state.completed_at,
                last_sync_at=state.last_sync_at,
            )
        async with self._database.transaction() as tx:
            await self._hold(tx, attempt, source.id)
            await self._sources.save_sync_state(tx, state)
        return state

    async def _pages(self, attempt: Attempt, source: Source, state: SyncState) -> SyncState:
        connector = self._connectors[source.provider_type]
        if state.items_expected is None:
            expected = await connector.count(source.config, limit=COUNT_MAX)
            state = replace(state, items_expected=expected)
        async for page in connector.pages(source.config, state.cursor):
            if attempt.draining.is_set():
                raise Interrupted
            state = await self._page(attempt, source, state, page)
        now = self._clock.now()
        state = replace(
            state, status=SyncStatus.COMPLETED, cursor=None, completed_at=now, last_sync_at=now
        )
        async with self._database.transaction() as tx:
            await self._hold(tx, attempt, source.id)
            await self._sources.save_sync_state(tx, state)
        return state

    async def _page(
        self, attempt: Attempt, source: Source, state: SyncState, page: ItemPage
    ) -> SyncState:
        known = await self._documents.known(source.id, after=page.after, through=page.through)
        plan = PagePlan.of(page, known, self._clock.now())
        ingest = Ingest(self._connectors[source.provider_type], self._extractor, plan)
        done = 0
        flushed_at = trio.current_time()
        while await ingest.read_next():
            is_due = trio.current_time() > flushed_at + FLUSH_INTERVAL
            if not (is_due or ingest.is_full or attempt.draining.is_set()):
                continue
            result = ingest.take()
            done += result.items_done
            progress = replace(state, items_done=state.items_done + result.items_done)
            state = await self._commit(attempt, source.id, progress, result)
            if attempt.draining.is_set():
                raise Interrupted
            flushed_at = trio.current_time()
        result = ingest.take() + plan.rest()
        return await self._commit(
            attempt,
            source.id,
            replace(
                state,
                cursor=page.cursor,
                items_done=state.items_done + len(page.items) - done,
            ),
            result,
        )

    async def _commit(
        self, attempt: Attempt, source_id: UUID, state: SyncState, result: PageResult
    ) -> SyncState:
        """Write documents, deletions, issues, counters and cursor in one transaction under the claim."""
        async with self._database.transaction() as tx:
            await self._hold(tx, attempt, source_id, progressed=True)
            stats = result.stats + await self._documents.save(tx, source_id, result.drafts)
            await self._documents.touch(tx, source_id, result.touched)
            deleted = await self._documents.delete(tx, source_id, result.gone)
            stats += SyncStats(documents_deleted=deleted)
            await self._sources.record_issues(tx, source_id, result.issues, result.cleared)
            state = replace(state, stats=state.stats + stats)
            await self._sources.save_sync_state(tx, state)
        _count(stats)
        return state

    async def _hold(
        self, tx: Transaction, attempt: Attempt, source_id: UUID, *, progressed: bool = False
    ) -> None:
        """Make sure that what *tx* writes may be written: it is our turn, and the source is there and enabled."""
        await self._queue.verify(tx, attempt.claim, progressed=progressed)
        is_enabled = await self._sources.hold(tx, source_id)
        if is_enabled is None:
            raise NotFound("the source was removed", code="source-not-found")
        if not is_enabled:
            raise _Paused

    async def _note_failure(self, attempt: Attempt, source_id: UUID, error: str) -> None:
        """Show the error beside the source; the cursor stays for the next attempt."""
        try:
            state = await self._sources.sync_state(source_id)
            if state is None:
                return
            state = replace(state, status=SyncStatus.FAILED, error=error)
            async with self._database.transaction() as tx:
                await self._hold(tx, attempt, source_id)
                await self._sources.save_sync_state(tx, state)
        except _Paused:
            pass
        except SerchaError as second:
            _log.warning("sync.note_failed", error=second.message)


def _count(stats: SyncStats) -> None:
    """Add what was committed to the process's metrics."""
    for outcome, number in _counted(stats).items():
        if number:
            metrics.SYNC_ITEMS.labels(outcome).inc(number)


def _counted(stats: SyncStats) -> dict[str, int]:
    return {
        "added": stats.documents_added,
        "updated": stats.documents_updated,
        "deleted": stats.documents_deleted,
        "unchanged": stats.documents_unchanged,
        "read": stats.documents_read,
        "skipped": stats.documents_skipped,
        "errors": stats.errors,
    }
