"""One search over one state of the index: rank documents, then choose the chunk of each that is shown.

The order is (-score, document id) whatever the layout of the segments: hits that tie with the last one of
the page are all fetched before the page is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import tantivy

from sercha.adapters.embedded_index import engine
from sercha.adapters.embedded_index.queries import QueryBuilder, TermPlan
from sercha.domain.document import DocumentId
from sercha.domain.query import WINDOW_MAX, SearchQuery
from sercha.services.ports import IndexHit, IndexPage

EMPTY = IndexPage((), 0)
CHUNKS_FETCHED = 16
PRINCIPALS_PER_CLAUSE_MAX = 60_000


@dataclass(frozen=True, slots=True)
class _Ranked:
    score: int
    number: int


def search(
    schema: tantivy.Schema,
    searcher: tantivy.Searcher,
    plans: Sequence[TermPlan],
    query: SearchQuery,
    principals: frozenset[str],
) -> IndexPage:
    """Answer one search; blocking, from any thread."""
    if not principals:
        return EMPTY
    builder = QueryBuilder(schema, plans, partial(engine.count, searcher))
    documents = builder.documents(principals, query.source_ids)
    if documents is None:
        return EMPTY
    end = min(query.offset + query.limit, WINDOW_MAX)
    ranked, total = _best(searcher, documents, "document_id", end, end + 1)
    hits = tuple(
        IndexHit(
            DocumentId(hit.number),
            _best_chunk(searcher, builder.chunks(hit.number)),
            hit.score / builder.scale,
        )
        for hit in ranked[query.offset : end]
    )
    return IndexPage(hits, total)


def _best_chunk(searcher: tantivy.Searcher, query: tantivy.Query) -> int:
    """The chunk with most of the query, the first one among equals; 0 when only names match."""
    best, _ = _best(searcher, query, "chunk_position", 1, CHUNKS_FETCHED)
    return best[0].number if best else 0


def _best(
    searcher: tantivy.Searcher, query: tantivy.Query, field: str, wanted: int, fetched: int
) -> tuple[list[_Ranked], int]:
    """The first *wanted* entries by (-score, the number in *field*), and how many match in all."""
    while True:
        hits, total = engine.top(searcher, query, fetched)
        if len(hits) <= wanted or len(hits) >= total or hits[-1][0] < hits[wanted - 1][0]:
            break
        fetched *= 4
    numbers = engine.integers(searcher, field, [address for _, address in hits])
    ranked = [_Ranked(score, number) for (score, _), number in zip(hits, numbers, strict=True)]
    ranked.sort(key=lambda hit: (-hit.score, hit.number))
    return ranked[:wanted], total
