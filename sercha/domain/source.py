"""Sources and the state of their syncs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class ProviderType(StrEnum):
    """Which connector reads a source."""

    LOCALFS = "localfs"


class SyncStatus(StrEnum):
    """What the last or current sync of a source is doing (upstream's words)."""

    IDLE = "idle"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Source:
    """A place documents come from. ``config`` has the shape of the provider (localfs: ``paths``)."""

    id: UUID
    name: str
    provider_type: ProviderType
    config: dict[str, object]
    enabled: bool
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class SyncStats:
    """Counters of one sync, in documents unless said otherwise."""

    documents_added: int = 0
    documents_updated: int = 0
    documents_deleted: int = 0
    documents_unchanged: int = 0
    """Same fingerprint as before: not read."""
    documents_read: int = 0
    """Opened and read, whatever came of it."""
    documents_skipped: int = 0
    """Left out with a reason (binary, too large); see the source's issues."""
    chunks_indexed: int = 0
    errors: int = 0

    def __add__(self, other: SyncStats) -> SyncStats:
        return SyncStats(
            self.documents_added + other.documents_added,
            self.documents_updated + other.documents_updated,
            self.documents_deleted + other.documents_deleted,
            self.documents_unchanged + other.documents_unchanged,
            self.documents_read + other.documents_read,
            self.documents_skipped + other.documents_skipped,
            self.chunks_indexed + other.chunks_indexed,
            self.errors + other.errors,
        )


@dataclass(frozen=True, slots=True)
class SyncState:
    """Where the sync of a source stands; one row per source."""

    source_id: UUID
    status: SyncStatus = SyncStatus.IDLE
    task_id: UUID | None = None
    """The task that does or did it; only its own attempts go on from ``cursor``."""
    cursor: str | None = None
    """Opaque to everybody but the connector; None: from the beginning."""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    last_sync_at: datetime | None = None
    """When the last complete sync ended."""
    error: str | None = None
    items_expected: int | None = None
    """How many items the connector counted at the start; None: not known."""
    items_done: int = 0
    stats: SyncStats = field(default_factory=SyncStats)


class IssueKind(StrEnum):
    """Why an item of a source is not a document, or not all of one."""

    FAILED = "failed"
    """Could not be read or parsed; tried again later."""
    SKIPPED = "skipped"
    """Left out on purpose, as a whole or from some point on; looked at again when it changes."""


@dataclass(frozen=True, slots=True)
class ItemIssue:
    """One item of a source that did not become a document, or not with all of its text, with the reason."""

    external_id: str
    kind: IssueKind
    code: str
    """Kebab case, listed in ``docs/reference/errors.md``: ``unreadable``, ``vanished``, ``binary`` ..."""
    reason: str
    fingerprint: str | None = None
