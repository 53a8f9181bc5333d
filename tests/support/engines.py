"""The search engines behind the port, for suites that hold for all of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sercha.adapters.embedded_index import open_embedded_index
from sercha.adapters.memory import MemoryIndex
from sercha.adapters.vespa import VespaIndex
from sercha.domain.embedding import EmbeddingModel
from sercha.domain.query import SearchMode, SearchQuery
from sercha.services.ports import IndexPage, SearchIndex
from sercha.services.ports.vector_search import QueryVector
from tests.support.vespa import open_setup

ENGINES = ["memory", "embedded", "vespa"]
VECTOR_ENGINES = ["memory", "vespa"]
"""Those that compare vectors."""


@dataclass
class VectorEngine:
    """An engine that compares vectors, and whose."""

    index: MemoryIndex | VespaIndex
    models: list[EmbeddingModel] = field(default_factory=list)
    """Whose vectors documents may have; one that is added is used from then on."""


@asynccontextmanager
async def open_engine(
    name: str, folder: Path, *models: EmbeddingModel
) -> AsyncGenerator[SearchIndex]:
    """Open an empty one, Vespa's on the stand-in; documents may have vectors of *models*, where it compares any."""
    if name in VECTOR_ENGINES:
        async with open_vector_engine(name, folder, *models) as engine:
            yield engine.index
    else:
        async with open_embedded_index(folder / "index") as index:
            yield index


@asynccontextmanager
async def open_vector_engine(
    name: str, folder: Path, *models: EmbeddingModel
) -> AsyncGenerator[VectorEngine]:
    """Open an empty one whose documents may have vectors of *models*; in *folder* what needs one."""
    if name == "vespa":
        async with open_setup() as setup:
            setup.models += models
            yield VectorEngine(setup.index, setup.models)
    else:
        yield VectorEngine(MemoryIndex(), list(models))


async def ask(
    engine: SearchIndex, query: SearchQuery, principals: frozenset[str], vector: QueryVector
) -> IndexPage:
    """Search in the query's mode; in an engine that compares no vectors by words."""
    if query.mode is SearchMode.TEXT or not isinstance(engine, MemoryIndex | VespaIndex):
        return await engine.search(query, principals)
    page = await engine.search_vectors(query, principals, vector)
    assert page is not None, "it does not know the model"
    return page
