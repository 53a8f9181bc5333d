"""Search by vectors with a store and an index of words that do as they are told: time limits, and what is asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import trio

from sercha.adapters.postgres.neighbours import closest
from sercha.domain.document import DocumentId
from sercha.domain.embedding import Vector
from sercha.domain.query import SearchMode, SearchQuery, parse_query
from sercha.errors import Transient, Unavailable
from sercha.services.neighbour_search import AWAY_SECONDS, CHUNKS, SECONDS, NeighbourSearch
from sercha.services.ports import IndexHit, IndexPage
from sercha.services.ports.vector_search import Neighbour, Neighbours, QueryVector, Survey

VECTOR = QueryVector("0123abcd", Vector.unit([1.0, 2.0]))
TEAM = frozenset({"team"})


MANY = Survey(None, (), 0)


def near(*numbers: int) -> tuple[Neighbour, ...]:
    return tuple(Neighbour(DocumentId(n), 7, 1 - n / 1000) for n in numbers)


@dataclass
class Store:
    """What is near, by how many chunks are looked at."""

    found: dict[int, Neighbours | None] = field(default_factory=dict)
    seconds: float = 0
    error: Exception | None = None
    asked: list[int] = field(default_factory=list)

    async def nearest(self, query, principals, vector, *, among, chunks) -> Neighbours | None:
        self.asked.append(chunks)
        await trio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return self.found[chunks] if self.found else Neighbours(near(1, 2), is_all=True)


@dataclass
class Words:
    """An index of words."""

    surveyed: Survey | None = MANY
    failing: frozenset[int] = frozenset()
    by_words: dict[DocumentId, int] = field(default_factory=dict)

    async def survey(self, query, principals, *, ranked: int) -> Survey | None:
        await trio.lowlevel.checkpoint()
        return self.surveyed

    async def judge(self, query, principals, document_ids: Sequence[DocumentId], *, by_words):
        await trio.lowlevel.checkpoint()
        return frozenset(document_ids) - self.failing

    async def best_chunks(self, query, document_ids) -> dict[DocumentId, int]:
        await trio.lowlevel.checkpoint()
        return self.by_words


def query(mode: SearchMode = SearchMode.SEMANTIC, **options) -> SearchQuery:
    return parse_query("car", mode=mode, **options)


async def ids(search: NeighbourSearch) -> list[int] | None:
    page = await search.search_vectors(query(), TEAM, VECTOR)
    return None if page is None else [hit.document_id for hit in page.hits]


async def test_slow_store_is_given_up_and_left_alone_for_a_while(autojump_clock) -> None:
    store = Store(seconds=3600)
    search = NeighbourSearch(Words(), store)
    started = trio.current_time()

    assert await ids(search) is None
    assert trio.current_time() - started == pytest.approx(SECONDS, abs=0.01)
    assert await ids(search) is None
    assert len(store.asked) == 1, "nobody waits again"

    store.seconds = 0
    await trio.sleep(AWAY_SECONDS)
    assert await ids(search) == [1, 2]


@pytest.mark.parametrize("error", [Transient("a timeout"), Unavailable("away", code="x")])
async def test_failing_store_is_no_failing_search(autojump_clock, error: Exception) -> None:
    store = Store(error=error)
    search = NeighbourSearch(Words(), store)

    assert await ids(search) is None
    store.error = None
    assert await ids(search) is None
    await trio.sleep(AWAY_SECONDS)
    assert await ids(search) == [1, 2]


async def test_model_without_vectors_is_asked_for_again_at_once() -> None:
    store = Store({CHUNKS[0]: None})
    search = NeighbourSearch(Words(), store)

    assert await ids(search) is None
    store.found = {CHUNKS[0]: Neighbours(near(3), is_all=True)}
    assert await ids(search) == [3]


async def test_nobody_finds_nothing_and_nobody_is_asked() -> None:
    store = Store()
    search = NeighbourSearch(Words(), store)

    assert await search.search_vectors(query(), frozenset(), VECTOR) == IndexPage((), 0)
    assert await NeighbourSearch(Words(None), store).search_vectors(query(), TEAM, VECTOR) == (
        IndexPage((), 0)
    )
    assert store.asked == []


async def test_more_is_asked_for_when_words_leave_few() -> None:
    first, more = range(1, 151), range(1, 300)
    store = Store(
        {CHUNKS[0]: Neighbours(near(*first), False), CHUNKS[1]: Neighbours(near(*more), False)}
    )

    assert await ids(NeighbourSearch(Words(failing=frozenset(range(1, 50))), store)) == [
        *range(50, 70)
    ]
    assert store.asked == [CHUNKS[0]], "a hundred are enough"

    store.asked.clear()
    assert await ids(NeighbourSearch(Words(failing=frozenset(range(1, 140))), store)) == [
        *range(140, 160)
    ]
    assert store.asked == list(CHUNKS)


def test_of_each_document_the_closest_chunk_stays_and_equal_ones_come_by_number() -> None:
    rows = [(2, 0, -0.5), (1, 3, -0.5), (1, 1, -0.5), (3, 0, -0.9), (2, 4, -0.4), (1, 0, -0.1)]

    assert closest(rows) == (
        Neighbour(DocumentId(3), 0, 0.9),
        Neighbour(DocumentId(1), 1, 0.5),
        Neighbour(DocumentId(2), 0, 0.5),
    )


async def test_hybrid_shows_the_chunk_of_the_words_else_the_closest() -> None:
    words = Words(Survey((), (DocumentId(9), DocumentId(2)), 2), by_words={DocumentId(2): 4})
    search = NeighbourSearch(words, Store({CHUNKS[0]: Neighbours(near(1, 2), True)}))

    page = await search.search_vectors(query(SearchMode.HYBRID), TEAM, VECTOR)

    assert page == IndexPage(
        (
            IndexHit(DocumentId(2), 4, 1 / 62 + 1 / 62),
            IndexHit(DocumentId(1), 7, 1 / 61),
            IndexHit(DocumentId(9), 0, 1 / 61),
        ),
        3,
    )
