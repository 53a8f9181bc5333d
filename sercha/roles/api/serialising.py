"""From the domain's values to the API's shapes."""

from __future__ import annotations

from dataclasses import asdict

from sercha.domain import account, document, source, task
from sercha.domain.query import SearchMode
from sercha.roles.api import shapes
from sercha.services.ports.accounts import NodeState
from sercha.services.ports.documents import Twin
from sercha.services.search import SearchPage
from sercha.services.sources import SourceSummary


def user_summary(user: account.User) -> shapes.UserSummary:
    """Return a user as users are listed."""
    return shapes.UserSummary(
        id=user.id,
        email=user.email,
        name=user.name,
        role=user.role,
        active=user.active,
        last_login_at=user.last_login_at,
    )


def full_user(user: account.User) -> shapes.User:
    """Return a user in full."""
    return shapes.User(**asdict(user))


def login_response(session: account.Session) -> shapes.LoginResponse:
    """Return a session's tokens."""
    return shapes.LoginResponse(
        token=session.token,
        refresh_token=session.refresh_token,
        expires_at=session.expires_at,
        user=user_summary(session.user),
    )


def team_settings(settings: account.TeamSettings) -> shapes.Settings:
    """Return the team's settings."""
    fields = asdict(settings)
    fields["default_search_mode"] = SearchMode(settings.default_search_mode)
    return shapes.Settings(**fields)


def full_source(given: source.Source) -> shapes.Source:
    """Return a source."""
    return shapes.Source(**asdict(given))


def source_summary(summary: SourceSummary) -> shapes.SourceSummary:
    """Return a source with its counters."""
    return shapes.SourceSummary(
        source=full_source(summary.source),
        document_count=summary.document_count,
        sync_status=summary.state.status,
        last_sync_at=summary.state.last_sync_at,
    )


def sync_state(state: source.SyncState) -> shapes.SyncState:
    """Return where a sync stands."""
    return shapes.SyncState(**asdict(state))


def item_issue(issue: source.ItemIssue) -> shapes.ItemIssue:
    """Return an item that is no document."""
    return shapes.ItemIssue(
        external_id=issue.external_id, kind=issue.kind, code=issue.code, reason=issue.reason
    )


def full_document(given: document.Document) -> shapes.Document:
    """Return a document; engines follow within moments, so it counts as indexed when it last changed."""
    return shapes.Document(
        id=str(given.id),
        source_id=given.source_id,
        external_id=given.external_id,
        path=given.path,
        title=given.title,
        mime_type=given.mime_type,
        metadata=given.metadata,
        created_at=given.created_at,
        updated_at=given.updated_at,
        indexed_at=given.updated_at,
    )


def chunk(given: document.Chunk, content: str, of: document.Document) -> shapes.Chunk:
    """Return a chunk; its id is made of the document's and its position."""
    return shapes.Chunk(
        id=f"{of.id}-{given.position}",
        document_id=str(of.id),
        source_id=of.source_id,
        content=content,
        position=given.position,
        start_char=given.start,
        end_char=given.end,
        created_at=of.updated_at,
        heading=given.heading or None,
    )


def document_with_chunks(
    of: document.Document, chunks: list[tuple[document.Chunk, str]]
) -> shapes.DocumentWithChunks:
    """Return a document with all its chunks."""
    return shapes.DocumentWithChunks(
        document=full_document(of), chunks=[chunk(each, content, of) for each, content in chunks]
    )


def place(twin: Twin) -> shapes.Place:
    """Return where a document's content is too."""
    return shapes.Place(document_id=str(twin.id), path=twin.path)


def search_result(page: SearchPage) -> shapes.SearchResult:
    """Return one page of what was found."""
    return shapes.SearchResult(
        query=page.query.text,
        mode=page.mode,
        results=[
            shapes.RankedChunk(
                chunk=chunk(result.chunk, result.content, result.document),
                document=full_document(result.document),
                score=result.score,
                highlights=[result.snippet.html] if result.snippet.html else [],
                also_at=[place(twin) for twin in result.twins] or None,
            )
            for result in page.results
        ],
        total_count=page.total,
        took=page.took_ns,
        degraded=bool(page.degraded),
        coverage=page.coverage,
    )


def full_task(given: task.Task) -> shapes.Task:
    """Return a task."""
    fields = asdict(given)
    del fields["metadata"]
    return shapes.Task(**fields)


def node(given: NodeState) -> shapes.Node:
    """Return a process with what it is doing."""
    return shapes.Node(
        **asdict(given.node),
        is_alive=given.is_alive,
        running=[shapes.RunningTask(**asdict(each)) for each in given.running],
    )
