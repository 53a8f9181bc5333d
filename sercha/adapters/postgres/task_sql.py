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

# A task that used up its tries without being settled killed its workers: dead before it runs again.
BURY_EXHAUSTED: LiteralString = """
UPDATE task SET state = 'dead', finished_at = clock_timestamp(),
       last_error = coalesce(last_error, 'every attempt ended without an outcome: its workers died')
WHERE state = 'queued' AND tries >= tries_max
  AND id IN (SELECT id FROM task WHERE state = 'queued' AND tries >= tries_max
             LIMIT 100 FOR UPDATE SKIP LOCKED)
"""

CLAIM: LiteralString = """
WITH due AS (
    SELECT t.id, t.concurrency_key, t.priority, t.run_at FROM task t
    WHERE t.state = 'queued' AND t.run_at <= clock_timestamp() AND t.tries < t.tries_max
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
RETURNING b.task_id
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
    + """), gone AS (DELETE FROM task_heartbeat b USING mine WHERE b.task_id = mine.id)
, woken AS (SELECT pg_notify('sercha_task', ''))
UPDATE task SET state = 'completed', finished_at = clock_timestamp(), owner = NULL, last_error = NULL
FROM mine CROSS JOIN woken WHERE task.id = mine.id RETURNING task.id
"""
)

BURY: LiteralString = (
    "WITH mine AS ("
    + _MINE
    + """), gone AS (DELETE FROM task_heartbeat b USING mine WHERE b.task_id = mine.id)
, woken AS (SELECT pg_notify('sercha_task', ''))
UPDATE task SET state = 'dead', finished_at = clock_timestamp(), owner = NULL, last_error = %(error)s
FROM mine CROSS JOIN woken WHERE task.id = mine.id RETURNING task.id
"""
)

# Back to the queue; where a twin with the same dedupe key is queued already, the twin does the work.
_BACK: LiteralString = """
UPDATE task SET
    state = CASE WHEN twin.id IS NULL THEN 'queued' ELSE 'cancelled' END,
    finished_at = CASE WHEN twin.id IS NULL THEN NULL ELSE clock_timestamp() END,
"""

REQUEUE: LiteralString = (
    "WITH mine AS ("
    + _MINE
    + """), gone AS (DELETE FROM task_heartbeat b USING mine WHERE b.task_id = mine.id)
, woken AS (SELECT pg_notify('sercha_task', ''))"""
    + _BACK
    + """
    last_error = CASE WHEN twin.id IS NULL THEN coalesce(%(error)s, task.last_error)
                      ELSE 'merged into task ' || twin.id END,
    tries = task.tries - %(refund)s, owner = NULL,
    run_at = clock_timestamp() + make_interval(secs => %(delay)s)
FROM mine CROSS JOIN woken JOIN task self ON self.id = mine.id
LEFT JOIN task twin ON twin.dedupe_key = self.dedupe_key AND twin.state = 'queued'
WHERE task.id = mine.id RETURNING task.id
"""
)

REAP: LiteralString = (
    """
WITH expired AS (
    SELECT t.id, t.dedupe_key FROM task t JOIN task_heartbeat b ON b.task_id = t.id
    WHERE t.state = 'running' AND b.expires_at < clock_timestamp()
    ORDER BY t.id LIMIT 100 FOR UPDATE OF t SKIP LOCKED
), mine AS (
    SELECT DISTINCT ON (coalesce(dedupe_key, id::text)) id FROM expired
    ORDER BY coalesce(dedupe_key, id::text), id
), gone AS (DELETE FROM task_heartbeat b USING mine WHERE b.task_id = mine.id)
, woken AS (SELECT pg_notify('sercha_task', ''))"""
    + _BACK
    + """
    last_error = 'the worker of attempt ' || task.attempt || ' died or lost its claim',
    owner = NULL, run_at = clock_timestamp()
FROM mine CROSS JOIN woken JOIN task self ON self.id = mine.id
LEFT JOIN task twin ON twin.dedupe_key = self.dedupe_key AND twin.state = 'queued'
WHERE task.id = mine.id RETURNING task.id
"""
)

EXPIRE_ALL: LiteralString = "UPDATE task_heartbeat SET expires_at = '-infinity'"

VERIFY: LiteralString = """
SELECT 1 FROM task WHERE id = %(id)s AND owner = %(owner)s AND attempt = %(attempt)s
AND state = 'running' FOR NO KEY UPDATE
"""

VERIFY_PROGRESSED: LiteralString = """
UPDATE task SET tries = 1 WHERE id = %(id)s AND owner = %(owner)s AND attempt = %(attempt)s
AND state = 'running' RETURNING 1
"""

CANCEL: LiteralString = """
WITH gone AS (DELETE FROM task_heartbeat WHERE task_id = %(id)s)
UPDATE task SET state = 'cancelled', finished_at = clock_timestamp(), owner = NULL
WHERE id = %(id)s AND state IN ('queued', 'running') RETURNING id
"""

CANCEL_KEYED: LiteralString = """
WITH gone AS (DELETE FROM task_heartbeat b USING task t
              WHERE b.task_id = t.id AND t.concurrency_key = %(key)s)
UPDATE task SET state = 'cancelled', finished_at = clock_timestamp(), owner = NULL
WHERE concurrency_key = %(key)s AND state IN ('queued', 'running')
"""

LIST: LiteralString = """
SELECT id, kind, state, payload, attempt, tries, tries_max, created_at, run_at, finished_at,
       last_error, owner FROM task"""

COUNTS: LiteralString = "SELECT state, count(*) FROM task GROUP BY state"
