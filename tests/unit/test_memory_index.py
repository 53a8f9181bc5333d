"""What the reference engine does beyond what is the same in every engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest
import trio
import trio.testing

from sercha.adapters.memory import MemoryIndex
from sercha.adapters.memory import searching as searching_module
from sercha.domain.embedding import Vector
from sercha.domain.query import SearchMode, parse_query
from sercha.services.ports import Change, IndexPage
from sercha.services.ports.vector_search import QueryVector
from tests.support.search import EVERYONE, added, at, find, ids, removed
from tests.support.vectors import embedded

ALL = frozenset({1, 2, 3})


def pointing(change: Change, *directions: Sequence[float]) -> Change:
    """Give the chunks of a document vectors."""
    assert change.document is not None
    vectors = {"m": tuple(Vector.unit(each) for each in directions)}
    return replace(change, document=replace(change.document, vectors=vectors))


async def look(index: MemoryIndex, text: str, mode: SearchMode, *direction: float) -> IndexPage:
    vector = QueryVector("m", Vector.unit(direction))
    page = await index.search_vectors(parse_query(text, mode=mode), EVERYONE, vector)
    assert page is not None
    return page


async def test_older_state_is_refused_however_late_it_comes() -> None:
    index = MemoryIndex()
    await index.apply([added(1, "new", version=3), removed(2, version=3)], at("5:5:"))
    await index.apply([embedded(added(3, "same"), number=2)], None)

    await index.apply(
        [
            added(1, "old", version=2),
            removed(1, version=2),
            added(2, "old", version=3),
            added(3, "old"),
            embedded(added(3, "old"), number=2),
        ],
        at("6:6:"),
    )

    assert await ids(index, "new same old") == {1, 3}
    assert await ids(index, "old") == set()
    assert await index.position() == at("6:6:"), "what is refused is done"
    await index.apply([added(2, "later", version=4), removed(3, version=1)], None)
    assert await ids(index, "new same later") == {1, 2}


async def test_what_is_gone_in_an_unknown_version_comes_back_only_by_replacing() -> None:
    index = MemoryIndex()
    await index.apply([removed(1)], at("5:5:"))
    await index.apply([added(1, "red", version=9)], at("6:6:"))
    assert await ids(index, "red") == set()

    async def truth() -> AsyncIterator[list[Change]]:
        yield [added(1, "red", version=9)]

    await index.replace(truth(), at("7:7:"))
    assert await ids(index, "red") == {1}


async def test_cancelled_batch_leaves_nothing_behind() -> None:
    index = MemoryIndex()
    await index.apply([added(1, "red")], at("5:5:"))

    async with trio.open_nursery() as nursery:
        changes = [removed(1, version=1), *(added(n, "blue") for n in range(2, 40))]
        nursery.start_soon(index.apply, changes, at("6:6:"))
        for _ in range(5):
            await trio.lowlevel.checkpoint()
        assert await ids(index, "red blue") == {1}, "none of it is seen before the end"
        nursery.cancel_scope.cancel()

    assert await ids(index, "red blue") == {1}
    assert await index.position() == at("5:5:")
    await index.apply([added(2, "yellow")], None)
    assert await ids(index, "yellow") == {2}, "what was cancelled is not remembered either"


async def test_clock_of_a_test_does_not_jump_while_it_works(
    autojump_clock: trio.testing.MockClock,
) -> None:
    index = MemoryIndex()
    with trio.fail_after(1):
        await index.apply([added(n, "some words") for n in range(200)], None)
        assert (await find(index, "words")).total == 200
    assert trio.current_time() == 0


async def test_semantic_orders_by_the_cosine_of_the_closest_chunk() -> None:
    index = MemoryIndex()
    two_chunks = "x" * 60
    await index.apply(
        [
            pointing(added(1, two_chunks), [0, 1], [4, 3]),
            pointing(added(2, two_chunks), [3, 4], [-1, 0]),
            pointing(added(3, two_chunks), [0, -1], [0, -1]),
            added(4, "no vector"),
        ],
        None,
    )

    hits = (await look(index, "word", SearchMode.SEMANTIC, 1, 0)).hits

    assert [(hit.document_id, hit.chunk_position) for hit in hits] == [(1, 1), (2, 0), (3, 0)]
    assert [hit.score for hit in hits] == pytest.approx([0.8, 0.6, 0.0])


async def test_hybrid_adds_the_reciprocals_of_both_places() -> None:
    index = MemoryIndex()
    await index.apply(
        [
            pointing(added(1, "other"), [1, 0]),
            pointing(added(2, "word"), [0, 1]),
            added(3, "word word"),
        ],
        None,
    )

    hits = (await look(index, "word", SearchMode.HYBRID, 1, 0)).hits

    assert [hit.document_id for hit in hits] == [2, 1, 3]
    assert [hit.score for hit in hits] == pytest.approx([1 / 62 + 1 / 62, 1 / 61, 1 / 61])


async def test_vectors_find_no_more_than_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching_module, "NEIGHBOURS_MAX", 2)
    index = MemoryIndex()
    await index.apply([pointing(added(n, "word"), [1, n]) for n in ALL], None)

    page = await look(index, "word", SearchMode.SEMANTIC, 1, 0)
    assert ([hit.document_id for hit in page.hits], page.total) == ([1, 2], 2)
    assert (await look(index, "word", SearchMode.HYBRID, 1, 0)).total == 3, "words find the third"


async def test_each_index_is_a_consumer_of_its_own() -> None:
    assert MemoryIndex().consumer_id != MemoryIndex().consumer_id
