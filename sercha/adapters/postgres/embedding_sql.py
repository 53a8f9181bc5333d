"""The statements of the embedding store, by name."""

from __future__ import annotations

from typing import LiteralString

MODELS: LiteralString = """
SELECT base_url, model, dimensions, provider, state, api_key, requests_per_minute
FROM embedding_model WHERE state <> 'retired' ORDER BY state
"""

KNOWN: LiteralString = (
    "SELECT base_url, model, dimensions FROM embedding_model ORDER BY created_at, name"
)

# Keeps others from changing models until the transaction ends.
ALONE: LiteralString = "SELECT pg_advisory_xact_lock(hashtext('embedding_model'), 0)"

# Other models are wanted, or another one answers.
TELL: LiteralString = "SELECT pg_notify('sercha_ai', '')"

RETIRE: LiteralString = """
UPDATE embedding_model SET state = 'retired', api_key = NULL
WHERE state = ANY (%(states)s) AND name <> %(name)s
"""

# What a retired one has left may be half removed: its documents count as lacking, what is kept is used.
FORGET_DONE: LiteralString = """
DELETE FROM document_embedding WHERE model = %(name)s
AND EXISTS (SELECT 1 FROM embedding_model WHERE name = %(name)s AND state = 'retired')
"""

CONFIGURE: LiteralString = """
INSERT INTO embedding_model AS m
    (name, provider, base_url, model, dimensions, api_key, requests_per_minute, state, created_by)
VALUES (%(name)s, %(provider)s, %(base_url)s, %(model)s, %(dimensions)s, %(api_key)s,
        %(requests_per_minute)s, 'filling', %(created_by)s)
ON CONFLICT (name) DO UPDATE SET
    provider = excluded.provider, api_key = excluded.api_key,
    requests_per_minute = excluded.requests_per_minute, created_by = excluded.created_by,
    state = CASE m.state WHEN 'current' THEN 'current' ELSE 'filling' END
"""

_LACKS: LiteralString = """
d.deleted_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM document_embedding e
    WHERE e.model = %(model)s AND e.document_id = d.id AND e.version = d.version)
"""

LACKING: LiteralString = (
    "SELECT d.id, octet_length(d.text) FROM document d WHERE d.id > %(after)s AND "
    + _LACKS
    + "ORDER BY d.id LIMIT %(limit)s"
)

MISSING: LiteralString = """
SELECT d.text, array_agg(c.content_hash), array_agg(c.start_char), array_agg(c.end_char),
       array_agg(c.heading)
FROM document d JOIN chunk c ON c.document_id = d.id
WHERE d.id = ANY (%(ids)s) AND d.deleted_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM embedding e WHERE e.model = %(model)s AND e.content_hash = c.content_hash)
GROUP BY d.id
"""

# Not for a model that was retired meanwhile. In the order of the key: two that keep the same cannot deadlock.
KEEP: LiteralString = """
INSERT INTO embedding (model, content_hash, vector)
SELECT m.name, u.content_hash, u.vector
FROM unnest(%(hashes)s::bytea[], %(vectors)s::bytea[]) AS u (content_hash, vector)
JOIN embedding_model m ON m.name = %(model)s AND m.state <> 'retired'
ORDER BY u.content_hash ON CONFLICT DO NOTHING
"""

# One snapshot shows a document's version together with its chunks.
COMPLETE: LiteralString = """
INSERT INTO document_embedding (model, document_id, version)
SELECT m.name, d.id, d.version
FROM document d JOIN embedding_model m ON m.name = %(model)s AND m.state <> 'retired'
WHERE d.id = ANY (%(ids)s) AND d.deleted_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM chunk c WHERE c.document_id = d.id AND NOT EXISTS (
        SELECT 1 FROM embedding e WHERE e.model = m.name AND e.content_hash = c.content_hash))
ORDER BY d.id
ON CONFLICT (model, document_id) DO UPDATE
    SET version = excluded.version, number = nextval('embedding_number')
    WHERE document_embedding.version <> excluded.version
RETURNING document_id
"""

PROGRESS: LiteralString = (
    "SELECT count(*), count(*) - count(*) FILTER (WHERE "
    + _LACKS
    + ") FROM document d WHERE d.deleted_at IS NULL"
)

IS_DONE: LiteralString = (
    """
SELECT EXISTS (SELECT 1 FROM embedding_model WHERE name = %(model)s AND state = 'filling')
   AND NOT EXISTS (SELECT 1 FROM document d WHERE """
    + _LACKS
    + ")"
)

PROMOTE: LiteralString = "UPDATE embedding_model SET state = 'current' WHERE name = %(name)s"
