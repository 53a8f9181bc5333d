"""What the API answers about models, in the shapes and names of the Go program; see `sercha.roles.api.shapes`."""

from __future__ import annotations

from sercha.domain.query import SearchMode
from sercha.roles.api.shapes import Shape
from sercha.services.ports.embeddings import ModelState


class AIProviderInfo(Shape):
    """What is configured; never a key."""

    provider: str | None = None
    model: str | None = None
    base_url: str | None = None
    has_api_key: bool = False
    is_configured: bool
    requests_per_minute: int | None = None
    """Ours."""


class AISettingsResponse(Shape):
    """The models of a team."""

    embedding: AIProviderInfo
    llm: AIProviderInfo


class AIServiceStatus(Shape):
    """Whether a model answers."""

    available: bool
    provider: str | None = None
    model: str | None = None
    embedding_dim: int | None = None


class VespaServiceStatus(Shape):
    """Whether Vespa answers, where it is the engine."""

    connected: bool
    schema_mode: str
    """``hybrid``, ``bm25``, or empty without Vespa."""
    embeddings_enabled: bool
    embedding_dim: int | None = None
    can_upgrade: bool
    healthy: bool


class AIProgress(Shape):
    """Ours: how many documents have the vectors of a model."""

    model: str
    state: ModelState
    documents: int
    embedded: int


class AISettingsStatus(Shape):
    """How vectors are doing."""

    embedding: AIServiceStatus
    llm: AIServiceStatus
    vespa: VespaServiceStatus
    effective_search_mode: SearchMode
    """How a search is answered that asks for no mode."""
    progress: list[AIProgress]
    """Ours: of the current model, and of the one that will take its place."""
    message: str | None = None
    """Ours: why the engine cannot use vectors."""
