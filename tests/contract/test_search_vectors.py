"""Search by vectors, and by words and vectors together, in every engine that can (Vespa's stand-in is exact)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sercha.domain.document import TEAM
from sercha.domain.embedding import EmbeddingModel
from sercha.domain.query import SearchMode, parse_query
from sercha.services.ports import IndexPage
from tests.support.engines import ENGINES
from tests.support.search import EVERYONE, OTHER_SOURCE, added, at, removed
from tests.support.vector_engines import VectorEngine, open_vector_engine
from tests.support.vectors import MODEL, OTHER, embedded, query_vector


@pytest.fixture(params=ENGINES)
async def engine(
    request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path
) -> AsyncIterator[VectorEngine]:
    async with open_vector_engine(request.param, postgres_url, tmp_path, MODEL) as engine:
        yield engine


async def look(
    engine: VectorEngine,
    text: str,
    mode: SearchMode = SearchMode.HYBRID,
    principals: frozenset[str] = EVERYONE,
    model: EmbeddingModel = MODEL,
    **options,
) -> IndexPage | None:
    query = parse_query(text, mode=mode, **options)
    return await engine.search_vectors(query, principals, query_vector(text, model))


async def ids(engine: VectorEngine, text: str, mode: SearchMode, *rest, **options) -> list[int]:
    page = await look(engine, text, mode, *rest, **options)
    assert page is not None
    return [hit.document_id for hit in page.hits]


BOTH = [SearchMode.SEMANTIC, SearchMode.HYBRID]


@pytest.mark.parametrize("mode", BOTH)
async def test_document_is_found_by_what_it_means(engine: VectorEngine, mode: SearchMode) -> None:
    await engine.apply(
        [embedded(added(1, "an automobile")), embedded(added(2, "one physician"))], at("5:5:")
    )

    assert (await ids(engine, "car", mode))[0] == 1
    assert (await ids(engine, "doctor", mode))[0] == 2


async def test_hybrid_finds_by_words_what_has_no_vector(engine: VectorEngine) -> None:
    changes = [added(1, "a word-4711"), embedded(added(2, "an automobile"))]
    await engine.apply(changes, at("5:5:"))

    assert set(await ids(engine, "4711 car", SearchMode.HYBRID)) == {1, 2}
    assert await ids(engine, "4711 car", SearchMode.SEMANTIC) == [2]


@pytest.mark.parametrize("mode", BOTH)
async def test_filters_hold_for_neighbours_too(engine: VectorEngine, mode: SearchMode) -> None:
    await engine.apply(
        [
            embedded(added(1, "red car", readers=("user:ann",))),
            embedded(added(2, "red automobile", source=OTHER_SOURCE)),
            embedded(added(3, "red car and a tree")),
            embedded(added(4, "red car, gone")),
        ],
        at("5:5:"),
    )
    await engine.apply([removed(4, version=2)], at("6:6:"))

    assert set(await ids(engine, "car", mode)) == {2, 3}
    assert await ids(engine, "car", mode, frozenset({"user:ann"})) == [1]
    assert await ids(engine, "car", mode, frozenset()) == []
    assert await ids(engine, "car", mode, source_ids=(OTHER_SOURCE,)) == [2]
    assert await ids(engine, "car -tree", mode) == [2]
    assert await ids(engine, "car +tree", mode) == [3]
    assert set(await ids(engine, "car", mode, frozenset({"user:ann", TEAM}))) == {1, 2, 3}


@pytest.mark.parametrize("mode", BOTH)
async def test_best_chunk_is_the_closest(engine: VectorEngine, mode: SearchMode) -> None:
    text = "about trees".ljust(40) + "an automobile".ljust(40) + "about birds".ljust(40)
    await engine.apply([embedded(added(1, text))], at("5:5:"))

    page = await look(engine, "car", mode)

    assert page is not None
    assert [hit.chunk_position for hit in page.hits] == [1]


async def test_hybrid_pages_are_disjoint(engine: VectorEngine) -> None:
    await engine.apply([embedded(added(n, f"red car {n}")) for n in range(1, 41)], at("5:5:"))

    pages = [
        await ids(engine, "car", SearchMode.HYBRID, limit=10, offset=o) for o in (0, 10, 20, 30)
    ]

    assert sorted(each for page in pages for each in page) == list(range(1, 41))


async def test_vectors_of_the_same_version_come_later(engine: VectorEngine) -> None:
    change = added(1, "an automobile")
    await engine.apply([change], at("5:5:"))
    assert await look(engine, "car", SearchMode.SEMANTIC) in (None, IndexPage((), 0))

    await engine.apply([embedded(change)], at("6:6:"))
    assert await ids(engine, "car", SearchMode.SEMANTIC) == [1]

    await engine.apply([change], at("7:7:"))
    assert await ids(engine, "car", SearchMode.SEMANTIC) == [1], "an older state comes late"


async def test_second_model_is_filled_beside_the_first(engine: VectorEngine) -> None:
    change = added(1, "an automobile")
    await engine.apply([embedded(change)], at("5:5:"))
    assert await look(engine, "car", model=OTHER) is None, "text answers"

    engine.models.append(OTHER)
    await engine.apply([embedded(change, MODEL, OTHER, number=2)], at("6:6:"))

    assert await ids(engine, "car", SearchMode.SEMANTIC) == [1]
    assert await ids(engine, "car", SearchMode.SEMANTIC, model=OTHER) == [1]


async def test_chunk_without_a_vector_does_not_keep_the_others_from_theirs(
    engine: VectorEngine,
) -> None:
    text = "about trees".ljust(40) + "an automobile".ljust(40)
    change = embedded(added(1, text))
    assert change.document is not None
    [(name, vectors)] = change.document.vectors.items()
    partial = replace(change.document, vectors={name: (None, vectors[1])})
    await engine.apply([replace(change, document=partial)], at("5:5:"))

    page = await look(engine, "car", SearchMode.SEMANTIC)

    assert page is not None
    assert [hit.chunk_position for hit in page.hits] == [1]
