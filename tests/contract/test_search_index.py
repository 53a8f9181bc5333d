"""What every search engine behind the port does. A new engine joins in `tests.support.engines`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import trio
import trio.testing

from sercha.domain.document import TEAM, DocumentId
from sercha.domain.query import SearchQuery, Term, parse_query
from sercha.services.ports import (
    Change,
    DocumentVersion,
    FeedPosition,
    IndexPage,
    SearchIndex,
    VerifyReport,
)
from tests.support.engines import ENGINES, open_engine
from tests.support.search import (
    EVERYONE,
    OTHER_SOURCE,
    SOURCE,
    added,
    at,
    batches,
    find,
    ids,
    removed,
)


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SearchIndex]:
    async with open_engine(request.param, tmp_path) as index:
        yield index


async def test_new_copy_has_no_position_and_no_results(engine: SearchIndex) -> None:
    assert await engine.position() is None
    assert await find(engine, "anything") == IndexPage((), 0)


async def test_applied_documents_are_found_at_once_and_removed_ones_are_not(
    engine: SearchIndex,
) -> None:
    await engine.apply([added(1, "red apple"), added(2, "green apple")], at("5:5:"))
    assert await ids(engine, "apple") == {1, 2}
    assert await engine.position() == at("5:5:")

    await engine.apply([removed(1), added(2, "yellow pear", version=2)], at("6:6:"))

    assert await ids(engine, "apple green red") == set()
    assert await ids(engine, "pear") == {2}
    assert await engine.position() == at("6:6:")


async def test_batch_without_a_position_leaves_the_position_as_it_was(engine: SearchIndex) -> None:
    await engine.apply([added(1, "red")], None)
    assert await engine.position() is None
    await engine.apply([added(2, "red")], at("5:5:"))

    await engine.apply([added(3, "red")], None)

    assert await engine.position() == at("5:5:")
    assert await ids(engine, "red") == {1, 2, 3}


async def test_applying_twice_is_the_same_as_once(engine: SearchIndex) -> None:
    changes = [added(1, "red red red"), added(1, "blue", version=2), removed(9)]
    for _ in range(2):
        await engine.apply(changes, at("5:5:"))

    assert await ids(engine, "red") == set()
    assert (await find(engine, "blue")).total == 1


async def in_batches(*changes: Change, size: int = 2) -> AsyncIterator[list[Change]]:
    for start in range(0, len(changes), size):
        yield list(changes[start : start + size])


async def test_replaced_content_is_gone_and_the_new_one_is_there(engine: SearchIndex) -> None:
    await engine.apply([added(n, "red") for n in range(1, 9)], at("5:5:"))

    await engine.replace(in_batches(*(added(n, "blue") for n in range(5, 12))), at("6:6:"))

    assert await engine.position() == at("6:6:")
    assert await ids(engine, "red") == set()
    assert await ids(engine, "blue") == set(range(5, 12))
    await engine.replace(in_batches(), at("7:7:"))
    assert await engine.position() == at("7:7:")
    assert await ids(engine, "blue") == set()


async def test_old_content_answers_while_it_is_replaced(engine: SearchIndex) -> None:
    await engine.apply([added(1, "red")], at("5:5:"))
    seen: list[tuple[set[int], FeedPosition | None]] = []

    async def watched() -> AsyncIterator[list[Change]]:
        for number in range(2, 5):
            yield [added(number, "red " * 500)]
            seen.append((await ids(engine, "red"), await engine.position()))

    await engine.replace(watched(), at("6:6:"))

    assert seen == [({1}, at("5:5:"))] * 3
    assert await ids(engine, "red") == {2, 3, 4}


@pytest.mark.parametrize("end", ["raises", "cancelled"])
async def test_old_content_stays_when_replacing_ends_early(engine: SearchIndex, end: str) -> None:
    await engine.apply([added(1, "red")], at("5:5:"))

    async def breaking() -> AsyncIterator[list[Change]]:
        yield [added(n, "blue " * 400) for n in range(2, 300)]
        if end == "raises":
            raise LookupError("the truth went away")
        scope.cancel()
        yield [added(300, "blue")]

    with trio.CancelScope() as scope:
        async with aclosing(breaking()) as batches:
            if end == "raises":
                with pytest.raises(LookupError):
                    await engine.replace(batches, at("6:6:"))
            else:
                await engine.replace(batches, at("6:6:"))

    assert await engine.position() == at("5:5:")
    assert (await ids(engine, "red"), await ids(engine, "blue")) == ({1}, set())
    await engine.apply([added(2, "red")], at("7:7:"))
    assert (await ids(engine, "red"), await ids(engine, "blue")) == ({1, 2}, set())


async def test_write_waits_until_replacing_is_done(engine: SearchIndex) -> None:
    started, go_on = trio.Event(), trio.Event()

    async def slow() -> AsyncIterator[list[Change]]:
        yield [added(1, "red")]
        started.set()
        await go_on.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.replace, slow(), at("5:5:"))
        await started.wait()
        nursery.start_soon(engine.apply, [added(2, "red")], at("6:6:"))
        await trio.testing.wait_all_tasks_blocked()
        assert await ids(engine, "red") == set()
        go_on.set()

    assert await engine.position() == at("6:6:")
    assert await ids(engine, "red") == {1, 2}


async def test_readers_are_filtered_inside_the_engine(engine: SearchIndex) -> None:
    secret = [added(n, "plan plan plan", readers=("user:ann", "group:x")) for n in range(1, 40)]
    await engine.apply([*secret, added(50, "the plan")], None)

    page = await find(engine, "plan", frozenset({TEAM, "user:bob"}), limit=5)

    assert [hit.document_id for hit in page.hits] == [50]
    assert page.total == 1
    assert (await find(engine, "plan", frozenset({TEAM, "group:x"}))).total == 40
    assert await find(engine, "plan", frozenset()) == IndexPage((), 0)
    assert await ids(engine, "plan team user:ann", frozenset({"user:bob"})) == set()


async def test_many_principals_are_allowed(engine: SearchIndex) -> None:
    await engine.apply([added(1, "plan", readers=("group:1999",)), added(2, "plan")], None)

    assert await ids(engine, "plan", frozenset(f"group:{n}" for n in range(2_000))) == {1}


async def test_sources_are_filtered(engine: SearchIndex) -> None:
    await engine.apply([added(1, "plan"), added(2, "plan", source=OTHER_SOURCE)], None)

    page = await find(engine, "plan", source_ids=(OTHER_SOURCE,))

    assert [hit.document_id for hit in page.hits] == [2]
    assert (await find(engine, "plan", source_ids=(SOURCE, OTHER_SOURCE))).total == 2
    assert (await find(engine, "plan", source_ids=(uuid.UUID(int=3),))).total == 0


async def test_terms_say_what_a_document_must_and_must_not_have(engine: SearchIndex) -> None:
    await engine.apply(
        [
            added(1, "alpha " + "filler " * 30 + "beta"),
            added(2, "alpha gamma"),
            added(3, "beta gamma"),
            added(4, "delta"),
        ],
        None,
    )

    assert await ids(engine, "alpha beta") == {1, 2, 3}
    assert await ids(engine, "+alpha +beta") == {1}, "required anywhere in the document"
    assert await ids(engine, "+gamma alpha") == {2, 3}
    assert await ids(engine, "alpha -beta") == {2}, "excluded anywhere in the document"
    assert await ids(engine, '"alpha gamma"') == {2}
    assert await ids(engine, '"gamma alpha"') == set()
    assert await ids(engine, 'alpha -"alpha gamma"') == {1}
    assert await ids(engine, "+" + "x" * 500 + " alpha") == set(), "required, but never indexed"
    assert await ids(engine, "nowhere") == set()


@pytest.mark.parametrize("word", ["alpha", "wait", "docs", "re"])
async def test_with_and_without_a_word_make_the_whole(engine: SearchIndex, word: str) -> None:
    texts = ["base alpha", "base wait_readable", "base größe", "base alphaWait", "base"]
    paths = ["docs/a", "docs/b", "c", "re/d", "e"]
    pairs = enumerate(zip(texts, paths, strict=True), start=1)
    await engine.apply([added(n, text, path=path) for n, (text, path) in pairs], None)

    having, lacking = await ids(engine, f"+{word} base"), await ids(engine, f"base -{word}")

    assert having | lacking == {1, 2, 3, 4, 5}
    assert not having & lacking
    assert having


@pytest.mark.parametrize(
    "text",
    [
        'title:x AND "', "a* b? [x TO y] ~2 ^3", "((((", "\\", "a:b:c", "*:*", "/re.*/", "NOT foo",
        '+"', "foo\n\tbar", "'; DROP TABLE", "{!x}", "yql=select", "\u202e\u0000x", "𝕏 ﬁ ①", "x\ud800",
    ],
)  # fmt: skip
async def test_syntax_of_engines_is_only_text(engine: SearchIndex, text: str) -> None:
    await engine.apply([added(1, "unrelated", path="p"), added(2, "other", path="q")], None)
    query = SearchQuery(text, (Term(text), *parse_query(text + " word").terms))

    page = await engine.search(query, EVERYONE)
    engine.spans(query, "some text, foo bar")

    assert page.total == 0


async def test_query_at_all_limits_is_answered(engine: SearchIndex) -> None:
    await engine.apply([added(1, "中" * 900 + " a1 ")], None)

    assert await ids(engine, " ".join(f"w{n}" for n in range(63)) + " a1") == {1}
    assert await ids(engine, "中" * 900) == {1}
    assert await ids(engine, '"' + "a b " * 400 + '"') == set()
    assert await ids(engine, "\ufdfa" * 1_900) == set()


async def test_word_cut_by_the_border_of_chunks_is_found(engine: SearchIndex) -> None:
    text = "x" * 36 + " boundary crossing"
    await engine.apply([added(1, text, cut=40)], None)

    assert await ids(engine, "boundary") == {1}
    assert await ids(engine, '"boundary crossing"') == {1}


async def test_phrase_does_not_go_across_a_word_that_is_too_long_to_be_indexed(
    engine: SearchIndex,
) -> None:
    encoded = "eJ" * 90
    texts = [f"alpha {encoded} beta", f"größe {encoded} beta", f"alpha {'é' * 90} beta"]
    await engine.apply([added(n, text, cut=400) for n, text in enumerate(texts)], None)

    assert await ids(engine, '"alpha beta"') == await ids(engine, '"größe beta"') == set()
    assert await ids(engine, "alpha-beta größe_beta") == set()
    assert await ids(engine, "+alpha +beta") == {0, 2}


async def test_best_chunk_is_the_one_with_most_of_the_query(engine: SearchIndex) -> None:
    text = "red".ljust(40) + "red blue".ljust(40) + "red blue".ljust(40) + "blue".ljust(40)
    await engine.apply([added(1, text), added(2, "nothing", title="purple")], None)

    assert [hit.chunk_position for hit in (await find(engine, "red blue")).hits] == [1]
    assert (await find(engine, "blue")).hits[0].chunk_position in (1, 2, 3)
    assert [hit.chunk_position for hit in (await find(engine, "purple")).hits] == [0]


async def test_best_chunk_is_the_first_of_many_equals(engine: SearchIndex) -> None:
    await engine.apply([added(1, "nothing here".ljust(40) + "red".ljust(40) * 300)], None)

    assert [hit.chunk_position for hit in (await find(engine, "red")).hits] == [1]


async def test_best_chunk_is_found_behind_thousands_of_better_ones(engine: SearchIndex) -> None:
    many = "none".ljust(20) + "red blue".ljust(20) * 2_300
    few = "none".ljust(20) * 2 + "red".ljust(20) * 2
    await engine.apply([added(1, many, cut=20), added(2, few, cut=20)], None)

    hits = (await find(engine, "red blue")).hits

    assert {hit.document_id: hit.chunk_position for hit in hits} == {1: 1, 2: 2}


async def test_empty_document_is_found_by_its_names(engine: SearchIndex) -> None:
    await engine.apply([added(1, "", title="Quarterly budget", path="ops/plans/Q3Report.md")], None)

    for text in ("quarterly", '"quarterly budget"', "plans", "q3report", "report"):
        assert await ids(engine, text) == {1}, text


async def test_word_of_the_title_and_word_of_the_body_meet(engine: SearchIndex) -> None:
    await engine.apply(
        [added(1, "about pears", title="Fruit"), added(2, "fruit"), added(3, "about pears")], None
    )

    assert await ids(engine, "+fruit +pears") == {1}


async def test_title_weighs_more_than_the_text_and_words_more_than_parts(
    engine: SearchIndex,
) -> None:
    await engine.apply(
        [
            added(1, "parse_widget here in some text"),
            added(2, "one widget here in some text"),
            added(3, "other text", title="widget"),
            added(4, "widget widget widget widget here"),
            *(added(n, "filler") for n in range(5, 15)),
        ],
        None,
    )

    assert [hit.document_id for hit in (await find(engine, "widget")).hits] == [3, 4, 2, 1]


async def test_pages_are_disjoint_and_cover_everything(engine: SearchIndex) -> None:
    changes = [added(n, "tie " * (1 + n % 3)) for n in range(1, 258)]
    for start in range(0, len(changes), 50):
        await engine.apply(changes[start : start + 50], None)

    seen: list[int] = []
    for offset in range(0, 300, 20):
        page = await find(engine, "tie", limit=20, offset=offset)
        assert page.total == 257
        seen += [hit.document_id for hit in page.hits]

    assert sorted(seen) == list(range(1, 258))
    assert len(set(seen)) == len(seen)
    whole = [
        hit for o in (0, 100, 200) for hit in (await find(engine, "tie", limit=100, offset=o)).hits
    ]
    assert [hit.document_id for hit in whole] == seen
    assert whole == sorted(whole, key=lambda hit: (-hit.score, hit.document_id))


async def test_verify_counts_missing_stale_and_ghost(engine: SearchIndex) -> None:
    await engine.apply([added(n, "some words " * 9) for n in (1, 2, 3, 5, 9)], None)
    chunks = 3
    good = [DocumentVersion(DocumentId(n), 1, chunks) for n in (1, 2, 3, 5, 9)]

    assert await engine.verify(batches(good)) == VerifyReport(checked=5)
    assert await engine.verify(batches(good[:2], [], good[2:])) == VerifyReport(checked=5)
    report = await engine.verify(
        batches(
            [good[0], DocumentVersion(DocumentId(2), 2, chunks)],
            [DocumentVersion(DocumentId(3), 1, 7), DocumentVersion(DocumentId(4), 1, 1)],
            [DocumentVersion(DocumentId(8), 1, 1)],
        )
    )
    assert (report.checked, report.missing, report.stale, report.ghost) == (5, 2, 2, 2)
    assert any("document 4" in example for example in report.examples)
    assert (await engine.verify(batches())).ghost == 5


async def test_verify_goes_through_large_copies(engine: SearchIndex) -> None:
    numbers = range(1, 1_301)
    await engine.apply([added(n, "w", version=n) for n in numbers], None)
    truth = [DocumentVersion(DocumentId(n), n, 1) for n in numbers]

    assert await engine.verify(batches(truth)) == VerifyReport(checked=1_300)
    assert (await engine.verify(batches(truth[:700]))).ghost == 600


async def test_spans_are_in_characters_of_the_given_text(engine: SearchIndex) -> None:
    text = "Ein größeres 東京都 Wait_Readable, HTTPServer — trio.lowlevel end"

    def marked(query: str) -> list[str]:
        return [text[start:end] for start, end in engine.spans(parse_query(query), text)]

    assert marked("GROSSERES größeres") == ["größeres"]
    assert marked("東京") == ["東京"]
    assert marked("readable") == ["Readable"]
    assert marked("http server") == ["HTTP", "Server"]
    assert marked("trio.lowlevel -end") == ["trio.lowlevel"]
    assert marked('"ein größeres"') == ["Ein größeres"]
    assert marked("nothing") == []
