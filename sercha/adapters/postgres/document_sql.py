"""The statements of the document store, by name. Columns of a document always come in the order of `_DOCUMENT`."""

from __future__ import annotations

from typing import LiteralString

_DOCUMENT: LiteralString = """
d.id, d.source_id, d.external_id, d.path, d.title, d.mime_type, d.readers, d.metadata, d.version,
d.created_at, d.updated_at, d.modified_at"""

KNOWN: LiteralString = """
SELECT external_id, fingerprint, content_hash, false, NULL FROM document
WHERE source_id = %(source_id)s AND deleted_at IS NULL
  AND (%(after)s::text IS NULL OR external_id > %(after)s::text COLLATE "C")
  AND (%(through)s::text IS NULL OR external_id <= %(through)s::text COLLATE "C")
UNION ALL
SELECT external_id, fingerprint, NULL, true, retry_at FROM item_issue
WHERE source_id = %(source_id)s
  AND (%(after)s::text IS NULL OR external_id > %(after)s::text COLLATE "C")
  AND (%(through)s::text IS NULL OR external_id <= %(through)s::text COLLATE "C")
"""

# Readers come as one JSON array of arrays: unnest would flatten a text[][].
# A revived tombstone counts as added; xmax is 0 only for a row that was inserted.
SAVE: LiteralString = """
WITH draft AS (
    SELECT * FROM unnest(
        %(external_ids)s::text[], %(paths)s::text[], %(titles)s::text[], %(mime_types)s::text[],
        %(texts)s::text[], %(chunk_counts)s::integer[], %(fingerprints)s::text[], %(hashes)s::bytea[],
        %(metadata)s::jsonb[], %(modified)s::timestamptz[]
    ) WITH ORDINALITY AS u (external_id, path, title, mime_type, text, chunk_count, fingerprint,
                            content_hash, metadata, modified_at, n)
), living AS (
    SELECT external_id FROM document WHERE source_id = %(source_id)s AND deleted_at IS NULL
      AND external_id = ANY (%(external_ids)s)
), saved AS (
    INSERT INTO document (source_id, external_id, path, title, mime_type, text, chunk_count,
                          fingerprint, content_hash, readers, metadata, modified_at)
    SELECT %(source_id)s, external_id, path, title, mime_type, text, chunk_count, fingerprint,
           content_hash,
           array(SELECT jsonb_array_elements_text(%(readers)s::jsonb -> (n - 1)::integer)),
           metadata, modified_at
    FROM draft ORDER BY external_id COLLATE "C"
    ON CONFLICT (source_id, external_id) DO UPDATE SET
        path = excluded.path, title = excluded.title, mime_type = excluded.mime_type,
        text = excluded.text, chunk_count = excluded.chunk_count, fingerprint = excluded.fingerprint,
        content_hash = excluded.content_hash, readers = excluded.readers,
        metadata = excluded.metadata, modified_at = excluded.modified_at, deleted_at = NULL,
        version = document.version + 1
    RETURNING id, external_id
)
SELECT s.id, s.external_id, NOT EXISTS (SELECT 1 FROM living l WHERE l.external_id = s.external_id)
FROM saved s
"""

DROP_CHUNKS: LiteralString = "DELETE FROM chunk WHERE document_id = ANY (%(ids)s)"

COPY_CHUNKS: LiteralString = """
COPY chunk (document_id, position, start_char, end_char, heading, content_hash) FROM STDIN"""

# Rows are locked in the order of external ids, here as in SAVE: two writers cannot wait for each other.
TOUCH: LiteralString = """
WITH touched AS (
    SELECT d.id, u.fingerprint FROM document d
    JOIN unnest(%(external_ids)s::text[], %(fingerprints)s::text[]) AS u (external_id, fingerprint)
      ON d.external_id = u.external_id
    WHERE d.source_id = %(source_id)s
    ORDER BY d.external_id FOR UPDATE OF d
)
UPDATE document d SET fingerprint = t.fingerprint FROM touched t WHERE d.id = t.id
"""

_DOOMED: LiteralString = """
WITH doomed AS (
    SELECT id FROM document WHERE source_id = %(source_id)s AND deleted_at IS NULL"""

_BURY: LiteralString = """
    ORDER BY external_id FOR UPDATE
)
UPDATE document d SET deleted_at = clock_timestamp(), text = '', chunk_count = 0,
       fingerprint = NULL, content_hash = NULL
FROM doomed WHERE d.id = doomed.id RETURNING d.id
"""

DELETE: LiteralString = _DOOMED + " AND external_id = ANY (%(external_ids)s)" + _BURY
DELETE_ALL: LiteralString = _DOOMED + _BURY

