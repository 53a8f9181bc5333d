-- Which models make vectors, the vectors by text, and which documents have theirs.

CREATE TABLE embedding_model (
    name text PRIMARY KEY,
    provider text NOT NULL,
    base_url text NOT NULL,
    model text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions > 0),
    api_key bytea,
    requests_per_minute integer CHECK (requests_per_minute > 0),
    state text NOT NULL CHECK (state IN ('filling', 'current', 'retired')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    created_by uuid
);
CREATE UNIQUE INDEX embedding_model_current ON embedding_model (state) WHERE state = 'current';
CREATE UNIQUE INDEX embedding_model_filling ON embedding_model (state) WHERE state = 'filling';

-- Equal texts share a vector. Without one: the endpoint has refused the text for good.
CREATE TABLE embedding (
    model text NOT NULL REFERENCES embedding_model,
    content_hash bytea NOT NULL,
    vector bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, content_hash)
);

-- The vectors that this version of the document can have are there. Numbers only grow, so that an engine can tell
-- the newer one of two states of the same version; they have 32 bits there.
CREATE SEQUENCE embedding_number MAXVALUE 4294967294;
CREATE TABLE document_embedding (
    model text NOT NULL REFERENCES embedding_model,
    document_id bigint NOT NULL REFERENCES document ON DELETE CASCADE,
    version bigint NOT NULL,
    number bigint NOT NULL DEFAULT nextval('embedding_number'),
    PRIMARY KEY (model, document_id)
);
CREATE INDEX document_embedding_document ON document_embedding (document_id);

CREATE FUNCTION record_embedding_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO change (document_id) SELECT DISTINCT document_id FROM new_rows
        ORDER BY document_id ON CONFLICT DO NOTHING;
    IF FOUND THEN PERFORM pg_notify('sercha_change', ''); END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER document_embedding_inserted AFTER INSERT ON document_embedding
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION record_embedding_change();
CREATE TRIGGER document_embedding_updated AFTER UPDATE ON document_embedding
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION record_embedding_change();

-- The hash of a chunk's heading and text is stored: to cut each chunk out of a long text again takes far longer.
-- No index sees it, so the feed need not hear of it.
ALTER TABLE chunk ADD COLUMN content_hash bytea;
ALTER TABLE chunk DISABLE TRIGGER chunk_updated;
UPDATE chunk c SET content_hash = sha256(convert_to(
    c.heading || E'\n' || substring(d.text FROM c.start_char + 1 FOR c.end_char - c.start_char), 'UTF8'))
FROM document d WHERE d.id = c.document_id;
ALTER TABLE chunk ENABLE TRIGGER chunk_updated;
ALTER TABLE chunk ALTER COLUMN content_hash SET NOT NULL;
