"""Documents with the same content are shown once on a page of results, with the places of the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from sercha.domain.document import DocumentDraft, DocumentId
from sercha.domain.query import parse_query
from sercha.services.search import Search, SearchResult
from sercha.testing import MemoryIndex
from tests.support.truth import Truth, draft, open_truth

TEAM = frozenset({"team"})


@pytest.fixture
async def truth(postgres_url: str) -> AsyncIterator[Truth]:
    async with open_truth(postgres_url) as truth:
        yield truth


async def search(
    truth: Truth, drafts: Sequence[DocumentDraft], words: str, principals: frozenset[str] = TEAM
) -> list[SearchResult]:
    source = await truth.add_source(paths=["/notes"])
    async with truth.pool.transaction() as tx:
        await truth.documents.save(tx, source.id, drafts)
    index = MemoryIndex()
    count = await truth.value("SELECT max(id) FROM document")
    ids = [DocumentId(number) for number in range(1, int(str(count)) + 1)]
    await index.apply(await truth.documents.read(ids), None)
    page = await Search(index, truth.documents).search(parse_query(words), principals)
    return list(page.results)


async def test_what_is_the_same_is_shown_once_with_all_places(truth: Truth) -> None:
    drafts = [draft(f"/notes/{name}", "oolong tea") for name in ("a", "b", "c")]
    drafts.append(draft("/notes/other", "oolong again"))
    results = await search(truth, drafts, "oolong")

    assert len(results) == 2
    (first,) = (each for each in results if each.content == "oolong tea")
    places = [first.document.path, *(twin.path for twin in first.twins)]
    assert sorted(places) == ["/notes/a", "/notes/b", "/notes/c"]
    assert all(twin.id != first.document.id for twin in first.twins)
    assert [each.twins for each in results if each.content == "oolong again"] == [()]


async def test_a_place_that_may_not_be_read_is_not_told(truth: Truth) -> None:
    drafts = [
        draft("/notes/mine", "oolong tea", readers=("user:1",)),
        draft("/notes/theirs", "oolong tea", readers=("user:2",)),
    ]
    (result,) = await search(truth, drafts, "oolong", frozenset({"user:1"}))

    assert (result.document.path, result.twins) == ("/notes/mine", ())


async def test_a_place_that_is_no_more_is_not_told(truth: Truth) -> None:
    source = await truth.add_source("gone", paths=["/gone"])
    async with truth.pool.transaction() as tx:
        await truth.documents.save(tx, source.id, [draft("/gone/a", "oolong tea")])
        await truth.documents.delete(tx, source.id, ["/gone/a"])
    (result,) = await search(truth, [draft("/notes/a", "oolong tea")], "oolong")

    assert result.twins == ()


async def test_documents_without_text_are_no_twins(truth: Truth) -> None:
    drafts = [draft(f"/notes/oolong{number}", "") for number in range(3)]
    results = await search(truth, drafts, "oolong0 OR oolong1 OR oolong2")

    assert [each.twins for each in results] == [()] * len(results)
    assert len(results) >= 1


async def test_of_many_places_some_are_told_and_all_are_left_out(truth: Truth) -> None:
    drafts = [draft(f"/notes/{number:03}", "oolong tea") for number in range(60)]
    (result,) = await search(truth, drafts, "oolong")

    assert len(result.twins) == 20
