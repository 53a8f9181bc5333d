"""Which model makes vectors."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field
from quart import Blueprint

from sercha.domain.account import Role
from sercha.domain.query import SearchMode
from sercha.errors import Rejected
from sercha.roles.api import ai_shapes, shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing, RequestModel
from sercha.services.ai_settings import AIProvider, EmbeddingChange
from sercha.services.ports.embeddings import StoredModel

REQUESTS_PER_MINUTE_MAX = 1_000_000
MODEL_CHARS_MAX = 200
TEXT_CHARS_MAX = 2_000

blueprint = Blueprint("ai_settings", __name__)

_Text = Annotated[
    Annotated[str, Field(max_length=TEXT_CHARS_MAX)] | None,
    BeforeValidator(lambda given: None if given == "" else given),
]
_Provider = Annotated[
    AIProvider | None, BeforeValidator(lambda given: None if given == "" else given)
]


class EmbeddingSettingsInput(RequestModel):
    """A model; with an empty provider: none."""

    provider: _Provider = None
    model: str = Field(default="", max_length=MODEL_CHARS_MAX)
    base_url: _Text = None
    api_key: _Text = Field(default=None, repr=False)
    requests_per_minute: int | None = Field(default=None, ge=1, le=REQUESTS_PER_MINUTE_MAX)


class LLMSettingsInput(RequestModel):
    """For clients of the Go program: Sercha uses no language model."""

    provider: _Provider = None
    model: _Text = None
    base_url: _Text = None
    api_key: _Text = Field(default=None, repr=False)


class UpdateAISettingsRequest(RequestModel):
    """What to change; what is not given stays."""

    embedding: EmbeddingSettingsInput | None = None
    llm: LLMSettingsInput | None = None


@blueprint.get("/settings/ai")
@operation("Show which model makes vectors", ai_shapes.AISettingsResponse, role=Role.ADMIN)
async def show_ai_settings(call: Call[Nothing, Nothing]) -> ai_shapes.AISettingsResponse:
    """Return the model that was asked for last, without its key."""
    wanted = await call.services.ai.wanted()
    return ai_shapes.AISettingsResponse(
        embedding=_provider(wanted), llm=ai_shapes.AIProviderInfo(is_configured=False)
    )


@blueprint.put("/settings/ai")
@operation(
    "Choose the model that makes vectors",
    ai_shapes.AISettingsStatus,
    role=Role.ADMIN,
    body=UpdateAISettingsRequest,
    errors=(503,),
)
async def change_ai_settings(
    call: Call[UpdateAISettingsRequest, Nothing],
) -> ai_shapes.AISettingsStatus:
    """Ask the endpoint, then let its model be the wanted one."""
    embedding, llm = call.body.embedding, call.body.llm
    if llm is not None and llm.provider is not None:
        raise Rejected("llm: Sercha uses no language model; leave it out", code="bad-field")
    if embedding is not None:
        await call.services.ai.change(_change(embedding), changed_by=call.user.id)
    return await _status(call)


@blueprint.get("/settings/ai/status")
@operation("Show how vectors are doing", ai_shapes.AISettingsStatus, role=Role.VIEWER)
async def show_ai_status(call: Call[Nothing, Nothing]) -> ai_shapes.AISettingsStatus:
    """Return whether searches can use vectors, and how many documents have them."""
    return await _status(call)


@blueprint.post("/settings/ai/test")
@operation(
    "Ask the model for a vector", shapes.Status, role=Role.ADMIN, is_safe=True, errors=(409, 503)
)
async def test_ai_settings(call: Call[Nothing, Nothing]) -> shapes.Status:
    """Find out whether the endpoint answers."""
    await call.services.ai.test()
    return shapes.Status()


def _change(given: EmbeddingSettingsInput) -> EmbeddingChange | None:
    if given.provider is None:
        if given.model or given.base_url or given.api_key:
            raise Rejected("embedding.provider: is required", code="bad-field")
        return None
    return EmbeddingChange(
        given.provider,
        given.model.strip(),
        given.base_url,
        given.api_key,
        given.requests_per_minute,
    )


def _provider(stored: StoredModel | None) -> ai_shapes.AIProviderInfo:
    if stored is None:
        return ai_shapes.AIProviderInfo(is_configured=False)
    return ai_shapes.AIProviderInfo(
        provider=stored.provider,
        model=stored.model.model,
        base_url=stored.model.base_url,
        has_api_key=stored.sealed_key is not None,
        is_configured=True,
        requests_per_minute=stored.requests_per_minute,
    )


async def _status(
    call: Call[UpdateAISettingsRequest, Nothing] | Call[Nothing, Nothing],
) -> ai_shapes.AISettingsStatus:
    status = await call.services.ai.status()
    settings = await call.services.accounts.settings()
    vectors = await call.services.vectors()
    current = status.current
    is_usable = current is not None and status.is_available and vectors.is_usable
    mode = SearchMode(settings.default_search_mode) if is_usable else SearchMode.TEXT
    dimensions = None if current is None else current.model.dimensions
    return ai_shapes.AISettingsStatus(
        embedding=ai_shapes.AIServiceStatus(
            available=status.is_available,
            provider=None if current is None else current.provider,
            model=None if current is None else current.model.model,
            embedding_dim=dimensions,
        ),
        llm=ai_shapes.AIServiceStatus(available=False),
        vespa=ai_shapes.VespaServiceStatus(
            connected=vectors.is_vespa and vectors.is_healthy,
            schema_mode=("hybrid" if current else "bm25") if vectors.is_vespa else "",
            embeddings_enabled=vectors.is_vespa and current is not None,
            embedding_dim=dimensions if vectors.is_vespa else None,
            can_upgrade=False,
            healthy=vectors.is_vespa and vectors.is_healthy,
        ),
        effective_search_mode=mode,
        progress=[
            ai_shapes.AIProgress(
                model=stored.model.model,
                state=stored.state,
                documents=progress.documents,
                embedded=progress.done,
            )
            for stored, progress in status.progress
        ],
        message=vectors.message or None,
    )
