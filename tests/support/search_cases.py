"""Random documents, and searches of all kinds with all filters, for suites about who may find what."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TypedDict
from uuid import UUID

from sercha.domain.document import IndexedDocument
from sercha.domain.query import SearchMode, SearchQuery, Term, parse_query
from sercha.errors import Rejected
from sercha.services.ports import Change
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


def documents(random: Random, count: int) -> list[Change]:
    """Draw so many documents, some of which nobody may read."""
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
        for number in range(1, count + 1)
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


def allowed(changes: list[Change], query: SearchQuery, principals: frozenset[str]) -> set[int]:
    """Return what may be found by *principals*, by other means than the engines'."""
    return {
        change.document_id
        for change in changes
        if change.document is not None
        and principals & set(change.document.readers)
        and meets(change.document, query)
    }
