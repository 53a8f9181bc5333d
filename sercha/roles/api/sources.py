"""Sources: add, change, switch, remove, and what they hold."""

from __future__ import annotations

from quart import Blueprint

from sercha.domain.account import Role
from sercha.errors import Rejected
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing, OptionalText, PageQuery, RequestModel
from sercha.roles.api.serialising import full_document, full_source, source_summary

blueprint = Blueprint("sources", __name__)


class SourceConfig(RequestModel):
    """What a connector needs; which fields count depends on the provider, which checks them."""

    paths: list[str] | None = None
    include_hidden: bool | None = None
    exclude: list[str] | None = None
    mount_points: list[str] | None = None
    base_url: str | None = None
    branch: str | None = None
    channels: list[str] | None = None
    credential_id: str | None = None
    database_ids: list[str] | None = None
    extra: dict[str, str] | None = None
    folder_ids: list[str] | None = None
    jql: str | None = None
    owner: str | None = None
    page_ids: list[str] | None = None
    project_keys: list[str] | None = None
    repository: str | None = None
    space_keys: list[str] | None = None

    def given(self) -> dict[str, object]:
        """Return the fields that say something: typed clients send empty ones for the rest."""
        return {
            name: value
            for name, value in self.model_dump(exclude_unset=True, exclude_none=True).items()
            if value not in ("", [], {}) or name == "paths"
        }


class CreateSourceRequest(RequestModel):
    """A new source."""

    name: str
    provider_type: str
    config: SourceConfig = SourceConfig()
    installation_id: OptionalText = None


class UpdateSourceRequest(RequestModel):
    """What to change; the rest stays. A configuration replaces the former one as a whole."""

    name: str | None = None
    config: SourceConfig | None = None
    enabled: bool | None = None


class UpdateSelectionRequest(RequestModel):
    """Which containers to index; empty: all."""

    selected_containers: list[str] | None = None


@blueprint.get("/providers")
@operation("List the kinds of sources", list[shapes.ProviderListItem], role=Role.ADMIN)
async def list_providers(call: Call[Nothing, Nothing]) -> list[shapes.ProviderListItem]:
    """Return the kinds of sources that this version can read."""
    return [
        shapes.ProviderListItem(
            type=provider,
            name="Local files",
            description="Folders on the machines that run the workers",
            auth_methods=[],
            configured=True,
            enabled=True,
        )
        for provider in (shapes.ProviderType.LOCALFS,)
    ]


@blueprint.get("/sources")
@operation("List sources", list[shapes.SourceSummary], role=Role.MEMBER)
async def list_sources(call: Call[Nothing, Nothing]) -> list[shapes.SourceSummary]:
    """Return all sources by name."""
    return [source_summary(summary) for summary in await call.services.sources.list()]


@blueprint.post("/sources")
@operation(
    "Add a source",
    shapes.Source,
    role=Role.ADMIN,
    body=CreateSourceRequest,
    status=201,
    errors=(409,),
)
async def create_source(call: Call[CreateSourceRequest, Nothing]) -> shapes.Source:
    """Add a source; its first sync is asked for separately."""
    body = call.body
    if body.installation_id is not None:
        raise Rejected("installation_id: there are no installations", code="bad-field")
    source = await call.services.sources.create(
        body.name, body.provider_type, body.config.given(), created_by=call.user.id
    )
    return full_source(source)


@blueprint.get("/sources/<source_id>")
@operation("Show a source", shapes.Source, role=Role.MEMBER, errors=(404,))
async def show_source(call: Call[Nothing, Nothing]) -> shapes.Source:
    """Return one source."""
    return full_source(await call.services.sources.get(call.uuid("source")))


@blueprint.put("/sources/<source_id>")
@operation(
    "Change a source",
    shapes.Source,
    role=Role.ADMIN,
    body=UpdateSourceRequest,
    errors=(404, 409),
)
async def update_source(call: Call[UpdateSourceRequest, Nothing]) -> shapes.Source:
    """Change what is given."""
    body = call.body
    source = await call.services.sources.update(
        call.uuid("source"),
        name=body.name,
        config=body.config.given() if body.config is not None else None,
        enabled=body.enabled,
    )
    return full_source(source)


@blueprint.delete("/sources/<source_id>")
@operation("Remove a source", shapes.Status, role=Role.ADMIN, errors=(404,))
async def remove_source(call: Call[Nothing, Nothing]) -> shapes.Status:
    """Remove a source with its documents."""
    await call.services.sources.remove(call.uuid("source"))
    return shapes.Status()


@blueprint.post("/sources/<source_id>/enable")
@operation("Enable a source", shapes.Status, role=Role.ADMIN, errors=(404,))
async def enable_source(call: Call[Nothing, Nothing]) -> shapes.Status:
    """Let a source be synced."""
    await call.services.sources.update(call.uuid("source"), enabled=True)
    return shapes.Status()


@blueprint.post("/sources/<source_id>/disable")
@operation("Disable a source", shapes.Status, role=Role.ADMIN, errors=(404,))
async def disable_source(call: Call[Nothing, Nothing]) -> shapes.Status:
    """Keep a source from being synced; its documents stay."""
    await call.services.sources.update(call.uuid("source"), enabled=False)
    return shapes.Status()


@blueprint.put("/sources/<source_id>/selection")
@operation(
    "Select containers",
    shapes.Status,
    role=Role.ADMIN,
    body=UpdateSelectionRequest,
    errors=(404,),
)
async def select_containers(call: Call[UpdateSelectionRequest, Nothing]) -> shapes.Status:
    """Choose which containers are indexed; folders have none, so only "all" can be chosen."""
    source = await call.services.sources.get(call.uuid("source"))
    if call.body.selected_containers:
        raise Rejected(
            f"selected_containers: a source of type {source.provider_type} has none; change config.paths",
            code="bad-field",
        )
    return shapes.Status()


@blueprint.get("/sources/<source_id>/documents")
@operation(
    "List a source's documents",
    shapes.SourceDocumentsResponse,
    role=Role.MEMBER,
    query=PageQuery,
    errors=(404,),
)
async def list_documents(call: Call[Nothing, PageQuery]) -> shapes.SourceDocumentsResponse:
    """Return one page of the documents that the caller may read."""
    page = call.query
    source = await call.services.sources.get(call.uuid("source"))
    documents, total = await call.services.documents.of_source(
        source.id, call.user.principals, limit=page.limit, offset=page.offset
    )
    return shapes.SourceDocumentsResponse(
        documents=[full_document(document) for document in documents],
        total=total,
        limit=page.limit,
        offset=page.offset,
    )
