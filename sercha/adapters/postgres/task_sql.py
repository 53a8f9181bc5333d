"""The statements of the task ledger, by name.

A claim's token is (id, owner, attempt): every statement that ends an attempt compares all three, so a worker
that was replaced changes nothing.
"""

from __future__ import annotations

from typing import LiteralString

ENQUEUE: LiteralString = """
WITH added AS (
    INSERT INTO task (id, kind, payload, priority, run_at, tries_max, dedupe_key, concurrency_key)
    VALUES (%(id)s, %(kind)s, %(payload)s, %(priority)s,
            clock_timestamp() + make_interval(secs => %(delay)s), %(tries_max)s,
            %(dedupe_key)s, %(concurrency_key)s)
    ON CONFLICT (dedupe_key) WHERE state = 'queued'
    -- A no-op that makes the twin visible to RETURNING and keeps it from being claimed until we commit.
    DO UPDATE SET run_at = least(task.run_at, excluded.run_at)
    RETURNING id
), woken AS (SELECT pg_notify('sercha_task', ''))
SELECT added.id FROM added, woken
"""

CLAIM: LiteralString = """
WITH due AS (
    SELECT t.id, t.concurrency_key, t.priority, t.run_at FROM task t
    WHERE t.state = 'queued' AND t.run_at <= clock_timestamp() AND t.kind = ANY (%(kinds)s)
      AND (t.concurrency_key IS NULL OR NOT EXISTS (
            SELECT 1 FROM task r
            WHERE r.state = 'running' AND r.concurrency_key = t.concurrency_key))
    ORDER BY t.priority DESC, t.run_at, t.id
    FOR UPDATE OF t SKIP LOCKED
    LIMIT %(limit)s
), chosen AS (
    SELECT DISTINCT ON (coalesce(concurrency_key, id::text)) id FROM due
    ORDER BY coalesce(concurrency_key, id::text), priority DESC, run_at, id
), claimed AS (
    UPDATE task SET state = 'running', attempt = attempt + 1, tries = tries + 1,
           owner = %(owner)s, claimed_at = clock_timestamp()
    FROM chosen WHERE task.id = chosen.id
    RETURNING task.*
), beating AS (
    INSERT INTO task_heartbeat (task_id, attempt, owner, expires_at)
    SELECT id, attempt, %(owner)s, clock_timestamp() + make_interval(secs => %(ttl)s) FROM claimed
    ON CONFLICT (task_id) DO UPDATE SET attempt = excluded.attempt, owner = excluded.owner,
        expires_at = excluded.expires_at
)
SELECT id, attempt, kind, payload, tries, tries_max FROM claimed
ORDER BY priority DESC, run_at, id
"""

BEAT: LiteralString = """
UPDATE task_heartbeat b SET expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
FROM unnest(%(ids)s::uuid[], %(attempts)s::integer[]) AS mine (id, attempt), task t
WHERE b.task_id = mine.id AND b.attempt = mine.attempt AND b.owner = %(owner)s
  AND t.id = b.task_id AND t.state = 'running' AND t.attempt = b.attempt
RETURNING b.task_id, b.attempt
"""

_MINE: LiteralString = """
    SELECT t.id FROM task t
    JOIN unnest(%(ids)s::uuid[], %(owners)s::uuid[], %(attempts)s::integer[])
         AS mine (id, owner, attempt)
      ON t.id = mine.id AND t.owner = mine.owner AND t.attempt = mine.attempt
    WHERE t.state = 'running'
    ORDER BY t.id FOR UPDATE OF t
"""

COMPLETE: LiteralString = (
    "WITH mine AS ("
    + _MINE
    + """), woken AS (SELECT pg_notify('sercha_task', ''))
UPDATE task SET state = 'completed', finished_at = clock_timestamp(), owner = NULL, last_error = NULL
FROM mine CROSS JOIN woken WHERE task.id = mine.id RETURNING task.id
"""
)

