"""Two copies in the same state answer alike, whatever they went through to get there."""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import pytest
import tantivy

from sercha.adapters.embedded_index import EmbeddedIndex, open_embedded_index, searching
from sercha.adapters.embedded_index.engine import top
from sercha.adapters.embedded_index.entries import build_schema, entries, register_analyzers
from sercha.adapters.embedded_index.queries import SCORE_SUM_MAX, QueryBuilder
from sercha.adapters.text_analysis.terms import plan_terms
from sercha.domain.document import TEAM, Chunk, DocumentId, IndexedDocument
from sercha.domain.query import parse_query
from sercha.services.ports import Change

WORDS = [
    "the",
    "a",
    "node",
    "lease",
    "renew",
    "wait_readable",
    "HTTPServer",
    "größe",
    "中文",
    "utf8",
]
READERS = [(TEAM,), ("user:1",), ("user:1", "user:2")]
EVERYONE = frozenset({TEAM, "user:1"})


def document(rng: random.Random, number: int, version: int) -> IndexedDocument:
    weights = [60, 40, 9, 7, 5, 3, 3, 2, 2, 1]
    text = " ".join(rng.choices(WORDS, weights, k=rng.choice([0, 1, 5, 5, 40, 40, 40, 300])))
    return IndexedDocument(
        id=DocumentId(number),
        source_id=uuid.UUID(int=number % 3),
        path=f"d{number % 5}/f{number}.txt",
        title=" ".join(rng.choices(WORDS, k=rng.choice([0, 1, 2]))),
        mime_type="text/plain",
        text=text,
        chunks=tuple(Chunk(i, s, min(s + 90, len(text))) for i, s in enumerate(range(0, len(text), 80))),
        readers=rng.choice(READERS),
        version=version,
        modified_at=None,
    )  # fmt: skip


def random_query(rng: random.Random) -> str:
    terms: list[str] = []
    for _ in range(rng.randint(1, 4)):
        sign = rng.choice(["", "", "", "+", "-"])
        words = " ".join(rng.choices(WORDS, k=rng.choice([1, 1, 1, 2])))
        terms.append(f'{sign}"{words}"' if " " in words else sign + words)
    return " ".join(["the", *terms])


async def follow(
    index: EmbeddedIndex, rng: random.Random, truth: dict[int, IndexedDocument], detours: int
) -> None:
    """Bring *index* to *truth* on a way of its own: older states, deletions and batches of any size."""
    numbers = list(truth)
    changes = [Change(DocumentId(n), truth[n]) for n in numbers]
    for _ in range(detours):
        number = rng.randint(1, len(numbers) + 60)
        older = document(rng, number, 1) if rng.random() < 0.8 else None
        changes.append(Change(DocumentId(number), older))
    rng.shuffle(changes)
    last = [Change(DocumentId(n), truth.get(n)) for n in range(1, len(numbers) + 61)]
    rng.shuffle(last)
    changes += last
    while changes:
        size = rng.choice([1, 2, 10, 50, 200])
        await index.apply(changes[:size], None)
        del changes[:size]


async def test_copies_with_different_histories_give_the_same_results_in_the_same_order(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    truth = {n: document(rng, n, 2) for n in range(1, 301)}
    async with (
        open_embedded_index(tmp_path / "index") as tidy,
        open_embedded_index(tmp_path / "index") as worn,
    ):
        await tidy.apply([Change(DocumentId(n), it) for n, it in truth.items()], None)
        await follow(worn, rng, truth, detours=300)
        assert (await tidy.statistics()).documents == (await worn.statistics()).documents == 300
        assert (await worn.statistics()).segments > 1

        for _ in range(200):
            text = random_query(rng)
            query = parse_query(text, limit=rng.choice([1, 10, 100]), offset=rng.choice([0, 0, 7]))
            assert await tidy.search(query, EVERYONE) == await worn.search(query, EVERYONE), text


@pytest.mark.parametrize("first", [1, 10**9])
async def test_among_many_equals_the_lowest_documents_are_found(
    tmp_path: Path, seed: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever they lie in the segments, and with no look at all of them."""
    rng = random.Random(seed)
    numbers = rng.sample(range(first, first + 2_000), 600)
    equals = {number: document(random.Random(rng.randrange(3)), number, 1) for number in numbers}
    changes = [Change(DocumentId(number), it) for number, it in equals.items()]
    async with open_embedded_index(tmp_path / "index") as index:
        while changes:
            size = rng.choice([10, 50, 200])
            await index.apply(changes[:size], None)
            del changes[:size]
        for _ in range(60):
            text = random_query(rng)
            query = parse_query(text, limit=rng.choice([1, 3, 20]), offset=rng.choice([0, 0, 7]))
            monkeypatch.setattr(searching, "FETCHED_MIN", 10_000)
            whole = await index.search(query, EVERYONE)
            for fetched in (4, 32, 150):
                monkeypatch.setattr(searching, "FETCHED_MIN", fetched)
                assert await index.search(query, EVERYONE) == whole, (text, fetched)


def test_highest_score_is_still_added_exactly_by_a_float_of_32_bits() -> None:
    text = " ".join(f"w{n} " * 90 for n in range(64))
    best = IndexedDocument(
        DocumentId(1), uuid.UUID(int=1), text[:400], text, "text/plain", text, (), (TEAM,), 1, None
    )
    index = tantivy.Index(build_schema())
    register_analyzers(index)
    writer = index.writer(15_000_000, 1)
    for entry in entries(best):
        writer.add_document(entry)
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    plans = plan_terms(parse_query(" ".join(f"+w{n}" for n in range(64))))

    builder = QueryBuilder(index.schema, plans, lambda _: 1)
    query = builder.documents(EVERYONE, ())

    assert query is not None
    [(score, _)], _ = top(index.searcher(), query, 1)
    assert SCORE_SUM_MAX / 4 < score <= SCORE_SUM_MAX
