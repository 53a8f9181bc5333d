"""What the API answers, in the shapes and names of the Go program that clients may come from.

What is absent is left out, as Go's ``omitempty`` does; lists are always there. Instants are RFC 3339 in UTC with
``Z``. Fields of ours that the Go program has not are marked so.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sercha.domain.account import Role
from sercha.domain.query import SearchMode
from sercha.domain.source import IssueKind, ProviderType, SyncStatus
from sercha.domain.task import TaskState

Instant = Annotated[datetime, AfterValidator(lambda instant: instant.astimezone(UTC))]


class Shape(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True)


class Problem(Shape):
    """An error."""

    error: str
    """A sentence for people."""
    code: str
    """Ours: stable, kebab case, for programs."""


class Status(Shape):
    """Done, and nothing else to say."""

    status: str = "ok"


class User(Shape):
    """A user in full."""

    id: UUID
    email: str
    name: str
    role: Role
    active: bool
    team_id: UUID
    created_at: Instant
    updated_at: Instant
    last_login_at: Instant | None = None


class UserSummary(Shape):
    """A user as users are listed."""

    id: UUID
    email: str
    name: str
    role: Role
    active: bool
    last_login_at: Instant | None = None


class SetupResponse(Shape):
    """The first administrator."""

    user: User
    message: str


class LoginResponse(Shape):
    """Tokens; the refresh token is good for one use."""

    token: str
    refresh_token: str
    expires_at: Instant
    user: UserSummary


class Settings(Shape):
    """The team's settings."""

    team_id: UUID
    default_search_mode: SearchMode
    results_per_page: int
    max_results_per_page: int
    sync_enabled: bool
    sync_interval_minutes: int
    semantic_search_enabled: bool
    auto_suggest_enabled: bool
    updated_at: Instant
    updated_by: UUID | None = None


class Source(Shape):
    """A place documents come from."""

    id: UUID
    name: str
    provider_type: ProviderType
    config: dict[str, Any]
    enabled: bool
    installation_id: str | None = None
    selected_containers: list[str] = Field(default_factory=list[str])
    created_at: Instant
    updated_at: Instant
    created_by: UUID | None = None


class SourceSummary(Shape):
    """A source as sources are listed."""

    source: Source
    document_count: int
    sync_status: SyncStatus
    last_sync_at: Instant | None = None


class SyncStats(Shape):
    """Counters of one sync."""

    documents_added: int
    documents_updated: int
    documents_deleted: int
    chunks_indexed: int
    errors: int
    documents_unchanged: int
    """Ours, as the next two."""
    documents_read: int
    documents_skipped: int


class SyncState(Shape):
    """Where the sync of a source stands."""

    source_id: UUID
    status: SyncStatus
    cursor: str | None = None
    started_at: Instant | None = None
    completed_at: Instant | None = None
    last_sync_at: Instant | None = None
    next_sync_at: Instant | None = None
    error: str | None = None
    stats: SyncStats
    items_expected: int | None = None
    """Ours, as the next one: for a progress bar."""
    items_done: int


class SyncAcceptedResponse(Shape):
    """A sync that was asked for."""

    status: str = "accepted"
    source_id: UUID
    task_id: UUID
    """Ours."""


class ItemIssue(Shape):
    """Ours: an item of a source that is no document, with the reason."""

    external_id: str
    kind: IssueKind
    code: str
    reason: str


class IssuesResponse(Shape):
    """Ours: one page of a source's issues."""

    issues: list[ItemIssue]
    limit: int
    offset: int


class Document(Shape):
    """A document without its text."""

    id: str
    source_id: UUID
    external_id: str
    path: str
    title: str
    mime_type: str
    metadata: dict[str, str]
    created_at: Instant
    updated_at: Instant
    indexed_at: Instant


class Chunk(Shape):
    """A part of a document's text; the span counts characters."""

    id: str
    document_id: str
    source_id: UUID
    content: str
    position: int
    start_char: int
    end_char: int
    created_at: Instant
    heading: str | None = None
    """Ours: the headings above the chunk."""


class DocumentWithChunks(Shape):
    """A document with all its text."""

    document: Document
    chunks: list[Chunk]


class SourceDocumentsResponse(Shape):
    """One page of a source's documents."""

    documents: list[Document]
    total: int
    limit: int
    offset: int


class Place(Shape):
    """Ours: another document with the very same content."""

    document_id: str
    path: str


class RankedChunk(Shape):
    """A document that was found, with its best chunk."""

    chunk: Chunk
    document: Document
    score: float
    highlights: list[str]
    """HTML: escaped text with ``<mark>`` as the only element."""
    also_at: list[Place] | None = None


class SearchResult(Shape):
    """One page of what was found."""

    query: str
    mode: SearchMode
    """The mode that answered."""
    results: list[RankedChunk]
    total_count: int
    took: int
    """Nanoseconds."""
    degraded: bool
    """A part of the documents could not be searched: what is missing here may exist all the same."""
    coverage: int
    """Percentage of the documents that were searched, as far as is known."""


class ProviderListItem(Shape):
    """A kind of source."""

    type: ProviderType
    name: str
    description: str
    auth_methods: list[str]
    configured: bool
    enabled: bool
    docs_url: str | None = None


class Total(Shape):
    """How many there are."""

    total: int


class SourceStats(Shape):
    """How many sources there are, and how many of them are enabled."""

    total: int
    enabled: int


class AdminStatsResponse(Shape):
    """How much of everything there is."""

    users: Total
    sources: SourceStats
    documents: Total
    chunks: Total
    installations: Total


class Task(Shape):
    """Ours: a task."""

    id: UUID
    kind: str
    state: TaskState
    payload: dict[str, Any]
    attempt: int
    tries: int
    tries_max: int
    created_at: Instant
    run_at: Instant
    finished_at: Instant | None = None
    last_error: str | None = None
    owner: UUID | None = None


class TaskAcceptedResponse(Shape):
    """Ours: a task that waits now."""

    status: str = "accepted"
    task_id: UUID


class TasksResponse(Shape):
    """Ours: one page of tasks, the newest first, and how many there are in each state."""

    tasks: list[Task]
    counts: dict[TaskState, int]


class VerifyReport(Shape):
    """Ours: how this process's copy of the index differs from the truth."""

    checked: int
    missing: int
    stale: int
    ghost: int
    differences: int
    examples: list[str]


class IndexState(Shape):
    """Ours: how this process's copy of the index is doing."""

    generation: str
    is_caught_up: bool
    is_rebuilding: bool
    applied: int
    pending: int
    lag: float
    error: str | None


class RunningTask(Shape):
    """Ours: what a process is doing."""

    task_id: UUID
    kind: str
    attempt: int
    claimed_at: Instant
    source_id: UUID | None
    source_name: str | None
    items_done: int | None
    items_expected: int | None


class Node(Shape):
    """Ours: a process."""

    id: UUID
    role: str
    host: str
    pid: int
    version: str
    started_at: Instant
    seen_at: Instant
    is_alive: bool
    running: list[RunningTask]


class NodesResponse(Shape):
    """Ours: the processes that live, or did lately."""

    nodes: list[Node]


class ComponentHealth(Shape):
    """How one component is doing."""

    status: str
    message: str | None = None


class HealthResponse(Shape):
    """How the process is doing."""

    status: str
    components: dict[str, ComponentHealth]


class VersionResponse(Shape):
    """Which version runs."""

    version: str
