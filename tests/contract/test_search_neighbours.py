"""The embedded engine's search by vectors against an oracle: who may find what, in which order, on which page."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sercha.adapters.embedded_index import open_embedded_index, surveying
from sercha.adapters.embedded_index.index import EmbeddedIndex
from sercha.adapters.postgres import neighbours
from sercha.adapters.postgres.neighbour_sql import conditions_of
from sercha.adapters.postgres.neighbours import PostgresNeighbours
from sercha.domain.embedding import Vector, embedded_text
from sercha.domain.query import Occurrence, SearchMode, SearchQuery, parse_query
from sercha.services import neighbour_search
from sercha.services.neighbour_search import NeighbourSearch, closeness
from sercha.services.ports import Change, IndexPage
from sercha.services.ports.vector_search import QueryVector
from tests.support.embeddings import vector_of
from tests.support.random_search import GROUPS, allowed, random_documents, random_queries
from tests.support.search import EVERYONE, OTHER_SOURCE, added, removed
from tests.support.vector_engines import EmbeddedVectors, open_embedded_vectors
from tests.support.vectors import MODEL, embedded

DOCUMENTS = 120
CASES, CASES_PROOF = 300, 20_000
WAYS = ["compared", "indexed"]
"""All that may be found are compared, or the index of the vectors is asked and words judge."""


@pytest.fixture
async def engine(postgres_url: str, tmp_path: Path) -> AsyncIterator[EmbeddedVectors]:
    async with open_embedded_vectors(postgres_url, tmp_path) as engine:
        engine.models.append(MODEL)
        yield engine


@pytest.fixture
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    go(monkeypatch, request.param)
    return request.param


def go(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Let searches go one way, however few documents there are."""
    monkeypatch.setattr(surveying, "LISTED_DOCUMENTS", -1 if way == "indexed" else 20_000)


async def look(
    engine: EmbeddedVectors, query: SearchQuery, principals: frozenset[str] = EVERYONE
) -> IndexPage:
    page = await engine.search_vectors(query, principals, vector(query))
    assert page is not None
    return page


def vector(query: SearchQuery) -> QueryVector:
    return QueryVector(MODEL.name, Vector.unit(vector_of(query.text)))


def in_mode(query: SearchQuery, random: Random) -> SearchQuery:
    return replace(query, mode=random.choice([SearchMode.SEMANTIC, SearchMode.HYBRID]))


def nearest(changes: Sequence[Change], query: SearchQuery, found: set[int]) -> list[int]:
    """Order the documents *found* by the angle of their closest chunk, by plain arithmetic."""
    wanted = vector(query).vector.values()
    distances: list[tuple[float, int]] = []
    for change in changes:
        if change.document_id in found and change.document is not None:
            text = change.document.text
            parts = [
                embedded_text(c.heading, text[c.start : c.end]) for c in change.document.chunks
            ]
            vectors = [Vector.unit(vector_of(each)).values() for each in parts]
            best = max(sum(a * b for a, b in zip(wanted, each, strict=True)) for each in vectors)
            distances.append((round(-best, 5), change.document_id))
    return [number for _, number in sorted(distances)]


async def nothing_forbidden(engine: EmbeddedVectors, random: Random, cases: int) -> int:
    """Ask that often; how many documents were found in all."""
    changes = random_documents(random, DOCUMENTS)
    await engine.apply(changes, None)
    found = 0
    for number, query in enumerate(random_queries(random)):
        if number == cases:
            return found
        query = in_mode(query, random)
        principals = frozenset(random.sample(GROUPS, k=random.randint(0, 3)))
        may_be_found = allowed(changes, query, principals)
        page = await look(engine, query, principals)
        seen = {hit.document_id for hit in page.hits}
        assert seen <= may_be_found, (query, principals)
        assert page.total == len(seen), (query, principals)
        assert [hit.score for hit in page.hits] == sorted(
            (h.score for h in page.hits), reverse=True
        )
        optional = {term.occurrence for term in query.terms} == {Occurrence.OPTIONAL}
        if optional and seen:
            assert seen == may_be_found, "all that may be found is near, more or less"
        found += len(seen)
    raise AssertionError


@pytest.mark.parametrize("way", WAYS, indirect=True)
async def test_nothing_is_found_that_may_not_be_read(
    engine: EmbeddedVectors, way: str, seed: int
) -> None:
    assert await nothing_forbidden(engine, Random(seed), CASES) > CASES


@pytest.mark.proof
@pytest.mark.parametrize("way", WAYS, indirect=True)
async def test_nothing_is_found_that_may_not_be_read_in_many_cases(
    engine: EmbeddedVectors, way: str, seed: int
) -> None:
    found = await nothing_forbidden(engine, Random(seed), CASES_PROOF)
    print(f"{way}: {CASES_PROOF} searches, {found} documents found, none forbidden")
    assert found > CASES_PROOF


