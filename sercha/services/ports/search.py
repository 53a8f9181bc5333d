"""The change feed and the engines that follow it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sercha.domain.document import (
    DocumentId,
    IndexedDocument,
)
from sercha.domain.query import SearchQuery


@dataclass(frozen=True, slots=True)
class FeedPosition:
    """How far a copy has followed the change feed. Only meaningful in the database named by ``timeline``."""

    consumer_id: str
    snapshot: str
    """A ``pg_snapshot`` as text."""
    timeline: str
    """Names the history of the database; another one: the copy must be rebuilt."""
    mark: str
    """A UUID of this very position, known to the database before the copy commits it."""


@dataclass(frozen=True, slots=True)
class ChangeBatch:
    """Documents that changed between two positions."""

    document_ids: tuple[DocumentId, ...]
    position: FeedPosition


class ChangeFeed(Protocol):
    """Which documents changed, in the order in which snapshots see them; nothing is ever skipped."""

    async def register(self, consumer_id: str) -> FeedPosition:
        """(Re-)register a consumer at the present; what was committed before must be read by a scan."""
        ...

    async def poll(self, position: FeedPosition) -> ChangeBatch | None:
        """What changed since *position*; an empty batch when nothing did.

        None when the consumer is not registered, or the database is another one: rebuild.
        """
        ...

    async def advance(self, position: FeedPosition, following: FeedPosition) -> None:
        """Record, durably, that the copy holds *position* and may commit *following* next.

        To be called before that commit: afterwards the database knows every position that a copy may have,
        and can tell when it was itself set back to an older state.
        """
        ...

    async def unregister(self, consumer_id: str) -> None:
        """Forget a consumer, and tell whoever follows as it: its copy must be rebuilt, or is no more."""
        ...

    async def moment(self) -> str:
        """The present, as a ``pg_snapshot``: everything committed before this call is seen by it."""
        ...

    async def covers(self, position: FeedPosition, moment: str) -> bool:
        """Whether a copy at *position* has every change that *moment* sees."""
        ...

    async def trim(self) -> None:
        """Forget changes that all consumers have seen, and consumers that fell silent."""
        ...

    def scan(self, *, batch: int) -> AsyncGenerator[tuple[DocumentId, ...]]:
        """All live document ids, ascending, in batches: for a rebuild."""
        ...

    def versions(self, *, batch: int) -> AsyncGenerator[list[DocumentVersion]]:
        """All live documents' versions by ascending id: for verify."""
        ...


@dataclass(frozen=True, slots=True, order=True)
class DocumentVersion:
    """What verify compares."""

    id: DocumentId
    version: int
    chunk_count: int


@dataclass(frozen=True, slots=True)
class Change:
    """One document's present state; ``document`` None: it is gone."""

    document_id: DocumentId
    document: IndexedDocument | None
    buried: int | None = None
    """The version of what is gone; None where not even that is known any more."""


@dataclass(frozen=True, slots=True)
class IndexHit:
    """A document found, with its best chunk."""

    document_id: DocumentId
    chunk_position: int
    score: float


@dataclass(frozen=True, slots=True)
class IndexPage:
    """Hits by (-score, document id): the same order on every copy in the same state."""

    hits: tuple[IndexHit, ...]
    total: int
    """Documents that match in all; exact up to `sercha.domain.query.WINDOW_MAX`, a lower bound above."""
    coverage: int = 100
    """Percentage of the documents that were searched."""
    degraded: tuple[str, ...] = ()
    """Why the page may lack hits; empty: it does not."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """Differences between a copy and the truth; all zero when they agree."""

    checked: int
    missing: int = 0
    stale: int = 0
    ghost: int = 0
    examples: tuple[str, ...] = field(default=())

    @property
    def differences(self) -> int:
        return self.missing + self.stale + self.ghost


class SearchIndex(Protocol):
    """One engine's copy of the documents: a consumer of the change feed, never written to by a sync."""

    @property
    def generation(self) -> str:
        """Which generation of the index this copy belongs to."""
        ...

    async def position(self) -> FeedPosition | None:
        """How far this copy is; None: it is empty or was thrown away, rebuild it."""
        ...

    async def apply(self, changes: Sequence[Change], position: FeedPosition | None) -> None:
        """Make *changes* durable and searchable; with *position*, in the same commit.

        Idempotent. A batch without a position is part of a larger one: a crash before the position is
        recorded makes the whole run again. Cancelled: committed or not, never half.

        Raises:
            Transient: the copy could not be written (disk full, say); its last commit still answers.
        """
        ...

    async def replace(
        self, batches: AsyncIterable[Sequence[Change]], position: FeedPosition
    ) -> None:
        """Put *batches* in the place of everything there is, in one commit with *position*.

        The old content answers until then, and stays when this is cancelled or *batches* raises.

        Raises:
            Transient: as in `apply`.
        """
        ...

    async def search(self, query: SearchQuery, principals: frozenset[str]) -> IndexPage:
        """Find documents whose readers meet *principals*, filtered inside the engine."""
        ...

    def spans(self, query: SearchQuery, text: str) -> list[tuple[int, int]]:
        """Where the query's terms are in *text*: half-open character spans, ascending, not overlapping."""
        ...

    async def verify(self, truth: AsyncIterable[list[DocumentVersion]]) -> VerifyReport:
        """Compare with the truth, which comes in ascending batches."""
        ...
