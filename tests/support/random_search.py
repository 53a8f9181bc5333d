"""Random documents and searches: all scripts, operators and filters, and texts that try to be more than text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TypedDict
from uuid import UUID
from zlib import crc32

from sercha.domain.document import DocumentId, IndexedDocument
from sercha.domain.query import SearchMode, SearchQuery, Term, parse_query
from sercha.errors import Rejected
from sercha.services.ports import Change
from tests.support.hostile import hostile_texts
from tests.support.search import added
from tests.support.vectors import embedded

GROUPS = [
    "team", "user:ann", "user:bob", "group:x", "group:Ärzte, alle", "x'y\"z", "user:ann,user:bob",
]  # fmt: skip
WORDS = [
    "secret", "word", "team", "readers", "東京", "京都", "größe", "gr", "wait_readable", "wait", "readable",
    "HTTPServer", "http", "URLs", "getElementById", "utf8", "café", "ёж", "user", "ann", "true",
]  # fmt: skip
LONG = "x" * 200
"""Of documents only: no engine has it, and what a phrase around it finds is not the same in all."""
SOURCES = [UUID(int=number) for number in range(1, 4)]
TYPES = ["text/plain", "text/markdown", "application/pdf", "application/text"]
PATHS = ["doc", "docs", "docs/x", "docs/x' or true //", "docs/東京", "Docs/x", "team/../docs"]
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = [FIRST + timedelta(days=number) for number in range(6)]


def random_document(random: Random, number: int, *, version: int = 1) -> Change:
    """Give a document for any kinds of readers; not all chunks have vectors."""
    change = added(
        number,
        " ".join(random.choices([*WORDS, LONG], k=random.choice([0, 1, 2, 5, 8, 8, 40]))),
        title=" ".join(random.choices(WORDS, k=random.randint(1, 2))),
        readers=tuple(random.sample(GROUPS, k=random.randint(0, 3))),
        source=random.choice(SOURCES),
        mime_type=random.choice(TYPES),
        path=f"{random.choice(PATHS)}/{number}",
        modified_at=random.choice([None, *DAYS]),
        version=version,
    )
    assert change.document is not None
    chunks = [
        replace(each, heading=random.choice(["", "", random.choice(WORDS)]))
        for each in change.document.chunks
    ]
    change = replace(change, document=replace(change.document, chunks=tuple(chunks)))
    # By the text: where equal ones share a vector, all of them have it or none.
    return embedded(change, has_vector=lambda text: crc32(text.encode()) % 10 < 7)


def random_documents(random: Random, count: int) -> list[Change]:
    """Give so many documents with at least one chunk each; all chunks have vectors."""
    found: list[Change] = []
    while len(found) < count:
        change = random_document(random, len(found) + 1)
        if change.document is not None and change.document.text:
            found.append(embedded(change))
    return found


class Filters(TypedDict):
    source_ids: tuple[UUID, ...]
    mime_types: tuple[str, ...]
    modified_from: datetime | None
    modified_before: datetime | None
    path: str


def random_filters(random: Random, hostile: Iterator[str]) -> Filters:
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


def random_queries(random: Random) -> Iterator[SearchQuery]:
    """Give ordinary and hostile searches in all modes, with all operators and filters, for ever."""
    hostile = hostile_texts(random)
    while True:
        words = random.choices(WORDS, k=random.randint(1, 4))
        text = " ".join(random.choice(["", "", "+", "-", '"']) + word for word in words)
        if random.random() < 0.5:
            text = f"{next(hostile)} {text}"
        chosen = random_filters(random, hostile)
        mode = random.choice(list(SearchMode))
        try:
            yield parse_query(text, mode=mode, limit=100, **chosen)
        except Rejected:
            yield SearchQuery(text, (Term(text),), mode, limit=100, **chosen)


def allowed(
    changes: Iterable[Change], query: SearchQuery, principals: frozenset[str]
) -> set[DocumentId]:
    """Return what *principals* may be shown, by other means than the engines'."""
    return {
        change.document_id
        for change in changes
        if change.document is not None
        and principals & set(change.document.readers)
        and meets(change.document, query)
    }
