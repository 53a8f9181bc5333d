"""Whoever asks, whatever they ask: nothing is found that they may not read, in any engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from sercha.domain.query import SearchMode, SearchQuery, Term, parse_query
from sercha.errors import Rejected
from sercha.services.ports import Change, SearchIndex
from tests.support.engines import ENGINES, open_engine
from tests.support.hostile import hostile_texts
from tests.support.search import added

GROUPS = [
    "team",
    "user:ann",
    "user:bob",
    "group:x",
    "group:Ärzte, alle",
    "x'y\"z",
    "user:ann,user:bob",
]
WORDS = [
    "secret",
    "word",
    "team",
    "readers",
    "東京",
    "größe",
    "wait_readable",
    "user",
    "ann",
    "true",
]
SOURCES = [UUID(int=number) for number in range(1, 4)]
DOCUMENTS = 120
CASES, CASES_PROOF = 2_500, 50_000


def documents(random: Random) -> list[Change]:
    return [
        added(
            number,
            " ".join(random.choices(WORDS, k=random.randint(1, 8))),
            title=random.choice(WORDS),
            readers=tuple(random.sample(GROUPS, k=random.randint(0, 3))),
            source=random.choice(SOURCES),
        )
        for number in range(1, DOCUMENTS + 1)
    ]


def queries(random: Random) -> Iterator[SearchQuery]:
    """Give ordinary and hostile searches with all operators and filters, for ever."""
    hostile = hostile_texts(random)
    while True:
        words = random.choices(WORDS, k=random.randint(1, 4))
        text = " ".join(random.choice(["", "", "+", "-", '"']) + word for word in words)
        if random.random() < 0.5:
            text = f"{next(hostile)} {text}"
        sources = tuple(random.sample(SOURCES, k=random.choice([0, 0, 1, 2])))
        mode = random.choice(list(SearchMode))
        try:
            yield parse_query(text, mode=mode, source_ids=sources, limit=100)
        except Rejected:
            yield SearchQuery(text, (Term(text),), mode, sources, 100)


async def nothing_forbidden(engine: SearchIndex, random: Random, cases: int) -> int:
    """Ask that often; how many documents were found in all."""
    changes = documents(random)
    await engine.apply(changes, None)
    found = 0
    for number, query in enumerate(queries(random)):
        if number == cases:
            return found
        principals = frozenset(random.sample(GROUPS, k=random.randint(0, 3)))
        allowed = {
            change.document_id
            for change in changes
            if change.document is not None
            and principals & set(change.document.readers)
            and (not query.source_ids or change.document.source_id in query.source_ids)
        }
        page = await engine.search(query, principals)
        seen = {hit.document_id for hit in page.hits}
        assert seen <= allowed, (query, principals)
        assert page.total <= len(allowed), (query, principals)
        found += len(seen)
    raise AssertionError


@pytest.mark.parametrize("name", ENGINES)
async def test_nothing_is_found_that_may_not_be_read(name: str, seed: int, tmp_path: Path) -> None:
    async with open_engine(name, tmp_path) as engine:
        assert await nothing_forbidden(engine, Random(seed), CASES) > CASES


@pytest.mark.proof
@pytest.mark.parametrize("name", ENGINES)
async def test_nothing_is_found_that_may_not_be_read_in_many_cases(
    name: str, seed: int, tmp_path: Path
) -> None:
    async with open_engine(name, tmp_path) as engine:
        found = await nothing_forbidden(engine, Random(seed), CASES_PROOF)
    print(f"{name}: {CASES_PROOF} searches, {found} documents found, none forbidden")
    assert found > CASES_PROOF
