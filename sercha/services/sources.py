"""Adding, changing and removing sources, and asking for their syncs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from sercha.domain.source import ItemIssue, ProviderType, Source, SyncState
from sercha.domain.task import NewTask, TaskKind
from sercha.errors import Conflict, NotFound, Rejected
from sercha.services.ports import (
    Clock,
    Connector,
    Database,
    DocumentStore,
    SourceStore,
    TaskQueue,
    Transaction,
)

NAME_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """A source with its counters, as it is listed."""

    source: Source
    document_count: int
    state: SyncState


def sync_key(source_id: UUID) -> str:
    """Return the concurrency key of all work on one source: one sync at a time, across all workers."""
    return f"source:{source_id}"


def sync_task(source_id: UUID) -> NewTask:
    """Return the task that syncs a source; a queued one absorbs further requests."""
    return NewTask(
        kind=TaskKind.SYNC_SOURCE,
        payload={"source_id": str(source_id)},
        dedupe_key=f"sync:{source_id}",
        concurrency_key=sync_key(source_id),
    )


class Sources:
    """Rules about sources."""

    def __init__(
        self,
        database: Database,
        store: SourceStore,
        documents: DocumentStore,
        queue: TaskQueue,
        connectors: Mapping[ProviderType, Connector],
        clock: Clock,
    ) -> None:
        self._database = database
        self._store = store
        self._documents = documents
        self._queue = queue
        self._connectors = connectors
        self._clock = clock

    async def create(
        self, name: str, provider_type: str, config: dict[str, object], *, created_by: UUID | None
    ) -> Source:
        """Add a source; its first sync is asked for separately.

        Raises:
            Rejected: the provider is unknown, or a field is wrong; the message names it.
            Conflict: the name is taken.
        """
        provider = _provider(provider_type)
        now = self._clock.now()
        source = Source(
            id=uuid4(),
            name=_name(name),
            provider_type=provider,
            config=await self._connectors[provider].validate(config),
            enabled=True,
            created_by=created_by,
            created_at=now,
            updated_at=now,
        )
        async with self._database.transaction() as tx:
            await self._store.add(tx, source)
        return source

    async def get(self, source_id: UUID) -> Source:
        """Return a source; raise `NotFound`."""
        source = await self._store.get(source_id)
        if source is None:
            raise NotFound(f"source {source_id}: there is none", code="source-not-found")
        return source

    async def list(self) -> list[SourceSummary]:
        """Return all sources with their counters, by name."""
        counts = await self._store.document_counts()
        states = {state.source_id: state for state in await self._store.sync_states()}
        return [
            SourceSummary(
                source, counts.get(source.id, 0), states.get(source.id, SyncState(source.id))
            )
            for source in await self._store.list()
        ]

    async def update(
        self,
        source_id: UUID,
        *,
        name: str | None = None,
        config: dict[str, object] | None = None,
        enabled: bool | None = None,
    ) -> Source:
        """Change what is given, leave the rest."""
        source = await self.get(source_id)
        if name is not None:
            source = replace(source, name=_name(name))
        if config is not None:
            connector = self._connectors[source.provider_type]
            source = replace(source, config=await connector.validate(config))
        if enabled is not None:
            source = replace(source, enabled=enabled)
        async with self._database.transaction() as tx:
            await self._store.update(tx, source)
        return await self.get(source_id)

    async def remove(self, source_id: UUID) -> None:
        """Remove a source with its documents; a running sync of it is cancelled and can write no more."""
        async with self._database.transaction() as tx:
            await self._queue.cancel_keyed(tx, sync_key(source_id))
            if not await self._store.remove(tx, source_id):
                raise NotFound(f"source {source_id}: there is none", code="source-not-found")
            await self._documents.delete_all(tx, source_id)

    async def request_sync(self, source_id: UUID) -> UUID:
        """Ask for a sync and return its task's id.

        While a sync of the source runs, the new one waits for it; a second request for a waiting one
        is answered with that one.

        Raises:
            Conflict: the source is disabled.
        """
        source = await self.get(source_id)
        if not source.enabled:
            raise Conflict(f"source {source.name}: is disabled", code="source-disabled")
        async with self._database.transaction() as tx:
            return await self.enqueue_sync(tx, source_id)

    async def enqueue_sync(self, tx: Transaction, source_id: UUID) -> UUID:
        """Enqueue a sync when *tx* commits."""
        return (await self._queue.enqueue(tx, [sync_task(source_id)]))[0]

    async def sync_state(self, source_id: UUID) -> SyncState:
        """Return where the sync of a source stands."""
        state = await self._store.sync_state(source_id)
        if state is None:
            raise NotFound(f"source {source_id}: there is none", code="source-not-found")
        return state

    async def sync_states(self) -> list[SyncState]:
        """Return where the syncs of all sources stand."""
        return await self._store.sync_states()

    async def issues(self, source_id: UUID, *, limit: int, offset: int) -> list[ItemIssue]:
        """Return the items that are no documents, or not with all of their text, with reasons."""
        await self.get(source_id)
        return await self._store.issues(source_id, limit=limit, offset=offset)


def _name(name: str) -> str:
    name = name.strip()
    if not 1 <= len(name) <= NAME_CHARS_MAX or not name.isprintable():
        raise Rejected(f"name: give 1 to {NAME_CHARS_MAX} printable characters", code="bad-field")
    return name


def _provider(provider_type: str) -> ProviderType:
    try:
        return ProviderType(provider_type)
    except ValueError:
        known = ", ".join(ProviderType)
        raise Rejected(
            f"provider_type: {provider_type!r} is not available; allowed: {known}",
            code="unknown-provider",
        ) from None
