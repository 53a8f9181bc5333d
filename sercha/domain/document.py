"""Documents and their chunks: what a source gave us, as text.

A document's text is kept once; a chunk is a half-open span ``[start, end)`` of it, counted in characters
(Unicode code points, as Python and PostgreSQL's ``substring`` count them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NewType
from uuid import UUID

from sercha.domain.embedding import Vector

DocumentId = NewType("DocumentId", int)

TEAM = "team"
"""The reader that stands for everyone in the team; the default of every document."""

VECTORS_BITS = 32
"""How much room a revision has for the number of a version's vectors."""

TRUNCATED = "truncated"
"""The key of a document's metadata that says how much of a text that is too long was kept."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a document's text, the unit that engines index and rank."""

    position: int
    """Index within the document, from 0."""
    start: int
    end: int
    heading: str = ""
    """The headings above the chunk, outermost first, joined by `` > ``; empty where there are none."""


@dataclass(frozen=True, slots=True)
class Section:
    """Where a part of a text begins that a reader knows by name: a chapter, a page, a sheet."""

    start: int
    """The first character of a line."""
    title: str
    level: int = 1
    """A section stands under the last one before it that has a lower level."""
    is_apart: bool = False
    """Whether no chunk may reach from before it into it, so that what was found is on this very page."""


@dataclass(frozen=True, slots=True)
class ExtractedText:
    """What a parser made of a document's bytes."""

    text: str
    """Clean text: no NUL, line ends as ``\\n``."""
    mime_type: str
    title: str | None = None
    """A title found inside (a Markdown heading); None: use the file's name."""
    charset: str | None = None
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    sections: tuple[Section, ...] = ()
    """Ascending by start. Those of Markdown are found in the text itself."""


@dataclass(frozen=True, slots=True)
class DocumentDraft:
    """A document as a sync wants it stored; the store gives it an id and a version."""

    external_id: str
    """Identity within the source; sorts bytewise (UTF-8) in the order in which the connector lists."""
    path: str
    title: str
    mime_type: str
    text: str
    chunks: tuple[Chunk, ...]
    fingerprint: str
    """What the connector compares to see a change without reading (size, times)."""
    content_hash: bytes
    readers: tuple[str, ...] = (TEAM,)
    metadata: dict[str, str] = field(default_factory=dict[str, str])
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document, without its text."""

    id: DocumentId
    source_id: UUID
    external_id: str
    path: str
    title: str
    mime_type: str
    readers: tuple[str, ...]
    metadata: dict[str, str]
    version: int
    created_at: datetime
    updated_at: datetime
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """Everything an engine needs of one document: read from the truth, never from a sync."""

    id: DocumentId
    source_id: UUID
    path: str
    title: str
    mime_type: str
    text: str
    chunks: tuple[Chunk, ...]
    readers: tuple[str, ...]
    version: int
    modified_at: datetime | None
    vectors: Mapping[str, tuple[Vector | None, ...]] = field(
        default_factory=dict[str, tuple[Vector | None, ...]]
    )
    """By model, one for each chunk that can have one; only for engines that ask for them."""
    vectors_number: int = 0
    """Grows with each time that this version got vectors."""

    @property
    def revision(self) -> int:
        """Tells which of two states is the newer one, also of the same version."""
        return (self.version << VECTORS_BITS) + self.vectors_number
