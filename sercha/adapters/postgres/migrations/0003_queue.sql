-- The queue: claims live by the heartbeat of their worker, not by one row for each task.

DROP TRIGGER task_updated ON task;
DROP FUNCTION drop_heartbeats();
DROP TABLE task_heartbeat;

-- One row for each process that claims. An owner whose time is over never comes back: it takes a new id.
CREATE TABLE heartbeat (
    owner uuid PRIMARY KEY,
    node_id uuid NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX heartbeat_expiry ON heartbeat (expires_at);

-- Seconds that one attempt may take; null: no limit of its own.
ALTER TABLE task ADD COLUMN time_limit double precision CHECK (time_limit > 0);

-- Each change of state writes a row anew, and an entry in each index that it belongs to. So there are few, and
-- none holds rows that it will not be asked for. The order of ids is that of their making (UUID version 7).
DROP INDEX task_recent;
DROP INDEX task_dedupe;
DROP INDEX task_concurrency;
CREATE UNIQUE INDEX task_dedupe ON task (dedupe_key) WHERE state = 'queued' AND dedupe_key IS NOT NULL;
CREATE UNIQUE INDEX task_concurrency ON task (concurrency_key)
    WHERE state = 'running' AND concurrency_key IS NOT NULL;
CREATE INDEX task_running ON task (owner) WHERE state = 'running';
CREATE INDEX task_ended ON task (finished_at) WHERE state IN ('completed', 'dead', 'cancelled');
CREATE INDEX task_dead ON task (id) WHERE state = 'dead';

-- The queue's rows turn over faster than the defaults expect.
ALTER TABLE task SET (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0
);

-- What may be claimed. A task whose key is running is left alone; one that may wait for a slot after its claim is a
-- first attempt with tries to spare, since a death before it starts is held against it.
CREATE VIEW due_task AS
SELECT t.id, t.kind, t.concurrency_key, t.priority, t.run_at,
       t.attempt = 0 AND t.tries_max >= 3 AS may_wait
FROM task t
WHERE t.state = 'queued' AND t.run_at <= now()
  AND (t.concurrency_key IS NULL OR NOT EXISTS (
        SELECT 1 FROM task r
        WHERE r.state = 'running' AND r.concurrency_key = t.concurrency_key));

-- The first of them, in order. Functions for the sake of their settings: tables of queues turn over faster than
-- statistics, and whoever thinks that hardly anything is queued reads and sorts all of it for each claim.
CREATE FUNCTION due_tasks(kinds text[], most integer) RETURNS SETOF due_task
LANGUAGE plpgsql STABLE ROWS 100
SET enable_sort = off SET enable_bitmapscan = off SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY
    SELECT * FROM due_task t WHERE t.kind = ANY (kinds)
    ORDER BY t.priority DESC, t.run_at, t.id LIMIT most;
END $$;

-- The same, locked; those that another is just claiming are passed over.
CREATE FUNCTION lock_due_tasks(kinds text[], most integer) RETURNS SETOF due_task
LANGUAGE plpgsql ROWS 100
SET enable_sort = off SET enable_bitmapscan = off SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY
    SELECT * FROM due_task t WHERE t.kind = ANY (kinds)
    ORDER BY t.priority DESC, t.run_at, t.id LIMIT most
    FOR UPDATE OF t SKIP LOCKED;
END $$;
