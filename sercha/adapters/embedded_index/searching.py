"""One search over one state of the index: rank documents, then choose the chunk of each that is shown.

The order is (-score, document id) whatever the layout of the segments. Tantivy orders what ties by its place in
them, so a page that ends among equals is asked for again with a ceiling on the id, until all ties below it are seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import tantivy
from tantivy import FieldType, Occur, Query

from sercha.adapters.embedded_index import engine
from sercha.adapters.embedded_index.queries import QueryBuilder
from sercha.adapters.text_analysis.terms import TermPlan
from sercha.domain.document import DocumentId
from sercha.domain.query import WINDOW_MAX, SearchQuery
from sercha.services.ports import IndexHit, IndexPage

EMPTY = IndexPage((), 0)
CHUNKS_FETCHED = 2_000
"""Chunks read at once to choose the best ones of a page."""
FETCHED_MIN = 1000
"""Entries read at once: so many cost little more than one, and often show that the page ends among no equals."""


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
    ranked, total = best(schema, searcher, documents, "document_id", end)
    page = ranked[query.offset : end]
    chunks = best_chunks(schema, searcher, builder, [hit.number for hit in page])
    hits = tuple(
        IndexHit(DocumentId(hit.number), chunks.get(hit.number, 0), hit.score / builder.scale)
        for hit in page
    )
    return IndexPage(hits, total)


def best_chunks(
    schema: tantivy.Schema,
    searcher: tantivy.Searcher,
    builder: QueryBuilder,
    numbers: Sequence[int],
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
                alone, _ = best(schema, searcher, builder.chunks([number]), "chunk_position", 1)
                chosen[number] = (-alone[0].score, alone[0].number) if alone else (0, 0)
    return {number: position for number, (_, position) in chosen.items()}


def best(
    schema: tantivy.Schema, searcher: tantivy.Searcher, query: Query, field: str, wanted: int
) -> tuple[list[_Ranked], int]:
    """The first *wanted* entries by (-score, the number in *field*), and how many match in all."""
    fetched = max(4 * wanted, FETCHED_MIN)
    hits, total = engine.top(searcher, query, fetched)
    last = hits[min(wanted, len(hits)) - 1][0] if hits else 0
    above = [hit for hit in hits if hit[0] > last]
    numbers = engine.integers(searcher, field, [address for _, address in above])
    ranked = [_Ranked(score, number) for (score, _), number in zip(above, numbers, strict=True)]
    ranked.sort(key=lambda hit: (-hit.score, hit.number))
    tied = _tied(searcher, field, hits, last)
    missing = wanted - len(above)
    found = total
    while hits and len(hits) < found and hits[-1][0] == last:
        # The lowest of all ties are not above the lowest of those that were seen. Mostly they are far below: where
        # numbers are spread evenly, half of what is fetched lies below the first of these two.
        ceiling = tied[missing - 1]
        for highest in (ceiling * (fetched // 2) // found, ceiling):
            span = Query.range_query(schema, field, FieldType.Integer, None, highest)
            condition = (Occur.Must, Query.const_score_query(span, 0.0))
            both = Query.boolean_query([(Occur.Must, query), condition])
            hits, found = engine.top(searcher, both, fetched)
            tied = _tied(searcher, field, hits, last)
            if len(tied) >= missing:
                break
    return [*ranked, *(_Ranked(last, number) for number in tied[:missing])], total


def _tied(
    searcher: tantivy.Searcher, field: str, hits: Sequence[engine.Hit], score: int
) -> list[int]:
    addresses = [address for each, address in hits if each == score]
    return sorted(engine.integers(searcher, field, addresses))
