-- Schedules, and what became of each of their slots.

CREATE TABLE schedule (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE,
    kind text NOT NULL CHECK (kind IN ('interval', 'cron')),
    spec text NOT NULL,
    tz text NOT NULL DEFAULT 'UTC',
    anchor timestamptz NOT NULL CHECK (anchor = date_trunc('second', anchor)),
    task_kind text NOT NULL,
    payload jsonb NOT NULL DEFAULT '{}',
    priority smallint NOT NULL DEFAULT 0,
    source_id uuid REFERENCES source ON DELETE CASCADE,
    catch_up text NOT NULL DEFAULT 'coalesce' CHECK (catch_up IN ('coalesce', 'all', 'skip')),
    runs_max integer NOT NULL DEFAULT 10 CHECK (runs_max > 0),
    max_late integer NOT NULL DEFAULT 3600 CHECK (max_late >= 0),
    enabled boolean NOT NULL DEFAULT true,
    paused_reason text,
    -- The first slot without an outcome; null: there are no more.
    next_slot timestamptz,
    -- Made with its source, and not changed by hand since.
    is_default boolean NOT NULL DEFAULT false CHECK (NOT is_default OR kind = 'interval'),
    version bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX schedule_due ON schedule (next_slot, id) WHERE enabled;
CREATE INDEX schedule_source ON schedule (source_id) WHERE source_id IS NOT NULL;
-- Each slot moves an entry of the index.
ALTER TABLE schedule SET (
    fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_cost_delay = 0
);

-- One row is a slot, or a stretch of slots from `slot` to `slot_last` that did not run.
CREATE TABLE schedule_slot (
    schedule_id uuid NOT NULL REFERENCES schedule ON DELETE CASCADE,
    slot timestamptz NOT NULL,
    slot_last timestamptz NOT NULL CHECK (slot_last >= slot),
    outcome text NOT NULL CHECK (outcome IN ('enqueued', 'coalesced', 'skipped', 'paused', 'manual')),
    task_id uuid,
    token bigint,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (schedule_id, slot)
);
CREATE INDEX schedule_slot_age ON schedule_slot USING brin (recorded_at);

-- A definition that changed wakes the scheduler; moving `next_slot` on does not.
CREATE FUNCTION notify_schedule_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('sercha_schedule', '');
    RETURN NULL;
END $$;
CREATE TRIGGER schedule_changed AFTER INSERT OR UPDATE OF version ON schedule
    FOR EACH STATEMENT EXECUTE FUNCTION notify_schedule_change();

-- Default schedules follow the team's settings. A slot that is due keeps its instant, and the new interval counts
-- from there; slots that passed while syncs were switched off are recorded when they are switched on again.
CREATE FUNCTION retime_default_schedules() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    before interval := make_interval(secs => OLD.sync_interval_minutes * 60);
    seconds integer := NEW.sync_interval_minutes * 60;
BEGIN
    IF NEW.sync_enabled AND NOT OLD.sync_enabled THEN
        INSERT INTO schedule_slot (schedule_id, slot, slot_last, outcome)
            SELECT id, next_slot,
                   next_slot + floor(extract(epoch FROM moment - next_slot) / extract(epoch FROM before)) * before,
                   'paused'
            FROM schedule WHERE is_default AND NOT enabled AND next_slot <= moment
            ON CONFLICT DO NOTHING;
    END IF;
    UPDATE schedule SET
        spec = NEW.sync_interval_minutes || 'm',
        enabled = NEW.sync_enabled,
        paused_reason = CASE WHEN NOT NEW.sync_enabled THEN 'syncs are switched off in the settings' END,
        anchor = CASE WHEN enabled AND next_slot <= moment THEN next_slot ELSE anchor END,
        next_slot = CASE
            WHEN next_slot <= moment AND (enabled OR NOT NEW.sync_enabled) THEN next_slot
            ELSE anchor + make_interval(secs => seconds * greatest(
                0, floor(extract(epoch FROM moment - anchor) / seconds) + 1))
        END,
        version = version + 1, updated_at = moment
    WHERE is_default;
    RETURN NULL;
END $$;
CREATE TRIGGER team_settings_retimed
    AFTER UPDATE OF sync_enabled, sync_interval_minutes ON team_settings
    FOR EACH ROW
    WHEN (OLD.sync_enabled IS DISTINCT FROM NEW.sync_enabled
          OR OLD.sync_interval_minutes IS DISTINCT FROM NEW.sync_interval_minutes)
    EXECUTE FUNCTION retime_default_schedules();

-- The sources that there are get theirs. The anchor is when a source was made, so that they do not all sync at once.
INSERT INTO schedule (id, name, kind, spec, anchor, task_kind, payload, source_id, enabled, paused_reason,
                      next_slot, is_default)
SELECT gen_random_uuid(), 'sync: ' || s.name, 'interval', t.sync_interval_minutes || 'm',
       date_trunc('second', s.created_at), 'sync_source', jsonb_build_object('source_id', s.id), s.id,
       t.sync_enabled, CASE WHEN NOT t.sync_enabled THEN 'syncs are switched off in the settings' END,
       date_trunc('second', s.created_at) + make_interval(secs => t.sync_interval_minutes * 60 * greatest(
           0, floor(extract(epoch FROM clock_timestamp() - s.created_at) / (t.sync_interval_minutes * 60)) + 1)),
       true
FROM source s, team_settings t;
