-- What a person who watches wants to hear of, recorded in the transaction of the change; never of a task, since
-- the queue turns over too fast. Followed as the feed of `change` is, with a snapshot as the position.

CREATE TABLE event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    type text NOT NULL,
    subject uuid,
    data jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX event_xid ON event (xid);

-- Above all transactions whose events were removed: a position that does not show all of those is too old.
CREATE TABLE event_horizon (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    xid xid8 NOT NULL DEFAULT '0'
);
INSERT INTO event_horizon DEFAULT VALUES;

-- Called under the lock of the changed row, so that one row's events are numbered in the order of their commits.
CREATE FUNCTION record_event(type text, subject uuid, data jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO event (type, subject, data) VALUES (type, subject, jsonb_strip_nulls(data));
    SELECT pg_notify('sercha_event', '');
$$;

-- Triggers for each row, with conditions: what is no event (progress of a sync, slots) calls no function.
CREATE FUNCTION record_source_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    said source := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    PERFORM record_event(
        CASE TG_OP WHEN 'INSERT' THEN 'source.added' WHEN 'UPDATE' THEN 'source.changed' ELSE 'source.removed' END,
        said.id,
        jsonb_build_object('name', said.name, 'provider_type', said.provider_type, 'enabled', said.enabled));
    RETURN NULL;
END $$;
CREATE TRIGGER source_told AFTER INSERT OR DELETE ON source
    FOR EACH ROW EXECUTE FUNCTION record_source_event();
CREATE TRIGGER source_change_told AFTER UPDATE ON source
    FOR EACH ROW
    WHEN ((OLD.name, OLD.provider_type, OLD.config, OLD.enabled)
          IS DISTINCT FROM (NEW.name, NEW.provider_type, NEW.config, NEW.enabled))
    EXECUTE FUNCTION record_source_event();

CREATE FUNCTION record_sync_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM record_event(
        CASE NEW.status WHEN 'running' THEN 'sync.started' WHEN 'completed' THEN 'sync.finished'
            WHEN 'failed' THEN 'sync.failed' ELSE 'sync.stopped' END,
        NEW.source_id, jsonb_build_object('task_id', NEW.task_id));
    RETURN NULL;
END $$;
CREATE TRIGGER sync_state_begun AFTER INSERT ON sync_state
    FOR EACH ROW WHEN (NEW.status <> 'idle') EXECUTE FUNCTION record_sync_event();
-- A sync that begins anew changes `started_at`, one that ends again `completed_at`; progress changes neither.
CREATE TRIGGER sync_state_told AFTER UPDATE ON sync_state
    FOR EACH ROW
    WHEN ((OLD.status, OLD.started_at, OLD.completed_at)
          IS DISTINCT FROM (NEW.status, NEW.started_at, NEW.completed_at))
    EXECUTE FUNCTION record_sync_event();

CREATE FUNCTION record_schedule_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    said schedule := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    PERFORM record_event(
        CASE WHEN TG_OP = 'INSERT' THEN 'schedule.added'
            WHEN TG_OP = 'DELETE' THEN 'schedule.removed'
            WHEN OLD.enabled AND NOT NEW.enabled THEN 'schedule.paused'
            WHEN NEW.enabled AND NOT OLD.enabled THEN 'schedule.resumed'
            ELSE 'schedule.changed' END,
        said.id,
        jsonb_build_object('name', said.name, 'source_id', said.source_id, 'enabled', said.enabled));
    RETURN NULL;
END $$;
CREATE TRIGGER schedule_told AFTER INSERT OR DELETE ON schedule
    FOR EACH ROW EXECUTE FUNCTION record_schedule_event();
-- The version grows with the definition, not with `next_slot`.
CREATE TRIGGER schedule_change_told AFTER UPDATE OF version, enabled ON schedule
    FOR EACH ROW
    WHEN (OLD.version IS DISTINCT FROM NEW.version OR OLD.enabled IS DISTINCT FROM NEW.enabled)
    EXECUTE FUNCTION record_schedule_event();
