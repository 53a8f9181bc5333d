"""The engines that find by vectors, behind one face, for suites that hold for all of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sercha.adapters.embedded_index import EmbeddedIndex, open_embedded_index
from sercha.adapters.memory import MemoryIndex
from sercha.adapters.postgres.neighbours import PostgresNeighbours
from sercha.adapters.postgres.vector_tables import PostgresVectorTables
from sercha.adapters.vespa import VespaIndex
from sercha.domain.document import IndexedDocument
from sercha.domain.embedding import EmbeddingModel, Refused, Vector, content_hash, embedded_text
from sercha.domain.query import SearchMode, SearchQuery
from sercha.services.neighbour_search import NeighbourSearch
from sercha.services.ports import Change, FeedPosition, IndexPage, SearchIndex
from sercha.services.ports.vector_search import QueryVector, VectorSearch
from tests.support.truth import Truth, open_truth
from tests.support.vespa import open_setup

_SAVE = """
INSERT INTO document (id, source_id, external_id, path, title, mime_type, text, chunk_count, readers, modified_at,
                      version)
OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET source_id = excluded.source_id, path = excluded.path, title = excluded.title,
    mime_type = excluded.mime_type, text = excluded.text, readers = excluded.readers,
    modified_at = excluded.modified_at, version = excluded.version, deleted_at = NULL
"""


class VectorEngine(Protocol):
    """An engine with documents and vectors."""

    @property
    def index(self) -> SearchIndex: ...

    @property
    def models(self) -> list[EmbeddingModel]:
        """Whose vectors documents may have; one that is added is used from then on."""
        ...

    async def apply(self, changes: Sequence[Change], position: FeedPosition | None) -> None: ...

    async def search_vectors(
        self, query: SearchQuery, principals: frozenset[str], vector: QueryVector
    ) -> IndexPage | None: ...

    async def ask(
        self, query: SearchQuery, principals: frozenset[str], vector: QueryVector
    ) -> IndexPage:
        """Search in the query's mode."""
        ...


@dataclass
class IndexVectors:
    """One whose index takes vectors together with the documents."""

    index: MemoryIndex | VespaIndex
    models: list[EmbeddingModel]

    async def apply(self, changes: Sequence[Change], position: FeedPosition | None) -> None:
        await self.index.apply(changes, position)

    async def search_vectors(
        self, query: SearchQuery, principals: frozenset[str], vector: QueryVector
    ) -> IndexPage | None:
        return await self.index.search_vectors(query, principals, vector)

    async def ask(
        self, query: SearchQuery, principals: frozenset[str], vector: QueryVector
    ) -> IndexPage:
        return await _ask(self.index, self, query, principals, vector)


@dataclass
class EmbeddedVectors:
    """The embedded one: documents are written to PostgreSQL as a sync would, and to the copy as a follower would."""

    truth: Truth
    index: EmbeddedIndex
    models: list[EmbeddingModel] = field(default_factory=list)
    tables: PostgresVectorTables = field(init=False)
    search: NeighbourSearch = field(init=False)

    def __post_init__(self) -> None:
        self.tables = PostgresVectorTables(self.truth.pool)
        self.search = NeighbourSearch(self.index, PostgresNeighbours(self.truth.pool), seconds=30)

    async def apply(self, changes: Sequence[Change], position: FeedPosition | None) -> None:
        for model in self.models:
            await self._know(model)
            assert await self.tables.complete(model) is None
        for change in changes:
            await self._save(change)
        await self.index.apply(changes, position)

    async def search_vectors(
        self, query: SearchQuery, principals: frozenset[str], vector: QueryVector
    ) -> IndexPage | None:
        return await self.search.search_vectors(query, principals, vector)

    async def ask(
        self, query: SearchQuery, principals: frozenset[str], vector: QueryVector
    ) -> IndexPage:
        return await _ask(self.index, self, query, principals, vector)

    async def _know(self, model: EmbeddingModel) -> None:
        state = "current" if model is self.models[0] else "filling"
        await self.truth.value(
            "INSERT INTO embedding_model (name, provider, base_url, model, dimensions, state)"
            " VALUES (%s, 'ollama', %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            model.name, model.base_url, model.model, model.dimensions, state,
        )  # fmt: skip

    async def _save(self, change: Change) -> None:
        number, document = change.document_id, change.document
        await self.truth.value("DELETE FROM chunk WHERE document_id = %s", number)
        if document is None:
            await self.truth.value(
                "UPDATE document SET deleted_at = now(), text = '' WHERE id = %s", number
            )
            return
        await self.truth.value(
            _SAVE, number, document.source_id, str(number), document.path, document.title, document.mime_type,
            document.text, len(document.chunks), list(document.readers), document.modified_at, document.version,
        )  # fmt: skip
        hashes = _hashes(document)
        await self.truth.value(
            "INSERT INTO chunk (document_id, position, start_char, end_char, content_hash)"
            " SELECT %s, u.* FROM unnest(%s::integer[], %s::integer[], %s::integer[], %s::bytea[]) u",
            number, [each.position for each in document.chunks], [each.start for each in document.chunks],
            [each.end for each in document.chunks], hashes,
        )  # fmt: skip
        for name, vectors in document.vectors.items():
            found: Mapping[bytes, Vector | Refused] = {
                digest: vector for digest, vector in zip(hashes, vectors, strict=True) if vector
            }
            await self.truth.embeddings.keep(name, found)


def _hashes(document: IndexedDocument) -> list[bytes]:
    return [
        content_hash(embedded_text(each.heading, document.text[each.start : each.end]))
        for each in document.chunks
    ]


@asynccontextmanager
async def open_embedded_vectors(url: str, folder: Path) -> AsyncGenerator[EmbeddedVectors]:
    """Open the embedded engine on an empty database."""
    async with open_truth(url) as truth, open_embedded_index(folder / "index") as index:
        yield EmbeddedVectors(truth, index)


@asynccontextmanager
async def open_vector_engine(
    name: str, url: str, folder: Path, *models: EmbeddingModel
) -> AsyncGenerator[VectorEngine]:
    """Open an empty one whose documents may have vectors of *models*, on the empty database at *url*."""
    if name == "memory":
        yield IndexVectors(MemoryIndex(), list(models))
    elif name == "vespa":
        async with open_setup() as setup:
            setup.models += models
            yield IndexVectors(setup.index, setup.models)
    else:
        async with open_embedded_vectors(url, folder) as engine:
            engine.models += models
            yield engine


async def _ask(
    index: SearchIndex,
    by_vector: VectorSearch,
    query: SearchQuery,
    principals: frozenset[str],
    vector: QueryVector,
) -> IndexPage:
    if query.mode is SearchMode.TEXT:
        return await index.search(query, principals)
    page = await by_vector.search_vectors(query, principals, vector)
    assert page is not None, "it does not know the model"
    return page
