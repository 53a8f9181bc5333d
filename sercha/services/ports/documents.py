"""Sources, documents and what is known of a source's items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sercha.domain.document import (
    Chunk,
    Document,
    DocumentDraft,
    DocumentId,
)
from sercha.domain.source import ItemIssue, Source, SyncState, SyncStats
from sercha.services.ports.database import Transaction
from sercha.services.ports.search import Change


class SourceStore(Protocol):
    """Sources and their sync states."""

    async def add(self, tx: Transaction, source: Source) -> None: ...

    async def get(self, source_id: UUID) -> Source | None: ...

    async def list(self) -> list[Source]: ...

    async def update(
        self,
        tx: Transaction,
        source_id: UUID,
        *,
        name: str | None = None,
        config: dict[str, object] | None = None,
        enabled: bool | None = None,
    ) -> Source | None:
        """Change what is given and nothing else; the source as it is then, None when there is none.

        Raises:
            Conflict: the name is taken (``source-exists``).
        """
        ...

    async def remove(self, tx: Transaction, source_id: UUID) -> bool:
        """Remove the source, its sync state, issues and schedules; False when there is none."""
        ...

    async def hold_schedules(self, tx: Transaction, source_id: UUID) -> None:
        """Keep others from acting on the source's schedules until *tx* ends: before its tasks are touched."""
        ...

    async def sync_state(self, source_id: UUID) -> SyncState | None:
        """Where the sync of a source stands; None without such a source.

        A sync whose task has ended without saying so itself is not running: failed where the task is dead,
        else idle.
        """
        ...

    async def sync_states(self) -> list[SyncState]:
        """The same of all sources."""
        ...

    async def save_sync_state(self, tx: Transaction, state: SyncState) -> None: ...

    async def document_counts(self) -> dict[UUID, int]: ...

    async def hold(self, tx: Transaction, source_id: UUID) -> bool | None:
        """Keep the source from being removed until *tx* ends; whether it is enabled, None when it is gone."""
        ...

    async def record_issues(
        self, tx: Transaction, source_id: UUID, issues: Sequence[ItemIssue], cleared: Sequence[str]
    ) -> None:
        """Upsert *issues* by external id and forget those named in *cleared*."""
        ...

    async def issues(self, source_id: UUID, *, limit: int, offset: int = 0) -> list[ItemIssue]: ...


@dataclass(frozen=True, slots=True)
class KnownItem:
    """What the store knows of an item of a source: a document or an issue."""

    external_id: str
    fingerprint: str | None
    content_hash: bytes | None
    is_issue: bool
    retry_at: datetime | None = None


TWINS_MAX = 20
"""Other places of a document that are told."""


@dataclass(frozen=True, slots=True)
class Twin:
    """Another document with the very same content."""

    id: DocumentId
    path: str


@dataclass(frozen=True, slots=True)
class Passage:
    """One chunk of a document with its content."""

    document: Document
    chunk: Chunk
    content: str
    content_hash: bytes | None = None
    """None: there is no text in it, or its content is not known: then it is like no other."""
    twins: tuple[Twin, ...] = ()
    """Documents with the same hash that the caller may read, at most `TWINS_MAX`."""


class DocumentStore(Protocol):
    """The truth about documents."""

    async def known(
        self, source_id: UUID, *, after: str | None, through: str | None
    ) -> list[KnownItem]:
        """Documents and issues with external ids in ``(after, through]``, bytewise; None: unbounded."""
        ...

    async def save(
        self, tx: Transaction, source_id: UUID, drafts: Sequence[DocumentDraft]
    ) -> SyncStats:
        """Insert or replace documents by external id, each with a new version; counts added and updated."""
        ...

    async def touch(
        self, tx: Transaction, source_id: UUID, fingerprints: Sequence[tuple[str, str]]
    ) -> None:
        """Record new fingerprints (external id, fingerprint) of documents whose content is the same."""
        ...

    async def delete(self, tx: Transaction, source_id: UUID, external_ids: Sequence[str]) -> int:
        """Delete by external id, leaving tombstones with a version; how many there were."""
        ...

    async def delete_all(self, tx: Transaction, source_id: UUID) -> int:
        """Delete all documents of a source, leaving tombstones."""
        ...

    async def get(self, document_id: DocumentId) -> Document | None: ...

    async def list(
        self, source_id: UUID, principals: frozenset[str], *, limit: int, offset: int
    ) -> tuple[list[Document], int]:
        """One page by external id of what *principals* may read, and the total."""
        ...

    async def read(self, document_ids: Sequence[DocumentId]) -> list[Change]:
        """The present state of each, in the order given, all as of one moment."""
        ...

    async def passages(
        self, hits: Sequence[tuple[DocumentId, int]], principals: frozenset[str]
    ) -> dict[DocumentId, Passage]:
        """The chunk at each hit's position, and the document's twins, as far as *principals* may read them."""
        ...

    async def chunks(self, document_id: DocumentId) -> list[tuple[Chunk, str]]:
        """All chunks of a document with their content."""
        ...

    async def count(self) -> int: ...

    async def chunk_count(self) -> int: ...
