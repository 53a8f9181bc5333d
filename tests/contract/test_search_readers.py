"""Whoever asks, whatever they ask: nothing is found that they may not read or did not ask for, in any engine."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TypedDict
from uuid import UUID

import pytest

from sercha.domain.document import IndexedDocument
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
TYPES = ["text/plain", "text/markdown", "application/pdf", "application/text"]
PATHS = ["doc", "docs", "docs/x", "docs/x' or true //", "docs/東京", "Docs/x", "team/../docs"]
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = [FIRST + timedelta(days=number) for number in range(6)]
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
            mime_type=random.choice(TYPES),
            path=f"{random.choice(PATHS)}/{number}",
            modified_at=random.choice([None, *DAYS]),
        )
        for number in range(1, DOCUMENTS + 1)
    ]


class Filters(TypedDict):
    source_ids: tuple[UUID, ...]
    mime_types: tuple[str, ...]
    modified_from: datetime | None
    modified_before: datetime | None
    path: str


def filters(random: Random, hostile: Iterator[str]) -> Filters:
    """Draw filters, often none of a kind."""
    start, end = sorted(random.sample(DAYS, k=2))
    return {
        "source_ids": tuple(random.sample(SOURCES, k=random.choice([0, 0, 1, 2]))),
        "mime_types": tuple(
            random.sample([*TYPES, "text/*", "image/*"], random.choice([0] * 3 + [1, 2]))
        ),
        "modified_from": random.choice([None, None, None, start]),
        "modified_before": random.choice([None, None, None, end]),
        "path": random.choice([""] * 20 + PATHS + [next(hostile)]),
    }


def meets(document: IndexedDocument, query: SearchQuery) -> bool:
    """Say whether a document passes the filters, by other means than the engines'."""
    changed, kind = document.modified_at, document.mime_type
    folder = query.path.strip("/")
    return (
        (not query.source_ids or document.source_id in query.source_ids)
        and (
            not query.mime_types
            or kind in query.mime_types
            or kind.split("/")[0] + "/*" in query.mime_types
        )
        and (
            query.modified_from is None or (changed is not None and changed >= query.modified_from)
        )
        and (
            query.modified_before is None
            or (changed is not None and changed < query.modified_before)
        )
        and (not folder or f"{document.path}/".startswith(f"{folder}/"))
    )


def queries(random: Random) -> Iterator[SearchQuery]:
    """Give ordinary and hostile searches with all operators and filters, for ever."""
    hostile = hostile_texts(random)
    while True:
        words = random.choices(WORDS, k=random.randint(1, 4))
        text = " ".join(random.choice(["", "", "+", "-", '"']) + word for word in words)
        if random.random() < 0.5:
            text = f"{next(hostile)} {text}"
        chosen = filters(random, hostile)
        mode = random.choice(list(SearchMode))
        try:
            yield parse_query(text, mode=mode, limit=100, **chosen)
        except Rejected:
            yield SearchQuery(text, (Term(text),), mode, limit=100, **chosen)


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
            and meets(change.document, query)
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
