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
from sercha.adapters.embedded_index.queries import QueryBuilder
from sercha.adapters.text_analysis.terms import TermPlan
from sercha.domain.document import DocumentId
from sercha.domain.query import WINDOW_MAX, SearchQuery
from sercha.services.ports import IndexHit, IndexPage

EMPTY = IndexPage((), 0)
CHUNKS_FETCHED = 2_000
"""Chunks read at once to choose the best ones of a page."""
TIES_FETCHED = 4_000
"""Documents read at once when the page ends among equals."""


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
    documents = builder.documents(principals, builder.filters(query))
    if documents is None:
        return EMPTY
    end = min(query.offset + query.limit, WINDOW_MAX)
    ranked, total = best(searcher, documents, "document_id", end, end + 1)
    page = ranked[query.offset : end]
    chunks = best_chunks(searcher, builder, [hit.number for hit in page])
    hits = tuple(
        IndexHit(DocumentId(hit.number), chunks.get(hit.number, 0), hit.score / builder.scale)
        for hit in page
    )
    return IndexPage(hits, total)


def best_chunks(
    searcher: tantivy.Searcher, builder: QueryBuilder, numbers: Sequence[int]
) -> dict[int, int]:
    """Of each document the chunk with most of the query, the first among equals.

    Documents where only names match are left out. One query does it for the whole page, except for
    documents whose best chunk may lie behind the last hit that was fetched.
    """
    if not numbers:
        return {}
    hits, total = engine.top(searcher, builder.chunks(numbers), CHUNKS_FETCHED)
    addresses = [address for _, address in hits]
    chosen: dict[int, tuple[int, int]] = {}
    for (score, _), number, position in zip(
        hits,
        engine.integers(searcher, "document_id", addresses),
        engine.integers(searcher, "chunk_position", addresses),
        strict=True,
    ):
        chosen[number] = min(chosen.get(number, (0, 0)), (-score, position))
    if len(hits) < total:
        for number in numbers:
            if number not in chosen or chosen[number][0] == -hits[-1][0]:
                alone, _ = best(
                    searcher, builder.chunks([number]), "chunk_position", 1, CHUNKS_FETCHED
                )
                chosen[number] = (-alone[0].score, alone[0].number) if alone else (0, 0)
    return {number: position for number, (_, position) in chosen.items()}


def best(
    searcher: tantivy.Searcher, query: tantivy.Query, field: str, wanted: int, fetched: int
) -> tuple[list[_Ranked], int]:
    """The first *wanted* entries by (-score, the number in *field*), and how many match in all."""
    while True:
        hits, total = engine.top(searcher, query, fetched)
        if len(hits) <= wanted or len(hits) >= total or hits[-1][0] < hits[wanted - 1][0]:
            break
        fetched = max(fetched * 4, TIES_FETCHED)
    numbers = engine.integers(searcher, field, [address for _, address in hits])
    ranked = [_Ranked(score, number) for (score, _), number in zip(hits, numbers, strict=True)]
    ranked.sort(key=lambda hit: (-hit.score, hit.number))
    return ranked[:wanted], total
