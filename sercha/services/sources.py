"""Adding, changing and removing sources, and asking for their syncs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4

from sercha.domain.source import ItemIssue, ProviderType, Source, SyncState
from sercha.errors import Conflict, NotFound, Rejected
from sercha.services.names import checked_name
from sercha.services.ports import (
    Clock,
    Connector,
    Database,
    DocumentStore,
    ScheduleStore,
    SourceStore,
    TaskQueue,
    Transaction,
)
from sercha.services.task_kinds import sync_key, sync_task


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """A source with its counters, as it is listed."""

    source: Source
    document_count: int
    state: SyncState


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
        *,
        schedules: ScheduleStore | None = None,
    ) -> None:
        """*schedules* is where a new source gets its default schedule; without it, it gets none."""
        self._database = database
        self._store = store
        self._documents = documents
        self._queue = queue
        self._connectors = connectors
        self._clock = clock
        self._schedules = schedules

    async def create(
        self, name: str, provider_type: str, config: dict[str, object], *, created_by: UUID | None
    ) -> Source:
        """Add a source with the schedule that the team's settings give it; its first sync is asked for separately.

        Raises:
            Rejected: the provider is unknown, or a field is wrong; the message names it.
            Conflict: the name is taken.
        """
        provider = _provider(provider_type)
        now = self._clock.now()
        source = Source(
            id=uuid4(),
            name=checked_name(name),
            provider_type=provider,
            config=await self._connectors[provider].validate(config),
            enabled=True,
            created_by=created_by,
            created_at=now,
            updated_at=now,
        )
        async with self._database.transaction() as tx:
            await self._store.add(tx, source)
            if self._schedules is not None:
                await self._schedules.add_default(tx, source)
        return source

    async def get(self, source_id: UUID) -> Source:
        """Return a source; raise `NotFound`."""
        source = await self._store.get(source_id)
        if source is None:
            raise _gone(source_id)
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
        """Change what is given, leave the rest.

        A source that is disabled is not synced any more: a sync of it that waits or runs is cancelled, and what
        it has committed so far stays. One that is enabled again, or has another configuration, is synced anew.

        Raises:
            NotFound: there is no such source.
            Rejected: a field is wrong; the message names it.
            Conflict: the name is taken.
        """
        before = await self.get(source_id)
        if config is not None:
            config = await self._connectors[before.provider_type].validate(config)
        is_resumed = bool(enabled) and not before.enabled
        is_other = config is not None and config != before.config and before.enabled
        # Tasks before the source, as a sync's commit locks them.
        async with self._database.transaction() as tx:
            if enabled is False:
                await self._queue.cancel_keyed(tx, sync_key(source_id))
            elif is_resumed or is_other:
                await self.enqueue_sync(tx, source_id)
            updated = await self._store.update(
                tx,
                source_id,
                name=None if name is None else checked_name(name),
                config=config,
                enabled=enabled,
            )
            if updated is None:
                raise _gone(source_id)
        return updated

    async def remove(self, source_id: UUID) -> None:
        """Remove a source with its documents; a running sync of it is cancelled and can write no more."""
        # Schedules before tasks before the source, as everybody locks them: nobody waits in a circle.
        async with self._database.transaction() as tx:
            await self._store.hold_schedules(tx, source_id)
            await self._queue.cancel_keyed(tx, sync_key(source_id))
            if not await self._store.remove(tx, source_id):
                raise _gone(source_id)
            await self._documents.delete_all(tx, source_id)

    async def request_sync(self, source_id: UUID) -> UUID:
        """Ask for a sync and return its task's id.

        While a sync of the source runs, the new one waits for it; a second request for a waiting one
        is answered with that one.

        Raises:
            NotFound: there is no such source.
            Conflict: the source is disabled.
        """
        async with self._database.transaction() as tx:
            task_id = await self.enqueue_sync(tx, source_id)
            is_enabled = await self._store.hold(tx, source_id)
            if is_enabled is None:
                raise _gone(source_id)
            if not is_enabled:
                raise Conflict(f"source {source_id}: is disabled", code="source-disabled")
        return task_id

    async def enqueue_sync(self, tx: Transaction, source_id: UUID) -> UUID:
        """Enqueue a sync when *tx* commits."""
        return (await self._queue.enqueue(tx, [sync_task(source_id)]))[0]

    async def sync_state(self, source_id: UUID) -> SyncState:
        """Return where the sync of a source stands."""
        state = await self._store.sync_state(source_id)
        if state is None:
            raise _gone(source_id)
        return state

    async def sync_states(self) -> list[SyncState]:
        """Return where the syncs of all sources stand."""
        return await self._store.sync_states()

    async def issues(self, source_id: UUID, *, limit: int, offset: int) -> list[ItemIssue]:
        """Return the items that are no documents, or not with all of their text, with reasons."""
        await self.get(source_id)
        return await self._store.issues(source_id, limit=limit, offset=offset)


def _gone(source_id: UUID) -> NotFound:
    return NotFound(f"source {source_id}: there is none", code="source-not-found")


def _provider(provider_type: str) -> ProviderType:
    try:
        return ProviderType(provider_type)
    except ValueError:
        known = ", ".join(ProviderType)
        raise Rejected(
            f"provider_type: {provider_type!r} is not available; allowed: {known}",
            code="unknown-provider",
        ) from None
