"""Another model under searches: none is without an answer, all are hybrid, the old vectors answer until the swap."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio

from sercha.adapters.embedded_index import open_embedded_index
from sercha.adapters.postgres.documents import PostgresDocumentStore
from sercha.adapters.postgres.generations import PostgresGenerationStore
from sercha.adapters.postgres.neighbours import PostgresNeighbours
from sercha.adapters.postgres.vector_tables import PostgresVectorTables
from sercha.domain.query import SearchMode, parse_query
from sercha.services.embedders import open_embedders
from sercha.services.embedding import EmbeddingWork, HasAll
from sercha.services.follow import Follower
from sercha.services.neighbour_search import NeighbourSearch
from sercha.services.ports import SearchIndex
from sercha.services.ports.embeddings import ModelState, StoredModel
from sercha.services.ports.vector_search import VectorSearch
from sercha.services.query_vectors import QueryVectors
from sercha.services.search import Search, SearchPage
from tests.support.embedding_work import open_client, stored_model, want
from tests.support.embeddings import running_endpoint
from tests.support.search import EVERYONE
from tests.support.truth import Truth, open_truth
from tests.support.vespa import open_setup


async def until_current(truth: Truth, stored: StoredModel) -> None:
    with trio.fail_after(40):
        while [(each.name, each.state) for each in await truth.embeddings.models()] != [
            (stored.name, ModelState.CURRENT)
        ]:
            await trio.sleep(0.05)


@dataclass
class Engine:
    """What searches by vectors, and who must have a model's vectors before it is current."""

    index: SearchIndex
    by_vector: VectorSearch
    documents: PostgresDocumentStore
    new_consumer_id: Callable[[], str]
    has_all: HasAll | None = None
    tables: PostgresVectorTables | None = None


@asynccontextmanager
async def open_vespa(truth: Truth, folder: Path) -> AsyncGenerator[Engine]:
    generations = PostgresGenerationStore(truth.pool, "vespa")
    async with (
        open_setup(containers=1, generations=generations) as setup,
        setup.open_index() as reading,
    ):
        setup.index._models = truth.embeddings.known
        documents = PostgresDocumentStore(truth.pool, reads_vectors=True)

        async def has_all(moment: str) -> bool:
            position = await reading.position()
            return position is not None and await truth.feed.covers(position, moment)

        yield Engine(setup.index, setup.index, documents, lambda: "vespa", has_all)


@asynccontextmanager
async def open_embedded(truth: Truth, folder: Path) -> AsyncGenerator[Engine]:
    async with open_embedded_index(folder / "index") as index:
        by_vector = NeighbourSearch(index, PostgresNeighbours(truth.pool))
        tables = PostgresVectorTables(truth.pool)
        yield Engine(index, by_vector, truth.documents, lambda: index.consumer_id, tables=tables)


@pytest.mark.slow
@pytest.mark.parametrize("opening", [open_embedded, open_vespa])
async def test_searches_go_on_while_the_model_changes(
    postgres_url: str, tmp_path: Path, opening
) -> None:
    pages: list[SearchPage] = []

    async def ask(search: Search, stop: trio.Event) -> None:
        while not stop.is_set():
            query = parse_query("car", mode=SearchMode.HYBRID)
            pages.append(await search.search(query, EVERYONE))
            await trio.sleep(0.02)

    with running_endpoint() as old_endpoint, running_endpoint() as new_endpoint:
        new_endpoint.dimensions = 16
        async with (
            open_truth(postgres_url) as truth,
            opening(truth, tmp_path) as engine,
            open_embedders(partial(open_client, call_seconds=10)) as embedders,
            trio.open_nursery() as nursery,
        ):
            source = await truth.add_source()
            texts = {f"d{n}": f"tree number {n}" for n in range(100)}
            await truth.save(source.id, **texts, wanted="an automobile")
            old = await want(truth, stored_model(old_endpoint))
            work = EmbeddingWork(
                truth.embeddings,
                embedders,
                truth.notices,
                has_all=engine.has_all,
                tables=engine.tables,
            )
            follower = Follower(
                engine.index, truth.feed, engine.documents, truth.notices, engine.new_consumer_id
            )
            nursery.start_soon(follower.run)
            nursery.start_soon(work.run)
            await until_current(truth, old)
            await follower.catch_up()

            vectors = QueryVectors(truth.embeddings, embedders, seconds=5)
            search = Search(engine.index, engine.documents, vectors, engine.by_vector)
            stop = trio.Event()
            nursery.start_soon(ask, search, stop)
            new = await want(truth, stored_model(new_endpoint, "better"))
            await until_current(truth, new)
            before = len(new_endpoint.requests)
            with trio.fail_after(20):
                while ["car"] not in new_endpoint.requests[before:]:
                    await trio.sleep(0.05)
            seen = len(pages)
            with trio.fail_after(20):
                while len(pages) < seen + 5:
                    await trio.sleep(0.05)
            stop.set()
            nursery.cancel_scope.cancel()

    assert {page.mode for page in pages} == {SearchMode.HYBRID}
    assert {page.results[0].document.external_id for page in pages} == {"wanted"}
