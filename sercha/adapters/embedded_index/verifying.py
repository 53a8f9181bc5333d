"""Which versions a copy holds, a range of ids at a time."""

from __future__ import annotations

from collections import Counter

import tantivy
from tantivy import FieldType, Occur, Order, Query

from sercha.adapters.embedded_index import engine
from sercha.adapters.embedded_index.entries import KIND_CHUNK, KIND_DOCUMENT
from sercha.domain.document import DocumentId
from sercha.services.compare import RANGE_DOCUMENTS
from sercha.services.ports import DocumentVersion


def read_versions(
    schema: tantivy.Schema, searcher: tantivy.Searcher, above: int, through: int
) -> list[DocumentVersion]:
    """See `sercha.services.compare.ReadVersions`; blocking. The chunks are counted as they are found, not as they were promised.

    An id that has two entries comes twice.
    """
    query = _in_range(schema, KIND_DOCUMENT, above, through)
    result = searcher.search(
        query, limit=RANGE_DOCUMENTS, order_by_field="document_id", order=Order.Asc
    )
    addresses = [address for _, address in result.hits]
    if not addresses:
        return []
    ids = engine.integers(searcher, "document_id", addresses)
    versions = engine.integers(searcher, "version", addresses)
    if len(ids) == RANGE_DOCUMENTS:
        through = ids[-1]
    chunks = _chunk_counts(schema, searcher, above, through)
    return [
        DocumentVersion(DocumentId(number), version, chunks[number])
        for number, version in zip(ids, versions, strict=True)
    ]


def _chunk_counts(
    schema: tantivy.Schema, searcher: tantivy.Searcher, above: int, through: int
) -> Counter[int]:
    query = _in_range(schema, KIND_CHUNK, above, through)
    hits, _ = engine.top(searcher, query, max(1, engine.count(searcher, query)))
    return Counter(engine.integers(searcher, "document_id", [address for _, address in hits]))


def _in_range(schema: tantivy.Schema, kind: int, above: int, through: int) -> Query:
    return Query.boolean_query(
        [
            (Occur.Must, Query.term_query(schema, "kind", kind)),
            (
                Occur.Must,
                Query.range_query(
                    schema, "document_id", FieldType.Integer, above, through, include_lower=False
                ),
            ),
        ]
    )
