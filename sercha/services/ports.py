"""What the services need from the outside, as protocols; adapters implement them.

Everywhere: a call that is cancelled has either happened completely or not at all as far as the caller may
rely on it; errors of drivers are translated to `sercha.errors` inside the adapter, once.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from sercha.domain.account import TeamSettings, User
from sercha.domain.document import (
    Chunk,
    Document,
    DocumentDraft,
    DocumentId,
    ExtractedText,
    IndexedDocument,
)
from sercha.domain.query import SearchQuery
from sercha.domain.source import ItemIssue, Source, SyncState, SyncStats
from sercha.domain.task import Claim, NewTask, Outcome, Task, TaskState


class Clock(Protocol):
    """Wall time. Durations and deadlines use Trio's clock, never this one."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...


class Transaction(Protocol):
    """An open transaction of the truth, opaque to services: only handed from one port to another."""

    @property
    def is_open(self) -> bool: ...


class Database(Protocol):
    """Opens transactions; commits on a normal exit, rolls back on any exception or cancellation."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...


# --- Tasks -----------------------------------------------------------------------------------------------


class TaskQueue(Protocol):
    """The ledger of tasks. (task, owner, attempt) is a claim's token in every call."""

    async def enqueue(self, tx: Transaction, tasks: Sequence[NewTask]) -> list[UUID]:
        """Add tasks when *tx* commits; a task whose ``dedupe_key`` is queued already gives that one's id."""
        ...

    async def claim(self, owner: UUID, limit: int) -> list[Claim]:
        """Claim up to *limit* due tasks, by priority, due time, id; empty when there is nothing to do.

        A task whose tries are used up goes to the dead letters instead of being returned.
        """
        ...

    async def beat(self, owner: UUID, claims: Sequence[Claim]) -> set[UUID]:
        """Extend claims by `CLAIM_TTL`, in one statement; returns the task ids that are still ours."""
        ...

    async def settle(self, outcomes: Sequence[Outcome]) -> set[UUID]:
        """Record how attempts ended; returns the ids that were accepted. A lost claim is left alone."""
        ...

    async def give_back(self, claims: Sequence[Claim]) -> set[UUID]:
        """Return interrupted attempts to the queue, uncharged; merges into a queued twin."""
        ...

    async def verify(self, tx: Transaction, claim: Claim, *, progressed: bool = False) -> None:
        """Hold the claim's row until *tx* ends; ``progressed`` forgives the tries so far.

        Raises:
            ClaimLost: the claim is no longer ours; *tx* must not commit.
        """
        ...

    async def reap(self) -> int:
        """Give the tasks of dead workers back to the queue (or to the dead letters); how many."""
        ...

    async def cancel_keyed(self, tx: Transaction, concurrency_key: str) -> None:
        """Cancel all tasks with *concurrency_key* when *tx* commits."""
        ...

    async def get(self, task_id: UUID) -> Task | None: ...

    async def list(self, *, state: TaskState | None, limit: int) -> list[Task]: ...

    async def counts(self) -> dict[TaskState, int]: ...


class Subscription(Protocol):
    """One listener's view of a channel."""

    async def wait(self) -> None:
        """Return at once when a notice came since the last return, else when the next one comes.

        Also returns after the listening connection was lost and is back: something may have been missed.
        """
        ...


class Notices(Protocol):
    """Wake-ups from PostgreSQL (LISTEN/NOTIFY). A notice may be missed: poll as well."""

    def subscribe(self, channel: str) -> AbstractContextManager[Subscription]:
        """Count notices on *channel* from now on."""
        ...


# --- Sources and documents -------------------------------------------------------------------------------


class SourceStore(Protocol):
    """Sources and their sync states."""

    async def add(self, tx: Transaction, source: Source) -> None: ...

    async def get(self, source_id: UUID) -> Source | None: ...

    async def list(self) -> list[Source]: ...

    async def update(self, tx: Transaction, source: Source) -> None: ...

    async def remove(self, tx: Transaction, source_id: UUID) -> bool:
        """Remove the source, its sync state and issues; False when there is none."""
        ...

    async def sync_state(self, source_id: UUID) -> SyncState | None: ...

    async def sync_states(self) -> list[SyncState]: ...

    async def save_sync_state(self, tx: Transaction, state: SyncState) -> None: ...

    async def document_counts(self) -> dict[UUID, int]: ...

    async def hold(self, tx: Transaction, source_id: UUID) -> bool:
        """Keep the source from being removed until *tx* ends; False when it is gone."""
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