@pytest.mark.parametrize("way", WAYS, indirect=True)
async def test_statement_alone_keeps_what_may_not_be_read(
    engine: EmbeddedVectors, way: str, seed: int
) -> None:
    """The copy of the words is not asked: it may lag, and its judgement is not what protects a document."""
    random = Random(seed)
    changes = random_documents(random, DOCUMENTS)
    await engine.apply(changes, None)
    store = PostgresNeighbours(engine.truth.pool)
    among = None if way == "indexed" else [each.document_id for each in changes]

    # Its chunks are there by mistake.
    await engine.truth.value("UPDATE document SET deleted_at = now() WHERE id <= 9")
    changes = changes[9:]

    for _, query in zip(range(CASES // 4), random_queries(random), strict=False):
        principals = frozenset(random.sample(GROUPS, k=random.randint(0, 3)))
        found = await store.nearest(query, principals, vector(query), among=among, chunks=1_000)
        assert found is not None
        seen = {each.document_id for each in found.nearest}
        assert seen == allowed(changes, query, principals), (query, principals)


def test_there_are_no_conditions_without_principals() -> None:
    query = parse_query("word", path="docs", mime_types=["text/*"])

    assert conditions_of(query, frozenset()) is None
    conditions = conditions_of(query, EVERYONE)
    assert conditions is not None
    assert "d.readers && %(principals)s" in conditions[0].as_string()
    assert conditions[1]["principals"] == ["team"]


@pytest.mark.parametrize("way", WAYS, indirect=True)
async def test_semantic_order_is_that_of_the_angles(
    engine: EmbeddedVectors, way: str, seed: int
) -> None:
    random = Random(seed)
    changes = random_documents(random, DOCUMENTS)
    await engine.apply(changes, None)
    for text in ("secret word", "東京 größe", "user ann true"):
        query = parse_query(text, mode=SearchMode.SEMANTIC, limit=100)
        page = await look(engine, query)

        expected = nearest(changes, query, allowed(changes, query, EVERYONE))
        scores = {hit.document_id: hit.score for hit in page.hits}
        # Angles that differ by rounding alone may change places with the oracle's.
        assert sorted(scores) == sorted(expected)
        ranks = [scores[each] for each in expected]
        assert all(a >= b - 1e-4 for a, b in itertools.pairwise(ranks))
        assert scores[expected[0]] <= 1 == closeness(1)


async def test_both_ways_give_the_same_pages(
    engine: EmbeddedVectors, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = Random(seed)
    changes = random_documents(random, DOCUMENTS)
    await engine.apply(changes, None)

    found = 0
    for _, drawn in zip(range(300), random_queries(random), strict=False):
        query = in_mode(drawn, random)
        pages: list[IndexPage] = []
        for way in WAYS:
            go(monkeypatch, way)
            pages.append(await look(engine, query))
        found += len(pages[0].hits)
        assert pages[0] == pages[1], query
    assert found > 300


@pytest.mark.parametrize("mode", [SearchMode.SEMANTIC, SearchMode.HYBRID])
@pytest.mark.parametrize("way", WAYS, indirect=True)
async def test_pages_are_cut_from_one_order_that_every_process_has(
    engine: EmbeddedVectors, way: str, mode: SearchMode, tmp_path: Path
) -> None:
    texts = ["red car", "automobile", "red tree", "a bird", "one physician and a car"]
    changes = [added(n, f"{texts[n % 5]}") for n in range(1, 61)]
    for start in reversed(range(0, 60, 7)):
        await engine.apply([embedded(c) for c in changes[start : start + 7]], None)
    for number in (7, 14):
        await engine.apply([removed(number, version=2)], None)
    query = parse_query("red car", mode=mode, limit=100)
    whole = await look(engine, query)
    assert whole.total == len(whole.hits) == 58

    paged = [
        hit
        for offset in range(0, 63, 9)
        for hit in (await look(engine, replace(query, limit=9, offset=offset))).hits
    ]
    assert paged == list(whole.hits)
    totals = {(await look(engine, replace(query, limit=3, offset=o))).total for o in (0, 30, 57)}
    assert totals == {58}
    ties = [hit.document_id for hit in whole.hits if hit.score == whole.hits[0].score]
    assert ties == sorted(ties)

    async with open_embedded_index(tmp_path / "other") as other:
        living = [c for c in reversed(changes) if c.document_id not in (7, 14)]
        await other.apply(living, None)
        assert (
            await search_of(engine, other).search_vectors(query, EVERYONE, vector(query)) == whole
        )


def search_of(engine: EmbeddedVectors, index: EmbeddedIndex) -> NeighbourSearch:
    return NeighbourSearch(index, PostgresNeighbours(engine.truth.pool), seconds=30)


async def test_all_are_compared_while_they_are_few(
    engine: EmbeddedVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surveying, "LISTED_ROOTS", 2)
    texts = {n: "car ".ljust(40 * (2 if n < 11 else 1)) for n in range(1, 91)}
    await engine.apply(
        [added(n, text, path=f"{'few' if n < 11 else 'many'}/{n}") for n, text in texts.items()],
        None,
    )

    async def passing(**options) -> tuple[int, ...] | None:
        query = parse_query("car", mode=SearchMode.SEMANTIC, **options)
        survey = await engine.index.survey(query, EVERYONE, ranked=0)
        assert survey is not None
        return survey.passing

    assert await passing(path="few") == tuple(range(1, 11)), "twenty chunks of a hundred"
    monkeypatch.setattr(surveying, "LISTED_ROOTS", 1.99)
    assert await passing(path="few") is None
    assert await passing() is None
    monkeypatch.setattr(surveying, "LISTED_ROOTS", 60)
    assert await passing() == tuple(range(1, 91))
    monkeypatch.setattr(surveying, "LISTED_DOCUMENTS", 89)
    assert await passing() is None


async def test_total_counts_what_either_order_finds(
    engine: EmbeddedVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbour_search, "REACH", 10)
    monkeypatch.setattr(neighbour_search, "CHUNKS", (40, 40))
    go(monkeypatch, "indexed")
    # No chunk of one is a chunk of another: equal texts share their vector.
    wordy = [added(n, " ".join(f"car {n}x{i}" for i in range(31 - n))) for n in range(1, 31)]
    near = [embedded(added(n, "automobile")) for n in range(31, 36)]
    await engine.apply([*wordy[:-1], embedded(wordy[-1]), *near], None)

    page = await look(engine, parse_query("car", mode=SearchMode.HYBRID, limit=100))

    assert page.total == 35, (
        "thirty by words, the last of them by its vector too, five by vectors alone"
    )
    assert len(page.hits) == 10, "and no result reaches further"
    more = [embedded(added(n, "automobile")) for n in range(36, 50)]
    await engine.apply(more, None)
    semantic = await look(engine, parse_query("car", mode=SearchMode.SEMANTIC, limit=100))
    assert (semantic.total, len(semantic.hits)) == (10, 10)


async def test_selective_filter_finds_what_is_far_away(
    engine: EmbeddedVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The nearest of all are none that pass: the index goes on until it has some that do."""
    go(monkeypatch, "indexed")
    monkeypatch.setattr(neighbours, "EF_SEARCH", 40)
    monkeypatch.setattr(neighbour_search, "CHUNKS", (100, 400))
    many = [embedded(added(n, f"car {n}")) for n in range(1, 301)]
    few = [embedded(added(n, f"a bird {n}", source=OTHER_SOURCE)) for n in range(301, 306)]
    await engine.apply([*many, *few], None)

    query = parse_query("car", mode=SearchMode.SEMANTIC, source_ids=(OTHER_SOURCE,))

    assert {hit.document_id for hit in (await look(engine, query)).hits} == set(range(301, 306))
    query = parse_query("car +bird", mode=SearchMode.SEMANTIC)
    assert {hit.document_id for hit in (await look(engine, query)).hits} == set(range(301, 306))


async def test_long_document_does_not_hide_the_others(
    engine: EmbeddedVectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(monkeypatch, "indexed")
    book = " ".join(f"car {n:05d}".ljust(39) for n in range(1_100))
    others = [embedded(added(n, f"a bird {n}")) for n in range(2, 12)]
    await engine.apply([embedded(added(1, book)), *others], None)

    page = await look(engine, parse_query("car", mode=SearchMode.SEMANTIC))

    assert page.hits[0].document_id == 1
    assert {hit.document_id for hit in page.hits} == set(range(1, 12))


paths = st.text(st.sampled_from("ab./-é\n %_\\*"), max_size=12)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(paths, min_size=1, max_size=30))
def test_folders_mean_the_same_in_a_statement(postgres_server, some: list[str]) -> None:
    """Each path as a document's, and as a filter."""
    import psycopg

    from sercha.adapters.postgres.neighbour_sql import _BELOW
    from sercha.domain.filters import folder, folders

    with psycopg.connect(postgres_server.url) as connection:
        for wanted in some:
            rows = connection.execute(
                f"SELECT d.path, {_BELOW} FROM unnest(%(paths)s::text[]) AS d (path)",
                {"paths": some, "folder": folder(wanted).rstrip("/") + "/"},
            ).fetchall()
            for path, is_below in rows:
                assert is_below == (folder(wanted) in list(folders(path))), (path, wanted)
