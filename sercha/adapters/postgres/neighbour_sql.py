"""The statements of a search by vectors. The readers' condition is in the only function that makes conditions."""

from __future__ import annotations

from typing import Any, LiteralString

from psycopg import sql

from sercha.domain.filters import ROOT, folder
from sercha.domain.query import SearchQuery

# For the transaction alone. What comes is put in order afterwards: a strict order would leave out what comes a
# little late, one in ten of the nearest behind a selective filter. Forbidden plans look costly: without its being
# off the statement would be compiled for speed.
SETTINGS: LiteralString = """
SELECT set_config('statement_timeout', %(timeout)s, true), set_config('jit', 'off', true),
       set_config('hnsw.iterative_scan', 'relaxed_order', true),
       set_config('hnsw.ef_search', %(ef_search)s, true),
       set_config('hnsw.max_scan_tuples', %(scan_tuples)s, true),
       set_config('enable_seqscan', %(others)s, true), set_config('enable_sort', %(others)s, true),
       set_config('enable_hashjoin', %(others)s, true),
       set_config('enable_mergejoin', %(others)s, true)
"""

# Vectors have length one: the negative inner product orders them as the angle does.
BY_INDEX: LiteralString = """
SELECT c.document_id, c.position, v.vector OPERATOR({schema}.<#>) %(vector)s::{type}
FROM {table} v
JOIN chunk c ON c.content_hash = v.content_hash
JOIN document d ON d.id = c.document_id
WHERE {conditions}
ORDER BY v.vector OPERATOR({schema}.<#>) %(vector)s::{type} LIMIT %(chunks)s
"""

AMONG: LiteralString = """
SELECT document_id, position, distance FROM (
    SELECT DISTINCT ON (c.document_id) c.document_id, c.position,
           v.vector OPERATOR({schema}.<#>) %(vector)s::{type} AS distance
    FROM document d
    JOIN chunk c ON c.document_id = d.id
    JOIN {table} v ON v.content_hash = c.content_hash
    WHERE d.id = ANY (%(among)s::bigint[]) AND {conditions}
    ORDER BY c.document_id, distance, c.position
) AS closest
ORDER BY distance, document_id LIMIT %(reach)s
"""

STATE: LiteralString = """
SELECT count(*) FILTER (WHERE state <> 'retired') > 0, max(name) FILTER (WHERE state = 'current')
FROM embedding_model
"""

_READABLE: LiteralString = "d.deleted_at IS NULL AND d.readers && %(principals)s::text[]"
_OF_SOURCES: LiteralString = "d.source_id = ANY (%(sources)s::uuid[])"
_TYPE: LiteralString = (
    r"btrim(split_part(lower(d.mime_type), ';', 1), E' \t\n\r\f\v') = ANY (%(types)s::text[])"
)
_FAMILY: LiteralString = (
    r"btrim(split_part(split_part(lower(d.mime_type), ';', 1), '/', 1), E' \t\n\r\f\v') || '/*'"
    " = ANY (%(types)s::text[])"
)
_SINCE: LiteralString = "d.modified_at >= %(modified_from)s"
_BEFORE: LiteralString = "d.modified_at < %(modified_before)s"
# As `sercha.domain.filters.folder` spells it: empty names and single dots do not count.
_BELOW: LiteralString = (
    r"starts_with(regexp_replace('/' || d.path || '/', '/(\.?/)+', '/', 'g'), %(folder)s)"
)


def conditions_of(
    query: SearchQuery, principals: frozenset[str]
) -> tuple[sql.SQL, dict[str, Any]] | None:
    """Return what each document must meet, with its parameters; None when none can."""
    if not principals:
        return None
    clauses: list[LiteralString] = [_READABLE]
    parameters: dict[str, Any] = {"principals": sorted(principals)}
    if query.source_ids:
        clauses.append(_OF_SOURCES)
        parameters["sources"] = list(query.source_ids)
    if query.mime_types:
        clauses.append(f"({_TYPE} OR {_FAMILY})")
        parameters["types"] = list(query.mime_types)
    if query.modified_from is not None:
        clauses.append(_SINCE)
        parameters["modified_from"] = query.modified_from
    if query.modified_before is not None:
        clauses.append(_BEFORE)
        parameters["modified_before"] = query.modified_before
    if query.path and (below := folder(query.path)) != ROOT:
        if not _can_be_stored(below):
            return None
        clauses.append(_BELOW)
        parameters["folder"] = below + ROOT
    return sql.SQL(" AND ".join(clauses)), parameters


def _can_be_stored(text: str) -> bool:
    """Whether PostgreSQL could have this text: no NUL, no halves of surrogate pairs."""
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text)
