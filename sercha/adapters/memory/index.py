"""The reference engine: a consumer of the change feed that keeps everything in memory.

It says by its code what `sercha.services.ports.SearchIndex` and `sercha.services.ports.vector_search.VectorSearch` mean,
and does nothing to be fast: a search looks at every document, on Trio's loop, where a test's clock cannot jump meanwhile.
So it is for tests and for some thousands of documents.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass, field

import trio

from sercha.adapters.memory.entries import Entry, make_entry
from sercha.adapters.memory.searching import search_text, search_vectors
from sercha.adapters.text_analysis.spans import find_spans
from sercha.adapters.text_analysis.terms import plan_terms
from sercha.domain.document import VECTORS_BITS, DocumentId
from sercha.domain.ids import new_id
from sercha.domain.query import SearchQuery
from sercha.services.compare import RANGE_DOCUMENTS, compare
from sercha.services.ports import (
    Change,
    DocumentVersion,
    FeedPosition,
    IndexPage,
    VerifyReport,
)
from sercha.services.ports.vector_search import QueryVector

GENERATION = "memory"
REVISION_MAX = 2**63 - 1
"""Of what is known to be gone and nothing else."""


@dataclass(slots=True)
class _Content:
    """All documents in one state; never changed once it answers."""

    entries: dict[DocumentId, Entry] = field(default_factory=dict[DocumentId, Entry])
    revisions: dict[DocumentId, int] = field(default_factory=dict[DocumentId, int])
    """Of everything that ever came, what is gone too: nothing older is taken any more."""
    position: FeedPosition | None = None

    def copy(self) -> _Content:
        """Return what can be changed without this one."""
        return _Content(dict(self.entries), dict(self.revisions), self.position)

    async def take(self, changes: Sequence[Change]) -> None:
        """Take what is newer than what there is; others may run in between."""
        for change in changes:
            await trio.lowlevel.checkpoint()
            number, revision = change.document_id, _revision(change)
            if revision <= self.revisions.get(number, -1):
                continue
            self.revisions[number] = revision
            if change.document is None:
                self.entries.pop(number, None)
            else:
                self.entries[number] = make_entry(change.document)


class MemoryIndex:
    """Satisfies `SearchIndex` and `VectorSearch`; gone with the process."""

    def __init__(self) -> None:
        self.generation = GENERATION
        self.consumer_id = f"{GENERATION}:{new_id()}"
        """For the change feed: each one is a copy of its own."""
        self._content = _Content()
        self._lane = trio.Lock()

    @property
    def entries(self) -> Mapping[DocumentId, Entry]:
        """All documents, as they are searched; a later state is another mapping."""
        return self._content.entries

    async def position(self) -> FeedPosition | None:
        """How far this copy is; None: nothing was ever applied with a position."""
        await trio.lowlevel.checkpoint()
        return self._content.position

    async def apply(self, changes: Sequence[Change], position: FeedPosition | None) -> None:
        """Make *changes* searchable, with *position* at the same moment. Cancelled: nothing has changed."""
        async with self._lane:
            content = self._content.copy()
            await content.take(changes)
            content.position = position or content.position
            self._content = content

    async def replace(
        self, batches: AsyncIterable[Sequence[Change]], position: FeedPosition
    ) -> None:
        """Put *batches* in the place of everything there is, with *position*; tombstones are forgotten.

        The old content answers until then, and stays when this is cancelled or *batches* raises. Other writes wait
        meanwhile. The caller closes *batches*.
        """
        async with self._lane:
            content = _Content(position=position)
            async for batch in batches:
                await content.take(batch)
            self._content = content

    async def search(self, query: SearchQuery, principals: frozenset[str]) -> IndexPage:
        """Find documents whose readers meet *principals*, by their words, whatever the query's mode."""
        await trio.lowlevel.checkpoint()
        return search_text(self.entries, query, principals)

    async def search_vectors(
        self, query: SearchQuery, principals: frozenset[str], vector: QueryVector
    ) -> IndexPage | None:
        """Find documents by *vector*, and in hybrid mode by their words as well; None: none has such vectors."""
        await trio.lowlevel.checkpoint()
        return search_vectors(self.entries, query, principals, vector)

    def spans(self, query: SearchQuery, text: str) -> list[tuple[int, int]]:
        """Where the query's terms are in *text*; for texts of snippet size."""
        return find_spans(plan_terms(query), text)

    async def verify(self, truth: AsyncIterable[list[DocumentVersion]]) -> VerifyReport:
        """Compare with the truth, which comes in ascending batches.

        Changes that are applied meanwhile do not count: the state of the beginning is compared.
        """
        entries = self.entries
        numbers = sorted(entries)

        async def read(above: int, through: int) -> list[DocumentVersion]:
            await trio.lowlevel.checkpoint()
            start = bisect_right(numbers, above)
            end = min(bisect_right(numbers, through), start + RANGE_DOCUMENTS)
            documents = (entries[number].document for number in numbers[start:end])
            return [DocumentVersion(it.id, it.version, len(it.chunks)) for it in documents]

        return await compare(truth, read)


def _revision(change: Change) -> int:
    """Return what the change's place in its document's history is; what buries a version is newer than all of it."""
    if change.document is not None:
        return change.document.revision
    if change.buried is None:
        return REVISION_MAX
    return ((change.buried + 1) << VECTORS_BITS) - 1
