"""Finding documents by vectors, where the engine can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sercha.domain.embedding import Vector
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
