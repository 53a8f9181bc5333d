"""What others ask who find documents by other means than words: which ones may be found, and which words find.

Each answer is of readable documents alone: every query here has the readers' condition in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import tantivy
from tantivy import Occur, Query

from sercha.adapters.embedded_index import engine
from sercha.adapters.embedded_index.queries import QueryBuilder
from sercha.adapters.embedded_index.searching import best, best_chunks
from sercha.adapters.text_analysis.terms import TermPlan
from sercha.domain.document import DocumentId
from sercha.domain.query import SearchQuery
from sercha.services.ports.vector_search import Survey

LISTED_DOCUMENTS = 20_000
LISTED_ROOTS = 60
"""Documents are listed, so that all of them are compared, while their chunks are no more than so many times the
square root of all chunks. To compare them costs as much as they are many; the index of the vectors must be followed
the longer the fewer pass. At this number both cost the same, as measured with 384 dimensions."""


def survey(
    schema: tantivy.Schema,
    searcher: tantivy.Searcher,
    plans: Sequence[TermPlan],
    query: SearchQuery,
    principals: frozenset[str],
    ranked: int,
) -> Survey | None:
    """Say what may be found, and the best *ranked* by words; None: nothing can be. Blocking, from any thread."""
    builder = QueryBuilder(schema, plans, partial(engine.count, searcher))
    passing = builder.passing(principals, builder.filters(query))
    if passing is None or not principals:
        return None
    hits: tuple[DocumentId, ...] = ()
    matching = 0
    if ranked:
        documents = builder.documents(principals, builder.filters(query))
        assert documents is not None, "what may be found is looked for"
        found, matching = best(schema, searcher, documents, "document_id", ranked)
        hits = tuple(DocumentId(hit.number) for hit in found)
    all_chunks = engine.count(searcher, builder.all_chunks())
    return Survey(_listed(searcher, passing, all_chunks), hits, matching)


def judge(
    schema: tantivy.Schema,
    searcher: tantivy.Searcher,
    plans: Sequence[TermPlan],
    query: SearchQuery,
    principals: frozenset[str],
    document_ids: Sequence[DocumentId],
    by_words: bool,
) -> frozenset[DocumentId]:
    """Return which of these documents pass, or match. Blocking, from any thread."""
    if not document_ids or not principals:
        return frozenset()
    builder = QueryBuilder(schema, plans, partial(engine.count, searcher))
    make = builder.documents if by_words else builder.passing
    condition = make(principals, builder.filters(query))
    if condition is None:
        return frozenset()
    asked = Query.boolean_query(
        [(Occur.Must, condition), (Occur.Must, builder.among(document_ids))]
    )
    return frozenset(_ids(searcher, asked, len(document_ids)))


def chunks(
    schema: tantivy.Schema,
    searcher: tantivy.Searcher,
    plans: Sequence[TermPlan],
    document_ids: Sequence[DocumentId],
) -> dict[DocumentId, int]:
    """Return the best chunk by words of each document that has one. Blocking, from any thread."""
    builder = QueryBuilder(schema, plans, partial(engine.count, searcher))
    found = best_chunks(schema, searcher, builder, document_ids)
    return {DocumentId(number): position for number, position in found.items()}


def _listed(
    searcher: tantivy.Searcher, passing: Query, all_chunks: int
) -> tuple[DocumentId, ...] | None:
    count = engine.count(searcher, passing)
    if count > LISTED_DOCUMENTS:
        return None
    chunks_max = LISTED_ROOTS * math.sqrt(all_chunks)
    if count > chunks_max:
        return None
    hits, _ = engine.top(searcher, passing, count)
    addresses = [address for _, address in hits]
    if sum(engine.integers(searcher, "chunk_count", addresses)) > chunks_max:
        return None
    numbers = engine.integers(searcher, "document_id", addresses)
    return tuple(DocumentId(number) for number in sorted(numbers))


def _ids(searcher: tantivy.Searcher, query: Query, limit: int) -> list[DocumentId]:
    hits, _ = engine.top(searcher, query, limit)
    numbers = engine.integers(searcher, "document_id", [address for _, address in hits])
    return [DocumentId(number) for number in numbers]
