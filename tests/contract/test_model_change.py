"""Another model under searches: none is without an answer, all are hybrid, the old vectors answer until the swap."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from sercha.adapters.postgres.documents import PostgresDocumentStore
from sercha.domain.query import SearchMode, parse_query
from sercha.services import follow
from sercha.services.embedders import open_embedders
from sercha.services.embedding import EmbeddingWork
from sercha.services.follow import Follower
from sercha.services.ports.embeddings import ModelState, StoredModel
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


@pytest.mark.slow
async def test_searches_go_on_while_the_model_changes(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "ADVANCE_INTERVAL", 0.2)
    monkeypatch.setattr(follow, "POLL_INTERVAL", 0.1)
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
            open_setup(containers=1) as setup,
            open_embedders(partial(open_client, call_seconds=10)) as embedders,
            trio.open_nursery() as nursery,
        ):
            monkeypatch.setattr(setup, "models", [])
            documents = PostgresDocumentStore(truth.pool, reads_vectors=True)
            setup.index._models = truth.embeddings.known
            source = await truth.add_source()
            texts = {f"d{n}": f"tree number {n}" for n in range(100)}
            await truth.save(source.id, **texts, wanted="an automobile")
            old = await want(truth, stored_model(old_endpoint))
            follower = Follower(setup.index, truth.feed, documents, truth.notices, lambda: "vespa")
            work = EmbeddingWork(truth.embeddings, embedders, truth.notices, consumer="vespa")
            nursery.start_soon(follower.run)
            nursery.start_soon(work.run)
            await until_current(truth, old)

            vectors = QueryVectors(truth.embeddings, embedders, seconds=5)
            search = Search(setup.index, documents, vectors, setup.index)
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
