-- Sercha's tables. PostgreSQL is the truth; every index is a consumer of the change feed below.

-- Accounts -------------------------------------------------------------------------------------------

CREATE TABLE team_settings (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    team_id uuid NOT NULL DEFAULT gen_random_uuid(),
    default_search_mode text NOT NULL DEFAULT 'text',
    results_per_page integer NOT NULL DEFAULT 20,
    max_results_per_page integer NOT NULL DEFAULT 100,
    sync_enabled boolean NOT NULL DEFAULT true,
    sync_interval_minutes integer NOT NULL DEFAULT 60,
    semantic_search_enabled boolean NOT NULL DEFAULT false,
    auto_suggest_enabled boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_by uuid
);
INSERT INTO team_settings DEFAULT VALUES;

CREATE TABLE account (
    id uuid PRIMARY KEY,
    email text NOT NULL UNIQUE CHECK (email = lower(email)),
    name text NOT NULL,
    role text NOT NULL CHECK (role IN ('admin', 'member', 'viewer')),
    password_hash text NOT NULL,
    active boolean NOT NULL DEFAULT true,
    team_id uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_login_at timestamptz
);

CREATE TABLE session (
    id uuid PRIMARY KEY,
    account_id uuid NOT NULL REFERENCES account ON DELETE CASCADE,
    refresh_hash bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX session_account ON session (account_id);
CREATE INDEX session_expiry ON session (expires_at);

-- Sources --------------------------------------------------------------------------------------------

CREATE TABLE source (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    provider_type text NOT NULL,
    config jsonb NOT NULL DEFAULT '{}',
    enabled boolean NOT NULL DEFAULT true,
    created_by uuid,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE sync_state (
    source_id uuid PRIMARY KEY REFERENCES source ON DELETE CASCADE,
    status text NOT NULL DEFAULT 'idle' CHECK (status IN ('idle', 'running', 'completed', 'failed')),
    task_id uuid,
    cursor text,
    started_at timestamptz,
    completed_at timestamptz,
    last_sync_at timestamptz,
    error text,
    items_expected bigint,
    items_done bigint NOT NULL DEFAULT 0,
    stats jsonb NOT NULL DEFAULT '{}'
);

-- Items of a source that are no documents, with the reason.
CREATE TABLE item_issue (
    source_id uuid NOT NULL REFERENCES source ON DELETE CASCADE,
    external_id text COLLATE "C" NOT NULL,
    kind text NOT NULL CHECK (kind IN ('failed', 'skipped')),
    code text NOT NULL,
    reason text NOT NULL,
    fingerprint text,
    tries integer NOT NULL DEFAULT 1,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    retry_at timestamptz,
    PRIMARY KEY (source_id, external_id)
);

-- Documents ------------------------------------------------------------------------------------------

-- A deleted document stays as a tombstone with its version, so that a late write to an engine never
-- brings it back. No reference to source: tombstones outlive it.
CREATE TABLE document (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source_id uuid NOT NULL,
    external_id text COLLATE "C" NOT NULL,
    path text NOT NULL,
    title text NOT NULL,
    mime_type text NOT NULL,
    text text NOT NULL DEFAULT '',
    chunk_count integer NOT NULL DEFAULT 0,
    fingerprint text,
    content_hash bytea,
    readers text[] NOT NULL DEFAULT '{team}',
    metadata jsonb NOT NULL DEFAULT '{}',
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    modified_at timestamptz,
    deleted_at timestamptz,
    UNIQUE (source_id, external_id)
);
CREATE INDEX document_live ON document (id) WHERE deleted_at IS NULL;

-- A chunk is the half-open span [start_char, end_char) of the document's text, in characters.
CREATE TABLE chunk (
    document_id bigint NOT NULL REFERENCES document ON DELETE CASCADE,
    position integer NOT NULL,
    start_char integer NOT NULL,
    end_char integer NOT NULL CHECK (end_char >= start_char),
    heading text NOT NULL DEFAULT '',
    PRIMARY KEY (document_id, position)
);

-- Everything an engine sees changes the version; bookkeeping (fingerprints) does not.
CREATE FUNCTION document_bump_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version = OLD.version AND
       (NEW.source_id, NEW.path, NEW.title, NEW.mime_type, NEW.text, NEW.chunk_count, NEW.readers,
        NEW.metadata, NEW.modified_at, NEW.deleted_at)
       IS DISTINCT FROM
       (OLD.source_id, OLD.path, OLD.title, OLD.mime_type, OLD.text, OLD.chunk_count, OLD.readers,
        OLD.metadata, OLD.modified_at, OLD.deleted_at)
    THEN
        NEW.version := OLD.version + 1;
    END IF;
    IF NEW.version <> OLD.version THEN
        NEW.updated_at := clock_timestamp();
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER document_bump_version BEFORE UPDATE ON document
    FOR EACH ROW EXECUTE FUNCTION document_bump_version();

-- The change feed ------------------------------------------------------------------------------------
-- Sequence numbers commit out of order, snapshots do not: a consumer's cursor is a pg_snapshot, and what it
-- has not seen are the rows whose transaction that snapshot does not show.

CREATE TABLE change (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    document_id bigint NOT NULL,
    PRIMARY KEY (xid, document_id)
);

CREATE TABLE generation (
    id text PRIMARY KEY,
    engine text NOT NULL,
    state text NOT NULL CHECK (state IN ('building', 'current', 'retired')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX generation_current ON generation (engine) WHERE state = 'current';

-- `mark` names the position that the copy holds, `next_mark` the one that it is about to commit.
CREATE TABLE consumer (
    id text PRIMARY KEY,
    snapshot pg_snapshot NOT NULL,
    mark uuid NOT NULL,
    next_mark uuid NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION record_document_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO change (document_id) SELECT id FROM new_rows ORDER BY id ON CONFLICT DO NOTHING;
    IF FOUND THEN PERFORM pg_notify('sercha_change', ''); END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION record_document_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO change (document_id)
        SELECT n.id FROM new_rows n JOIN old_rows o USING (id) WHERE n.version <> o.version
        ORDER BY n.id ON CONFLICT DO NOTHING;
    IF FOUND THEN PERFORM pg_notify('sercha_change', ''); END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION record_document_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO change (document_id) SELECT id FROM old_rows ORDER BY id ON CONFLICT DO NOTHING;
    IF FOUND THEN PERFORM pg_notify('sercha_change', ''); END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION record_chunk_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO change (document_id) SELECT DISTINCT document_id FROM old_rows
            ORDER BY document_id ON CONFLICT DO NOTHING;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO change (document_id) SELECT DISTINCT document_id FROM new_rows
            ORDER BY document_id ON CONFLICT DO NOTHING;
    END IF;
    PERFORM pg_notify('sercha_change', '');
    RETURN NULL;
END $$;

-- TRUNCATE has no transition tables: everything is recorded beforehand.
CREATE FUNCTION record_document_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO change (document_id) SELECT id FROM document ON CONFLICT DO NOTHING;
    PERFORM pg_notify('sercha_change', '');
    RETURN NULL;
END $$;
CREATE FUNCTION record_chunk_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO change (document_id) SELECT DISTINCT document_id FROM chunk ON CONFLICT DO NOTHING;
    PERFORM pg_notify('sercha_change', '');
    RETURN NULL;
END $$;

CREATE TRIGGER document_truncated BEFORE TRUNCATE ON document
    FOR EACH STATEMENT EXECUTE FUNCTION record_document_truncate();
CREATE TRIGGER chunk_truncated BEFORE TRUNCATE ON chunk
    FOR EACH STATEMENT EXECUTE FUNCTION record_chunk_truncate();
CREATE TRIGGER document_inserted AFTER INSERT ON document
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION record_document_insert();
CREATE TRIGGER document_updated AFTER UPDATE ON document
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION record_document_update();
CREATE TRIGGER document_deleted AFTER DELETE ON document
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION record_document_delete();
CREATE TRIGGER chunk_inserted AFTER INSERT ON chunk
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION record_chunk_change();
CREATE TRIGGER chunk_updated AFTER UPDATE ON chunk
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION record_chunk_change();
CREATE TRIGGER chunk_deleted AFTER DELETE ON chunk
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION record_chunk_change();

-- Nodes and tasks ------------------------------------------------------------------------------------

CREATE TABLE node (
    id uuid PRIMARY KEY,
    role text NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE task (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'completed', 'dead', 'cancelled')),
    priority smallint NOT NULL DEFAULT 0,
    run_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempt integer NOT NULL DEFAULT 0,
    tries integer NOT NULL DEFAULT 0,
    tries_max integer NOT NULL DEFAULT 5 CHECK (tries_max > 0),
    dedupe_key text,
    concurrency_key text,
    owner uuid,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_at timestamptz,
    finished_at timestamptz,
    last_error text
);
CREATE UNIQUE INDEX task_dedupe ON task (dedupe_key) WHERE state = 'queued';
CREATE UNIQUE INDEX task_concurrency ON task (concurrency_key) WHERE state = 'running';
CREATE INDEX task_due ON task (priority DESC, run_at, id) WHERE state = 'queued';
CREATE INDEX task_recent ON task (created_at DESC);

-- In a table of its own: a beat never waits for a transaction that holds the task's row.
CREATE TABLE task_heartbeat (
    task_id uuid PRIMARY KEY REFERENCES task ON DELETE CASCADE,
    attempt integer NOT NULL,
    owner uuid NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX task_heartbeat_expiry ON task_heartbeat (expires_at);

-- Whatever ends an attempt ends its heartbeat. Not in the statement that ends it: that one may have waited
-- for the claim's transaction, and its snapshot does not show the heartbeat which that one made.
CREATE FUNCTION drop_heartbeats() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM task_heartbeat h USING new_rows n WHERE h.task_id = n.id AND n.state <> 'running';
    RETURN NULL;
END $$;
CREATE TRIGGER task_updated AFTER UPDATE ON task
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION drop_heartbeats();
