"""Models at a stand-in, and the work that makes their vectors, on a real database."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from sercha.adapters.embeddings import OpenAIEmbedder, open_embedder
from sercha.domain.embedding import EmbeddingModel
from sercha.services.embedders import open_embedders
from sercha.services.embedding import EmbeddingWork, HasAll
from sercha.services.ports.embeddings import StoredModel
from tests.support.embeddings import EmbeddingEndpoint
from tests.support.truth import Truth


def stored_model(endpoint: EmbeddingEndpoint, name: str = "words", **changes) -> StoredModel:
    """Return the model *name* at *endpoint*."""
    return StoredModel(EmbeddingModel(endpoint.url, name, endpoint.dimensions), "ollama", **changes)


async def want(truth: Truth, stored: StoredModel) -> StoredModel:
    """Let *stored* be the model that is wanted."""
    async with truth.pool.transaction() as tx:
        await truth.embeddings.configure(tx, stored, changed_by=None)
    return stored


def open_client(
    stored: StoredModel, call_seconds: float = 1.0
) -> AbstractAsyncContextManager[OpenAIEmbedder]:
    """Open a client that gives up soon."""
    return open_embedder(
        stored.model.base_url,
        stored.model.model,
        dimensions=stored.model.dimensions,
        call_seconds=call_seconds,
    )


@asynccontextmanager
async def open_work(
    truth: Truth, *, has_all: HasAll | None = None
) -> AsyncGenerator[EmbeddingWork]:
    """Give the work, as a worker would have it."""
    async with open_embedders(open_client) as embedders:
        yield EmbeddingWork(truth.embeddings, embedders, truth.notices, has_all=has_all)
