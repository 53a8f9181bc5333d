"""What administrators look at: counts, processes, installations."""

from __future__ import annotations

from dataclasses import asdict

from quart import Blueprint

from sercha.domain.account import Role
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing
from sercha.roles.api.serialising import node

INDEX_CARE_TIME = 600.0
"""Seconds for what reads the whole truth."""

blueprint = Blueprint("admin", __name__)


@blueprint.get("/admin/stats")
@operation("Count everything", shapes.AdminStatsResponse, role=Role.ADMIN)
async def stats(call: Call[Nothing, Nothing]) -> shapes.AdminStatsResponse:
    """Return how much of everything there is."""
    services = call.services
    sources = [summary.source for summary in await services.sources.list()]
    documents, chunks = await services.documents.counts()
    return shapes.AdminStatsResponse(
        users=shapes.Total(total=len(await services.accounts.users())),
        sources=shapes.SourceStats(
            total=len(sources), enabled=sum(source.enabled for source in sources)
        ),
        documents=shapes.Total(total=documents),
        chunks=shapes.Total(total=chunks),
        installations=shapes.Total(total=0),
    )


@blueprint.post("/admin/index/verify")
@operation(
    "Compare this process's index with the truth",
    shapes.VerifyReport,
    role=Role.ADMIN,
    request_time=INDEX_CARE_TIME,
    is_safe=True,
)
async def verify_index(call: Call[Nothing, Nothing]) -> shapes.VerifyReport:
    """Count the differences between this process's copy and the truth, once it has caught up."""
    report = await call.services.index.verify()
    return shapes.VerifyReport(**asdict(report), differences=report.differences)


@blueprint.post("/admin/index/rebuild")
@operation(
    "Make this process's index anew",
    shapes.Status,
    role=Role.ADMIN,
    request_time=INDEX_CARE_TIME,
    is_safe=True,
)
async def rebuild_index(call: Call[Nothing, Nothing]) -> shapes.Status:
    """Rebuild this process's copy from the truth and wait for the end; it goes on answering meanwhile."""
    await call.services.index.rebuild()
    return shapes.Status()


@blueprint.get("/nodes")
@operation("List processes", shapes.NodesResponse, role=Role.ADMIN)
async def list_nodes(call: Call[Nothing, Nothing]) -> shapes.NodesResponse:
    """Return the processes that live, or did lately, with what each is doing; the newest first."""
    return shapes.NodesResponse(nodes=[node(each) for each in await call.services.nodes.list()])


@blueprint.get("/installations")
@operation("List installations", list[str], role=Role.ADMIN)
async def list_installations(_: Call[Nothing, Nothing]) -> list[str]:
    """Return nothing: no kind of source of this version needs an installation."""
    return []