GET: LiteralString = (
    "SELECT" + _DOCUMENT + " FROM document d WHERE d.id = %(id)s AND d.deleted_at IS NULL"
)

_OF_SOURCE: LiteralString = """
FROM document d WHERE d.source_id = %(source_id)s AND d.deleted_at IS NULL
AND d.readers && %(principals)s::text[]"""

LIST: LiteralString = (
    "SELECT" + _DOCUMENT + _OF_SOURCE + " ORDER BY d.external_id LIMIT %(limit)s OFFSET %(offset)s"
)
COUNT_OF_SOURCE: LiteralString = "SELECT count(*) " + _OF_SOURCE

READ: LiteralString = """
SELECT d.id, d.source_id, d.path, d.title, d.mime_type, d.text, d.readers, d.version, d.modified_at,
       coalesce((SELECT jsonb_agg(jsonb_build_array(c.position, c.start_char, c.end_char, c.heading)
                                  ORDER BY c.position)
                 FROM chunk c WHERE c.document_id = d.id), '[]'),
       d.deleted_at IS NOT NULL
FROM document d WHERE d.id = ANY (%(ids)s)
"""

# Vectors come as three arrays side by side: models, positions of chunks, vectors. Asked for in the binary format.
READ_WITH_VECTORS: LiteralString = """
SELECT d.id, d.source_id, d.path, d.title, d.mime_type, d.text, d.readers, d.version, d.modified_at,
       coalesce((SELECT jsonb_agg(jsonb_build_array(c.position, c.start_char, c.end_char, c.heading)
                                  ORDER BY c.position)
                 FROM chunk c WHERE c.document_id = d.id), '[]'),
       d.deleted_at IS NOT NULL,
       coalesce((SELECT max(n.number) FROM document_embedding n
                 WHERE n.document_id = d.id AND n.version = d.version), 0),
       coalesce(v.models, '{}'), coalesce(v.positions, '{}'), coalesce(v.vectors, '{}')
FROM document d LEFT JOIN LATERAL (
    SELECT array_agg(m.name) AS models, array_agg(c.position) AS positions,
           array_agg(e.vector) AS vectors
    FROM embedding_model m
    JOIN document_embedding n ON n.model = m.name AND n.document_id = d.id AND n.version = d.version
    JOIN chunk c ON c.document_id = d.id
    JOIN embedding e ON e.model = m.name AND e.content_hash = c.content_hash AND e.vector IS NOT NULL
    WHERE m.state <> 'retired'
) v ON true
WHERE d.id = ANY (%(ids)s)
"""

# A document may have lost the hit's chunk since it was indexed: then its first one stands in, and a
# document without text (found by its title) gives an empty one.
PASSAGES: LiteralString = (
    "SELECT"
    + _DOCUMENT
    + """,
    coalesce(c.position, 0), coalesce(c.start_char, 0), coalesce(c.end_char, 0),
    coalesce(c.heading, ''),
    substring(d.text FROM coalesce(c.start_char, 0) + 1
                     FOR coalesce(c.end_char - c.start_char, 0)),
    CASE WHEN d.chunk_count > 0 THEN d.content_hash END,
    coalesce(twin.listed, '[]')
FROM unnest(%(ids)s::bigint[], %(positions)s::integer[]) AS hit (id, position)
JOIN document d ON d.id = hit.id AND d.deleted_at IS NULL
LEFT JOIN LATERAL (
    SELECT * FROM chunk WHERE chunk.document_id = d.id AND chunk.position IN (hit.position, 0)
    ORDER BY chunk.position = hit.position DESC LIMIT 1
) c ON true
LEFT JOIN LATERAL (
    SELECT jsonb_agg(jsonb_build_array(t.id, t.path) ORDER BY t.path) AS listed
    FROM (
        SELECT o.id, o.path FROM document o
        WHERE o.content_hash = d.content_hash AND o.id <> d.id AND o.deleted_at IS NULL
          AND o.readers && %(principals)s::text[]
        ORDER BY o.id LIMIT %(twins_max)s
    ) t
    WHERE d.chunk_count > 0
) twin ON true
WHERE d.readers && %(principals)s::text[]
"""
)

CHUNKS: LiteralString = """
SELECT c.position, c.start_char, c.end_char, c.heading,
       substring(d.text FROM c.start_char + 1 FOR c.end_char - c.start_char)
FROM chunk c JOIN document d ON d.id = c.document_id
WHERE d.id = %(id)s AND d.deleted_at IS NULL ORDER BY c.position
"""