# Where attempts go that did not complete: to the dead letters when the tries are used up (a task whose
# workers died each time never runs again), else back to the queue, where a queued twin with the same dedupe
# key does the work. The twin is locked: one that is being cancelled at this moment absorbs nothing.
_BACK: LiteralString = """
, twin AS MATERIALIZED (
    SELECT id, dedupe_key FROM task WHERE state = 'queued' AND dedupe_key IN (
        SELECT t.dedupe_key FROM task t JOIN mine ON mine.id = t.id)
    FOR UPDATE
), woken AS (SELECT pg_notify('sercha_task', '')), verdict AS (
    SELECT self.id, twin.id AS twin_id,
           CASE WHEN %(is_final)s OR self.tries - %(refund)s >= self.tries_max THEN 'dead'
                WHEN twin.id IS NULL THEN 'queued' ELSE 'cancelled' END AS state
    FROM mine CROSS JOIN woken JOIN task self ON self.id = mine.id
    LEFT JOIN twin ON twin.dedupe_key = self.dedupe_key
)
UPDATE task SET
    state = verdict.state,
    finished_at = CASE WHEN verdict.state = 'queued' THEN NULL ELSE clock_timestamp() END,
    last_error = CASE WHEN verdict.state = 'cancelled' THEN 'merged into task ' || verdict.twin_id
                      ELSE coalesce(%(error)s, task.last_error) END,
    tries = task.tries - %(refund)s, owner = NULL,
    run_at = clock_timestamp() + make_interval(secs => %(delay)s)
FROM verdict WHERE task.id = verdict.id RETURNING task.id
"""

REQUEUE: LiteralString = "WITH mine AS MATERIALIZED (" + _MINE + ")" + _BACK

REAP: LiteralString = (
    """
WITH expired AS (
    SELECT t.id, t.dedupe_key FROM task t JOIN task_heartbeat b ON b.task_id = t.id
    WHERE t.state = 'running' AND b.expires_at < clock_timestamp()
    ORDER BY t.id LIMIT 100 FOR UPDATE OF t SKIP LOCKED
), mine AS MATERIALIZED (
    SELECT DISTINCT ON (coalesce(dedupe_key, id::text)) id FROM expired
    ORDER BY coalesce(dedupe_key, id::text), id
)"""
    + _BACK
)

EXPIRE_ALL: LiteralString = "UPDATE task_heartbeat SET expires_at = '-infinity'"

# A process that freezes inside of its page's transaction would keep the row for ever: the reaper steps
# around locked rows. So the server ends such a session, and the claim can expire.
VERIFY_LIMIT: LiteralString = """
SELECT set_config('idle_in_transaction_session_timeout', %(milliseconds)s, true)
"""

VERIFY: LiteralString = """
SELECT 1 FROM task WHERE id = %(id)s AND owner = %(owner)s AND attempt = %(attempt)s
AND state = 'running' FOR NO KEY UPDATE
"""

VERIFY_PROGRESSED: LiteralString = """
UPDATE task SET tries = 1 WHERE id = %(id)s AND owner = %(owner)s AND attempt = %(attempt)s
AND state = 'running' RETURNING 1
"""

CANCEL: LiteralString = """
UPDATE task SET state = 'cancelled', finished_at = clock_timestamp(), owner = NULL
WHERE id = %(id)s AND state IN ('queued', 'running') RETURNING id
"""

CANCEL_KEYED: LiteralString = """
UPDATE task SET state = 'cancelled', finished_at = clock_timestamp(), owner = NULL
WHERE concurrency_key = %(key)s AND state IN ('queued', 'running')
"""

LIST: LiteralString = """
SELECT id, kind, state, payload, attempt, tries, tries_max, created_at, run_at, finished_at,
       last_error, owner FROM task"""

COUNTS: LiteralString = "SELECT state, count(*) FROM task GROUP BY state"
