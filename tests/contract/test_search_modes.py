"""Which mode answers: the one that was asked for where its vector comes in time, else text."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import pytest
import trio

from sercha.domain.query import SearchMode, SearchQuery, parse_query
from sercha.services.embedders import open_embedders
from sercha.services.ports import IndexPage
from sercha.services.ports.vector_search import QueryVector
from sercha.services.query_vectors import QueryVectors
from sercha.services.search import Search
from tests.support.api import ListedIndex
from tests.support.embedding_work import open_client, open_work, stored_model, want
from tests.support.embeddings import Answer, EmbeddingEndpoint
from tests.support.search import EVERYONE
from tests.support.truth import Truth


@dataclass
class ListedVectors:
    """A `VectorSearch` that notes what it is asked."""

    asked: list[tuple[SearchMode, str]] = field(default_factory=list)
    can: bool = True

    async def search_vectors(
        self, query: SearchQuery, principals: frozenset[str], vector: QueryVector
    ) -> IndexPage | None:
        await trio.lowlevel.checkpoint()
        self.asked.append((query.mode, vector.model))
        return IndexPage((), 0) if self.can else None


async def fill(truth: Truth, endpoint: EmbeddingEndpoint) -> str:
    stored = await want(truth, stored_model(endpoint))
    async with open_work(truth) as work:
        await work.work()
    return stored.name


async def mode_of(search: Search, mode: SearchMode, text: str = "red car") -> SearchMode:
    return (await search.search(parse_query(text, mode=mode), EVERYONE)).mode


async def test_mode_that_answers_is_the_one_asked_for_or_text(
    truth: Truth, endpoint: EmbeddingEndpoint
) -> None:
    by_vector = ListedVectors()
    async with open_embedders(open_client) as embedders:
        vectors = QueryVectors(truth.embeddings, embedders, seconds=0.3)
        search = Search(ListedIndex(), truth.documents, vectors, by_vector)
        assert await mode_of(search, SearchMode.HYBRID) is SearchMode.TEXT, "there is no model"

        name = await fill(truth, endpoint)
        vectors = QueryVectors(truth.embeddings, embedders, seconds=0.3)
        search = Search(ListedIndex(), truth.documents, vectors, by_vector)
        modes = [SearchMode.HYBRID, SearchMode.SEMANTIC]
        for mode in modes:
            assert await mode_of(search, mode) is mode
        assert by_vector.asked == [(mode, name) for mode in modes]
        assert endpoint.requests.count(["red car"]) == 1, "the vector is remembered"
        assert await mode_of(search, SearchMode.TEXT) is SearchMode.TEXT

        by_vector.can = False
        assert await mode_of(search, SearchMode.HYBRID) is SearchMode.TEXT
    without = Search(ListedIndex(), truth.documents)
    assert await mode_of(without, SearchMode.HYBRID) is SearchMode.TEXT


@pytest.mark.parametrize("fault", ["hangs", "refuses", "away"])
async def test_search_waits_for_its_vector_no_longer_than_the_bound(
    truth: Truth, endpoint: EmbeddingEndpoint, fault: str
) -> None:
    await fill(truth, endpoint)
    if fault == "hangs":
        endpoint.opened.clear()
    else:
        endpoint.refuse = lambda texts: Answer(401 if fault == "refuses" else 503, {"error": "no"})
    async with open_embedders(partial(open_client, call_seconds=30)) as embedders:
        vectors = QueryVectors(truth.embeddings, embedders, seconds=0.3)
        search = Search(ListedIndex(), truth.documents, vectors, ListedVectors())
        with trio.fail_after(3):
            assert await mode_of(search, SearchMode.HYBRID) is SearchMode.TEXT
        sent = len(endpoint.requests)
        assert await mode_of(search, SearchMode.HYBRID, "other words") is SearchMode.TEXT
        assert len(endpoint.requests) == sent, "for a while nobody waits for it again"
        endpoint.opened.set()
