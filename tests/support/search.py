"""Documents, positions and queries for tests of search engines."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime

from sercha.domain.document import TEAM, Chunk, DocumentId, IndexedDocument
from sercha.domain.query import parse_query
from sercha.services.ports import Change, DocumentVersion, FeedPosition, IndexPage, SearchIndex

SOURCE = uuid.UUID(int=1)
OTHER_SOURCE = uuid.UUID(int=2)
EVERYONE = frozenset({TEAM})


def added(
    number: int,
    text: str,
    *,
    title: str = "untitled",
    path: str | None = None,
    version: int = 1,
    readers: tuple[str, ...] = (TEAM,),
    source: uuid.UUID = SOURCE,
    cut: int = 40,
    mime_type: str = "text/plain",
    modified_at: datetime | None = datetime(2026, 1, 2, tzinfo=UTC),
) -> Change:
    starts = range(0, len(text), cut)
    chunks = tuple(Chunk(at, s, min(s + cut, len(text))) for at, s in enumerate(starts))
    document = IndexedDocument(
        id=DocumentId(number),
        source_id=source,
        path=path or f"files/{number}",
        title=title,
        mime_type=mime_type,
        text=text,
        chunks=chunks,
        readers=readers,
        version=version,
        modified_at=modified_at,
    )
    return Change(document.id, document)


def removed(number: int, *, version: int | None = None) -> Change:
    return Change(DocumentId(number), None, buried=version)


def at(snapshot: str, consumer: str = "some-consumer") -> FeedPosition:
    return FeedPosition(consumer, snapshot, "7301:1", "a mark")


async def find(
    engine: SearchIndex, text: str, principals: frozenset[str] = EVERYONE, **options: object
) -> IndexPage:
    return await engine.search(parse_query(text, **options), principals)  # type: ignore[arg-type]


async def ids(
    engine: SearchIndex, text: str, principals: frozenset[str] = EVERYONE, **options: object
) -> set[int]:
    page = await find(engine, text, principals, limit=100, **options)
    return {hit.document_id for hit in page.hits}


async def batches(*truth: Iterable[DocumentVersion]) -> AsyncIterator[list[DocumentVersion]]:
    for batch in truth:
        yield list(batch)