@dataclass(frozen=True, slots=True)
class Passage:
    """One chunk of a document with its content."""

    document: Document
    chunk: Chunk
    content: str


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

    async def read(self, document_ids: Sequence[DocumentId]) -> dict[DocumentId, IndexedDocument]:
        """Documents with text and chunks; those deleted or unknown are left out."""
        ...

    async def passages(
        self, hits: Sequence[tuple[DocumentId, int]], principals: frozenset[str]
    ) -> dict[DocumentId, Passage]:
        """The chunk at each hit's position, where the document lives and *principals* may read it."""
        ...

    async def chunks(self, document_id: DocumentId) -> list[tuple[Chunk, str]]:
        """All chunks of a document with their content."""
        ...

    async def count(self) -> int: ...

    async def chunk_count(self) -> int: ...


# --- Connectors and parsing ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """One thing a source has, seen without reading it."""

    external_id: str
    path: str
    fingerprint: str
    size: int
    """Bytes."""
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Items of the half-open key range ``(after, through]``, sorted bytewise by external id.

    Whatever the store knows in that range and the page does not list is gone, unless it begins with one
    of ``unknown_prefixes`` (a folder that could not be read: nothing is known about what is below it).
    """

    items: tuple[Item, ...]
    after: str | None
    through: str | None
    """None: the range has no upper end; this is the last page."""
    cursor: str | None
    """Where to go on after this page; None after the last one."""
    issues: tuple[ItemIssue, ...] = ()
    """Items that cannot become documents, known without reading them (a FIFO, a link out of the root)."""
    unknown_prefixes: tuple[str, ...] = ()


class Connector(Protocol):
    """Reads one kind of source."""

    async def validate(self, config: dict[str, object]) -> dict[str, object]:
        """Return the configuration in its canonical form.

        Raises:
            Rejected: naming the field that is wrong, or the path that is not allowed.
        """
        ...

    async def count(self, config: dict[str, object], *, limit: int) -> int | None:
        """How many items there are, for a progress bar; None when there are more than *limit*."""
        ...

    def pages(self, config: dict[str, object], cursor: str | None) -> AsyncIterator[ItemPage]:
        """List the source from *cursor* on (None: from the start), in pages of bounded size.

        Raises:
            Transient: the source is away as a whole (its root is missing, say); nothing may be deleted.
        """
        ...

    async def fetch(self, item: Item) -> bytes:
        """Read one item.

        Raises:
            ItemFailed: with the reason; the sync goes on with the next item.
        """
        ...


class TextExtractor(Protocol):
    """Turns bytes into text."""

    async def extract(self, item: Item, content: bytes) -> ExtractedText:
        """Extract text, off the loop when that is long.

        Raises:
            ItemFailed: not a document (binary), or broken.
        """
        ...


# --- Search ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """How far a copy has followed the change feed. Only meaningful in the database named by ``timeline``."""

    consumer_id: str
    snapshot: str
    """A ``pg_snapshot`` as text."""
    timeline: str
    """``system_identifier`` and timeline of the database; another one: the copy must be rebuilt."""


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Documents that changed between two positions."""

    document_ids: tuple[DocumentId, ...]
    position: FeedPosition


class ChangeFeed(Protocol):
    """Which documents changed, in the order in which snapshots see them; nothing is ever skipped."""

    async def register(self, consumer_id: str) -> FeedPosition:
        """(Re-)register a consumer at the present; what was committed before must be read by a scan."""
        ...

    async def poll(self, position: FeedPosition) -> ChangeBatch | None:
        """What changed since *position*; an empty batch when nothing did.

        None when the consumer is not registered, or the database is another one: rebuild.
        """
        ...

    async def advance(self, position: FeedPosition) -> None:
        """Record that everything up to *position* is safely in the copy."""
        ...

    async def unregister(self, consumer_id: str) -> None: ...

    async def trim(self) -> None:
        """Forget changes that all consumers have seen, and consumers that fell silent."""
        ...

    def scan(self, *, batch: int) -> AsyncIterator[tuple[DocumentId, ...]]:
        """All live document ids, ascending, in batches: for a rebuild."""
        ...

    def versions(self, *, batch: int) -> AsyncIterator[list[DocumentVersion]]:
        """All live documents' versions by ascending id: for verify."""
        ...


@dataclass(frozen=True, slots=True, order=True)
class DocumentVersion:
    """What verify compares."""

    id: DocumentId
    version: int
    chunk_count: int


@dataclass(frozen=True, slots=True)
class Change:
    """One document's present state; ``document`` None: it is gone."""

    document_id: DocumentId
    document: IndexedDocument | None


@dataclass(frozen=True, slots=True)
class IndexHit:
    """A document found, with its best chunk."""

    document_id: DocumentId
    chunk_position: int
    score: float


