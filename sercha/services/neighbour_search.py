"""Search by vectors beside an index of words: what is near and may be found, and both orders fused.

::

    words: how many documents may be found? ──┬── few: all of them are compared
                                              └── many: the index of the vectors, then words judge what it gave
    semantic: by the closest chunk            hybrid: that order and the one by words, by reciprocal rank

Readers and filters are part of what is asked in both places, so neither can give what the caller may not see.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import structlog
import trio

from sercha.domain.document import DocumentId
from sercha.domain.query import SearchMode, SearchQuery
from sercha.errors import SerchaError
from sercha.services.fusion import fuse
from sercha.services.ports.search import IndexHit, IndexPage
from sercha.services.ports.vector_search import (
    Neighbour,
    NeighbourStore,
    QueryVector,
    Survey,
    WordIndex,
)

REACH = 1_000
"""How many of the best of each order take part; no result reaches further. The same as with Vespa."""
CHUNKS = (REACH, 8 * REACH)
"""How many of the closest chunks are looked at, and how many where these are of few documents that pass."""
FEW = 100
"""Documents: so many can be on the first page."""
SECONDS = 2.5
"""How long a search waits for what is near; then it is answered by text."""
AWAY_SECONDS = 5.0
"""How long nobody waits again after that."""
EMPTY = IndexPage((), 0)

_log = structlog.get_logger()


class NeighbourSearch:
    """Satisfies `sercha.services.ports.vector_search.VectorSearch`."""

    def __init__(
        self, words: WordIndex, neighbours: NeighbourStore, *, seconds: float = SECONDS
    ) -> None:
        self._words = words
        self._neighbours = neighbours
        self._seconds = seconds
        self._away_until = float("-inf")

    async def search_vectors(
        self, query: SearchQuery, principals: frozenset[str], vector: QueryVector
    ) -> IndexPage | None:
        """Find documents by *vector*, and in hybrid mode by their words as well.

        None: there are no vectors of this model, or they could not be compared in time. Cancellation only stops
        reading.
        """
        if not principals:
            return EMPTY
        if trio.current_time() < self._away_until:
            return None
        why = f"no answer within {self._seconds:g} s"
        with trio.move_on_after(self._seconds):
            try:
                return await self._search(query, principals, vector)
            except SerchaError as error:
                why = error.message
        self._away_until = trio.current_time() + AWAY_SECONDS
        _log.warning("search.no_neighbours", model=vector.model, error=why)
        return None

    async def _search(
        self, query: SearchQuery, principals: frozenset[str], vector: QueryVector
    ) -> IndexPage | None:
        is_hybrid = query.mode is SearchMode.HYBRID
        survey = await self._words.survey(query, principals, ranked=REACH if is_hybrid else 0)
        if survey is None:
            return EMPTY
        near = await self._near(query, principals, vector, survey)
        if near is None:
            return None
        if is_hybrid:
            return await self._fused(query, principals, survey, near)
        page = near[query.offset : query.offset + query.limit]
        hits = [
            IndexHit(each.document_id, each.chunk_position, closeness(each.similarity))
            for each in page
        ]
        return IndexPage(tuple(hits), len(near))

    async def _near(
        self,
        query: SearchQuery,
        principals: frozenset[str],
        vector: QueryVector,
        survey: Survey,
    ) -> Sequence[Neighbour] | None:
        """Return the closest documents that pass, `REACH` at most, the same for each page."""
        near: Sequence[Neighbour] = ()
        for chunks in CHUNKS:
            found = await self._neighbours.nearest(
                query, principals, vector, among=survey.passing, chunks=chunks
            )
            if found is None:
                return None
            near = found.nearest
            if survey.passing is None:
                ids = [each.document_id for each in near]
                passing = await self._words.judge(query, principals, ids, by_words=False)
                near = [each for each in near if each.document_id in passing]
            if found.is_all or len(near) >= FEW:
                break
        return near[:REACH]

    async def _fused(
        self,
        query: SearchQuery,
        principals: frozenset[str],
        survey: Survey,
        near: Sequence[Neighbour],
    ) -> IndexPage:
        by_vector = {each.document_id: each.chunk_position for each in near}
        fused = fuse([survey.ranked, list(by_vector)])[:REACH]
        page = fused[query.offset : query.offset + query.limit]
        unmatched = by_vector.keys() - set(survey.ranked)
        if survey.matching > len(survey.ranked):
            ids = sorted(unmatched)
            unmatched -= await self._words.judge(query, principals, ids, by_words=True)
        by_words = await self._words.best_chunks(query, [number for number, _ in page])
        hits = [
            IndexHit(number, _chunk(number, by_words, by_vector), score) for number, score in page
        ]
        return IndexPage(tuple(hits), survey.matching + len(unmatched))


def closeness(similarity: float) -> float:
    """Return what Vespa scores an angle with: 1 for the same direction, less the further apart."""
    return 1 / (1 + math.acos(max(-1.0, min(1.0, similarity))))


def _chunk(
    number: DocumentId, by_words: dict[DocumentId, int], by_vector: dict[DocumentId, int]
) -> int:
    """Choose the chunk that is shown: the best one by words, else the closest, else the first."""
    return by_words.get(number, by_vector.get(number, 0))
