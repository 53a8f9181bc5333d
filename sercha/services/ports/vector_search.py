"""Finding documents by vectors, where the engine can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sercha.domain.document import DocumentId
from sercha.domain.embedding import EmbeddingModel, Vector
from sercha.domain.query import SearchQuery
from sercha.services.ports.search import IndexPage


@dataclass(frozen=True, slots=True)
class QueryVector:
    """The vector of a search, and the model that it can be compared under."""

    model: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class VectorsState:
    """Whether the engine can use vectors."""

    is_usable: bool
    is_vespa: bool = False
    is_healthy: bool = True
    message: str = ""
    """Why not."""


class VectorSearch(Protocol):
    """An engine that compares vectors."""

    async def search_vectors(
        self, query: SearchQuery, principals: frozenset[str], vector: QueryVector
    ) -> IndexPage | None:
        """Find documents as `SearchIndex.search` does, in the query's mode, semantic or hybrid.

        None: not by this model, or not at present; text still answers.
        """
        ...


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A document with its chunk that is closest to a vector."""

    document_id: DocumentId
    chunk_position: int
    similarity: float
    """The cosine of the angle between the two, 1 at most."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The closest documents."""

    nearest: tuple[Neighbour, ...]
    """By (-similarity, document id)."""
    is_all: bool
    """No more was to be had by asking for more."""


class NeighbourStore(Protocol):
    """Where vectors are, apart from the index of words."""

    async def nearest(
        self,
        query: SearchQuery,
        principals: frozenset[str],
        vector: QueryVector,
        *,
        among: Sequence[DocumentId] | None,
        chunks: int,
    ) -> Neighbours | None:
        """Find documents by their closest chunk that live, pass the query's filters and meet *principals*.

        Args:
            query: its filters hold, its words are for others to judge.
            principals: whose documents may be found; nobody's: none.
            vector: what is looked for.
            among: only these are compared, each of them; None: all, by the index of the vectors, and so nearly all.
            chunks: how many of the closest are looked at, without *among*.

        Returns:
            None where there are no vectors of this model, or not all of them yet.

        Raises:
            Transient: PostgreSQL did not answer, or not in time.
        """
        ...


@dataclass(frozen=True, slots=True)
class Survey:
    """What an index of words says of a search before vectors are looked at."""

    passing: tuple[DocumentId, ...] | None
    """All documents that may be found; None: they are many."""
    ranked: tuple[DocumentId, ...]
    """The best ones by words, in order."""
    matching: int
    """How many are found by words in all."""


class WordIndex(Protocol):
    """An index of words that others fuse with what they find: what it says is of readable documents only.

    A document passes that meets the readers and the filters, has what must be there, and nothing that must not be
    there. It matches if it is found by words as well.
    """

    async def survey(
        self, query: SearchQuery, principals: frozenset[str], *, ranked: int
    ) -> Survey | None:
        """Say what may be found, and the best *ranked* by words; None: nothing can be."""
        ...

    async def judge(
        self,
        query: SearchQuery,
        principals: frozenset[str],
        document_ids: Sequence[DocumentId],
        *,
        by_words: bool,
    ) -> frozenset[DocumentId]:
        """Return which of these documents pass; with *by_words* which of them match."""
        ...

    async def best_chunks(
        self, query: SearchQuery, document_ids: Sequence[DocumentId]
    ) -> dict[DocumentId, int]:
        """Return the chunk with most of the query's words, of those documents that have one with any."""
        ...


class VectorTables(Protocol):
    """Kept vectors in the form in which an engine searches them, where that is not its index."""

    async def complete(self, model: EmbeddingModel) -> str | None:
        """Put all kept vectors of *model* in place, and keep what is kept from now on there too.

        Safe to run at any time, in several processes at once; cancelled, it goes on where it was.

        Returns:
            What keeps it from that, and how to mend it; None: they are all there.

        Raises:
            Transient: PostgreSQL is away.
        """
        ...
