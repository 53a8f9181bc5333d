"""The embedded engine's vectors on a real database: the work that makes them, and searches by them."""

from __future__ import annotations

from sercha.adapters.embedded_index import EmbeddedIndex
from sercha.adapters.postgres.neighbours import PostgresNeighbours
from sercha.adapters.postgres.vector_tables import PostgresVectorTables
from sercha.domain.embedding import Vector
from sercha.domain.query import SearchMode, parse_query
from sercha.services.embedders import Embedders, open_embedders
from sercha.services.embedding import EmbeddingWork
from sercha.services.neighbour_search import NeighbourSearch
from sercha.services.ports.embeddings import ModelState, StoredModel
from sercha.services.ports.vector_search import QueryVector
from sercha.services.query_vectors import QueryVectors
from sercha.services.search import Search
from tests.support.embedding_work import open_client, stored_model, want
from tests.support.embeddings import EmbeddingEndpoint, vector_of
from tests.support.search import EVERYONE
from tests.support.truth import Truth

TEXTS = {"a": "an automobile", "b": "one physician", "c": "red apples", "d": "green pears"}


async def fill_copy(truth: Truth, index: EmbeddedIndex) -> None:
    """Bring the copy of the words up to date."""
    async for ids in truth.feed.scan(batch=100):
        await index.apply(await truth.documents.read(ids), None)


def make_work(truth: Truth, embedders: Embedders, tables: PostgresVectorTables) -> EmbeddingWork:
    """Put the work together, as a worker of the embedded engine would have it."""
    return EmbeddingWork(truth.embeddings, embedders, truth.notices, tables=tables)


async def work_once(truth: Truth) -> EmbeddingWork:
    """Go round once, as a worker that has just started."""
    async with open_embedders(open_client) as embedders:
        made = make_work(truth, embedders, PostgresVectorTables(truth.pool))
        await made.work()
        return made


async def nearest(truth: Truth, stored: StoredModel, text: str) -> list[str] | None:
    """Return the documents in the order of their vectors, past the copy of the words."""
    vector = QueryVector(stored.name, Vector.unit(vector_of(text, stored.model.dimensions)))
    store = PostgresNeighbours(truth.pool)
    found = await store.nearest(parse_query(text), EVERYONE, vector, among=None, chunks=1000)
    if found is None:
        return None
    return [
        str(await truth.value("SELECT external_id FROM document WHERE id = %s", each.document_id))
        for each in found.nearest
    ]


async def tables_of(truth: Truth) -> list[str]:
    """Return the tables of vectors, whole ones or not."""
    names = await truth.value(
        "SELECT array_agg(relname ORDER BY relname) FROM pg_class"
        " WHERE relkind = 'r' AND relname ~ '^embedding_(vector|filling)_'"
    )
    return names or []  # type: ignore[return-value]


async def states(truth: Truth) -> dict[str, ModelState]:
    """Return the models with what they are there for."""
    return {each.model.model: each.state for each in await truth.embeddings.models()}


def make_search(truth: Truth, index: EmbeddedIndex, embedders: Embedders) -> Search:
    """Put together what an API of the embedded engine searches by."""
    vectors = QueryVectors(truth.embeddings, embedders)
    by_vector = NeighbourSearch(index, PostgresNeighbours(truth.pool))
    return Search(index, truth.documents, vectors, by_vector)


async def modes(search: Search) -> list[SearchMode]:
    """Search in both modes; which ones answered."""
    both = [SearchMode.SEMANTIC, SearchMode.HYBRID]
    pages = [await search.search(parse_query("automobile", mode=mode), EVERYONE) for mode in both]
    assert all(page.results[0].document.external_id == "a" for page in pages)
    return [page.mode for page in pages]


async def fill(truth: Truth, endpoint: EmbeddingEndpoint, **texts: str) -> StoredModel:
    """Save documents and make their vectors under a new model."""
    source = await truth.add_source()
    await truth.save(source.id, **(texts or TEXTS))
    stored = await want(truth, stored_model(endpoint))
    await work_once(truth)
    return stored
