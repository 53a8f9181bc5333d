"""Reading a source, and turning bytes into text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sercha.domain.document import (
    ExtractedText,
)
from sercha.domain.source import ItemIssue
from sercha.errors import ItemFailed


@dataclass(frozen=True, slots=True)
class Item:
    """One thing a source has, seen without reading it."""

    external_id: str
    path: str
    fingerprint: str
    size: int
    """Bytes."""
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Items of the half-open key range ``(after, through]``, sorted bytewise by external id.

    Whatever the store knows in that range and the page does not list is gone, unless it begins with one
    of ``unknown_prefixes`` (a folder that could not be read: nothing is known about what is below it).
    """

    items: tuple[Item, ...]
    after: str | None
    through: str | None
    """None: the range has no upper end; this is the last page."""
    cursor: str | None
    """Where to go on after this page; None after the last one."""
    issues: tuple[ItemIssue, ...] = ()
    """Items that cannot become documents, known without reading them (a FIFO, a link out of the root)."""
    unknown_prefixes: tuple[str, ...] = ()


class Connector(Protocol):
    """Reads one kind of source."""

    async def validate(self, config: dict[str, object]) -> dict[str, object]:
        """Return the configuration in its canonical form.

        Raises:
            Rejected: naming the field that is wrong, or the path that is not allowed.
        """
        ...

    async def count(self, config: dict[str, object], *, limit: int) -> int | None:
        """How many items there are, for a progress bar; None when there are more than *limit*."""
        ...

    def pages(self, config: dict[str, object], cursor: str | None) -> AsyncIterator[ItemPage]:
        """List the source from *cursor* on (None: from the start), in pages of bounded size.

        Raises:
            Transient: the source is away as a whole (its root is missing, say); nothing may be deleted.
        """
        ...

    async def fetch(self, items: Sequence[Item]) -> Sequence[bytes | ItemFailed]:
        """Read items: what they hold, or why one could not be read, for the first so many of them, at least one.

        How many is up to the source: a folder reads small files together, as going to a thread and back takes
        longer than each of them.

        Raises:
            Transient: the source is away as a whole; the sync ends and is tried again.
        """
        ...


class TextExtractor(Protocol):
    """Turns bytes into text."""

    async def extract(self, item: Item, content: bytes) -> ExtractedText:
        """Extract text, off the loop when that is long.

        Raises:
            ItemFailed: not a document (binary), or broken.
        """
        ...
