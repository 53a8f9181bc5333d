"""Syncs: ask for one, see where they stand, and what they could not read or not in full."""

from __future__ import annotations

from quart import Blueprint

from sercha.domain.account import Role
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing, PageQuery
from sercha.roles.api.serialising import item_issue, sync_state

blueprint = Blueprint("sync", __name__)


@blueprint.post("/sources/<source_id>/sync")
@operation(
    "Ask for a sync",
    shapes.SyncAcceptedResponse,
    role=Role.ADMIN,
    status=202,
    errors=(404, 409),
)
async def request_sync(call: Call[Nothing, Nothing]) -> shapes.SyncAcceptedResponse:
    """Ask for a sync; one that waits already answers further requests."""
    source_id = call.uuid("source")
    task_id = await call.services.sources.request_sync(source_id)
    return shapes.SyncAcceptedResponse(source_id=source_id, task_id=task_id)


@blueprint.get("/sources/<source_id>/sync")
@operation("Show a sync", shapes.SyncState, role=Role.ADMIN, errors=(404,))
async def show_sync(call: Call[Nothing, Nothing]) -> shapes.SyncState:
    """Return where the sync of a source stands."""
    return sync_state(await call.services.sources.sync_state(call.uuid("source")))


@blueprint.get("/sources/sync-states")
@operation("List syncs", list[shapes.SyncState], role=Role.ADMIN)
async def list_syncs(call: Call[Nothing, Nothing]) -> list[shapes.SyncState]:
    """Return where the syncs of all sources stand."""
    return [sync_state(state) for state in await call.services.sources.sync_states()]


@blueprint.get("/sources/<source_id>/issues")
@operation(
    "List what could not be read, or only in part",
    shapes.IssuesResponse,
    role=Role.ADMIN,
    query=PageQuery,
    errors=(404,),
)
async def list_issues(call: Call[Nothing, PageQuery]) -> shapes.IssuesResponse:
    """Return the items of a source that are no documents, or not with all of their text, with the reasons."""
    page = call.query
    issues = await call.services.sources.issues(
        call.uuid("source"), limit=page.limit, offset=page.offset
    )
    return shapes.IssuesResponse(
        issues=[item_issue(issue) for issue in issues], limit=page.limit, offset=page.offset
    )