@dataclass(frozen=True, slots=True)
class IndexPage:
    """Hits by (-score, document id): the same order on every copy in the same state."""

    hits: tuple[IndexHit, ...]
    total: int
    """Documents that match in all; exact up to `sercha.domain.query.WINDOW_MAX`, a lower bound above."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Differences between a copy and the truth; all zero when they agree."""

    checked: int
    missing: int = 0
    stale: int = 0
    ghost: int = 0
    examples: tuple[str, ...] = field(default=())

    @property
    def differences(self) -> int:
        return self.missing + self.stale + self.ghost


class SearchIndex(Protocol):
    """One engine's copy of the documents: a consumer of the change feed, never written to by a sync."""

    @property
    def generation(self) -> str:
        """Which generation of the index this copy belongs to."""
        ...

    async def position(self) -> FeedPosition | None:
        """How far this copy is; None: it is empty or was thrown away, rebuild it."""
        ...

    async def apply(self, changes: Sequence[Change], position: FeedPosition | None) -> None:
        """Make *changes* durable and searchable; with *position*, in the same commit.

        Idempotent. A batch without a position is part of a larger one: a crash before the position is
        recorded makes the whole run again. Cancelled: committed or not, never half.

        Raises:
            Transient: the copy could not be written (disk full, say); its last commit still answers.
        """
        ...

    async def replace(
        self, batches: AsyncIterable[Sequence[Change]], position: FeedPosition
    ) -> None:
        """Put *batches* in the place of everything there is, in one commit with *position*.

        The old content answers until then, and stays when this is cancelled or *batches* raises.

        Raises:
            Transient: as in `apply`.
        """
        ...

    async def search(self, query: SearchQuery, principals: frozenset[str]) -> IndexPage:
        """Find documents whose readers meet *principals*, filtered inside the engine."""
        ...

    def spans(self, query: SearchQuery, text: str) -> list[tuple[int, int]]:
        """Where the query's terms are in *text*: half-open character spans, ascending, not overlapping."""
        ...

    async def verify(self, truth: AsyncIterable[list[DocumentVersion]]) -> VerifyReport:
        """Compare with the truth, which comes in ascending batches."""
        ...


# --- Accounts and nodes ----------------------------------------------------------------------------------


class AccountStore(Protocol):
    """Users, sessions and the team's settings."""

    async def user_count(self, tx: Transaction | None = None) -> int: ...

    async def add_user(self, tx: Transaction, user: User, password_hash: str) -> None:
        """Raises `Conflict` when the email is taken."""
        ...

    async def lock_setup(self, tx: Transaction) -> None:
        """Let one first set-up at a time go on, until *tx* ends."""
        ...

    async def user(self, user_id: UUID) -> User | None: ...

    async def users(self) -> list[User]: ...

    async def credentials(self, email: str) -> tuple[User, str] | None:
        """The user and the password's hash."""
        ...

    async def remove_user(self, tx: Transaction, user_id: UUID) -> bool: ...

    async def count_admins(self, tx: Transaction) -> int: ...

    async def start_session(
        self, user_id: UUID, session_id: UUID, refresh_hash: bytes, expires_at: datetime
    ) -> None:
        """Keep a session and note the log-in."""
        ...

    async def rotate_session(
        self, refresh_hash: bytes, new_hash: bytes, expires_at: datetime
    ) -> tuple[UUID, User] | None:
        """Replace a valid refresh token; (session id, user), or None when it is not valid."""
        ...

    async def session_user(self, session_id: UUID) -> User | None:
        """The active user of a live session."""
        ...

    async def end_session(self, session_id: UUID) -> None: ...

    async def settings(self) -> TeamSettings: ...

    async def save_settings(self, tx: Transaction, settings: TeamSettings) -> None: ...


class Passwords(Protocol):
    """Slow hashes of passwords, made off the loop, few at a time (each takes much memory)."""

    async def hash(self, password: str) -> str:
        """Return a salted hash with its parameters. Cancellation waits for the thread."""
        ...

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether the password fits; None (no such user) takes as long as a wrong password."""
        ...


class Tokens(Protocol):
    """Signed tokens that name a session; whether it still lives only the store knows."""

    def issue(
        self, user: User, session_id: UUID, *, issued_at: datetime, expires_at: datetime
    ) -> str:
        """Return a signed token."""
        ...

    def session_of(self, token: str) -> UUID:
        """Return the session that a token names.

        Raises:
            Unauthenticated: not ours, forged, or past its end (``token-expired``).
        """
        ...


@dataclass(frozen=True, slots=True)
class Node:
    """A process that is alive, or was."""

    id: UUID
    role: str
    host: str
    pid: int
    version: str
    started_at: datetime
    seen_at: datetime


class NodeStore(Protocol):
    """Who lives."""

    async def beat(self, node: Node) -> None: ...

    async def leave(self, node_id: UUID) -> None: ...

    async def list(self) -> list[Node]: ...
