"""The statements of the task ledger, by name.

A claim's token is (id, owner, attempt): every statement that ends an attempt compares all three, so a worker
that was replaced changes nothing. Where a statement may wait for a lock, time is ``clock_timestamp()``, for
``now()`` is that of its start; where rows are looked up by time, it is ``now()``, which an index can use.

``%(notify)s`` says whether those who listen are to be woken when the statement commits; where a dispatch
tells them, this is saved: NOTIFY makes commits wait for each other.
"""

from __future__ import annotations

from typing import LiteralString

NOTIFY: LiteralString = "SELECT pg_notify('sercha_task', '')"

_WOKEN: LiteralString = "woken AS (SELECT pg_notify('sercha_task', '') WHERE %(notify)s)"

_NEW: LiteralString = """
SELECT u.id, kind, payload, priority, clock_timestamp() + make_interval(secs => delay), tries_max,
       dedupe_key, concurrency_key, time_limit
FROM unnest(%(ids)s::uuid[], %(kinds)s::text[], %(payloads)s::jsonb[], %(priorities)s::smallint[],
            %(delays)s::float8[], %(tries_max)s::integer[], %(dedupe_keys)s::text[],
            %(concurrency_keys)s::text[], %(time_limits)s::float8[])
     AS u (id, kind, payload, priority, delay, tries_max, dedupe_key, concurrency_key, time_limit)"""

_INSERT: LiteralString = """
INSERT INTO task (id, kind, payload, priority, run_at, tries_max, dedupe_key, concurrency_key, time_limit)"""

_ONE: LiteralString = """
%(id)s, %(kind)s, %(payload)s, %(priority)s, clock_timestamp() + make_interval(secs => %(delay)s),
%(tries_max)s, NULL, %(concurrency_key)s, %(time_limit)s"""

# A single task is the commonest case, and each node of a plan is started anew for it: so two plain statements.
ENQUEUE_ONE: LiteralString = _INSERT + " VALUES (" + _ONE + ")"
ENQUEUE_ONE_NOTIFY: LiteralString = (
    _INSERT + " SELECT " + _ONE + " FROM (SELECT pg_notify('sercha_task', '') OFFSET 0) AS woken"
)
ENQUEUE: LiteralString = (
    "WITH added AS (" + _INSERT + _NEW + " RETURNING id), " + _WOKEN + " SELECT count(*) FROM woken"
)

# The no-op makes a twin visible to RETURNING, and keeps it from being claimed until we commit. The order is that
# of the keys: two who enqueue the same keys cannot wait for each other.
ENQUEUE_KEYED: LiteralString = (
    "WITH added AS ("
    + _INSERT
    + _NEW
    + """
    ORDER BY dedupe_key
    ON CONFLICT (dedupe_key) WHERE state = 'queued' AND dedupe_key IS NOT NULL
    DO UPDATE SET run_at = least(task.run_at, excluded.run_at),
                  priority = greatest(task.priority, excluded.priority)
    RETURNING id, dedupe_key
), """
    + _WOKEN
    + " SELECT added.id, added.dedupe_key FROM added LEFT JOIN woken ON true"
)

# Whoever dies is charged for all that it had claimed. So only first attempts, of tasks that have tries to spare, are
# claimed beyond the free slots, where they may not have been started: that is held against each task once at most.
_TAKE: LiteralString = """
), wanted AS (
    SELECT * FROM (
        SELECT due.*, row_number() OVER (ORDER BY priority DESC, run_at, id) AS place FROM due
    ) AS numbered WHERE place <= %(free)s OR may_wait
), chosen AS (
    SELECT id FROM wanted WHERE concurrency_key IS NULL
    UNION ALL (
        SELECT DISTINCT ON (concurrency_key) id FROM wanted WHERE concurrency_key IS NOT NULL
        ORDER BY concurrency_key, priority DESC, run_at, id)
), claimed AS (
    UPDATE task SET state = 'running', attempt = attempt + 1, tries = tries + 1,
           owner = %(owner)s, claimed_at = clock_timestamp()
    WHERE id = ANY (ARRAY(SELECT id FROM chosen))  -- as an array they are looked up, not joined
    RETURNING id, attempt, kind, payload, tries, tries_max,
              concurrency_key IS NOT NULL AS is_keyed, time_limit, priority, run_at
)
SELECT id, attempt, kind, payload, tries, tries_max, is_keyed, time_limit FROM claimed
ORDER BY priority DESC, run_at, id"""

_ALIVE: LiteralString = """
    SELECT 1 FROM heartbeat WHERE owner = %(owner)s AND expires_at > clock_timestamp()"""

# Both leave out tasks whose key is running, and all of them when the owner is dead.
CLAIM: LiteralString = (
    """
WITH due AS MATERIALIZED (
    SELECT * FROM lock_due_tasks(%(kinds)s, CASE WHEN EXISTS ("""
    + _ALIVE
    + ") THEN %(limit)s ELSE 0 END)"
    + _TAKE
)

# The state is compared in a way that no index of queued tasks is good for: the few ids are to be looked up. They come
# from a sub-select, which hides their number from the planner: else a plan for these very ids seems cheaper than the
# general one each time, and is made anew for each claim, which takes longer than the claim.
CLAIM_IDS: LiteralString = (
    """
WITH due AS MATERIALIZED (
    SELECT t.id, t.concurrency_key, t.priority, t.run_at,
           t.attempt = 0 AND t.tries_max >= 3 AS may_wait
    FROM task t
    WHERE t.id = ANY ((SELECT %(ids)b::uuid[])::uuid[]) AND t.state || '' = 'queued' AND t.run_at <= now()
      AND t.kind = ANY (%(kinds)s)
      AND (t.concurrency_key IS NULL OR NOT EXISTS (
            SELECT 1 FROM task r
            WHERE r.state = 'running' AND r.concurrency_key = t.concurrency_key))
      AND EXISTS ("""
    + _ALIVE
    + ")"
    + """
    ORDER BY t.id FOR UPDATE OF t SKIP LOCKED"""
    + _TAKE
)
# What CLAIM_IDS does for one task and a free slot: the common case of an idle worker, where a delay is noticed. There
# is no order to make and no rival for the key among the others, and each node of a plan is started anew.
CLAIM_ID: LiteralString = (
    """
UPDATE task SET state = 'running', attempt = attempt + 1, tries = tries + 1,
       owner = %(owner)s, claimed_at = clock_timestamp()
WHERE id = (
    SELECT t.id FROM task t
    WHERE t.id = %(id)b AND t.state || '' = 'queued' AND t.run_at <= now() AND t.kind = ANY (%(kinds)s)
      AND (t.concurrency_key IS NULL OR NOT EXISTS (
            SELECT 1 FROM task r
            WHERE r.state = 'running' AND r.concurrency_key = t.concurrency_key))
      AND EXISTS ("""
    + _ALIVE
    + """)
    FOR UPDATE OF t SKIP LOCKED)
RETURNING id, attempt, kind, payload, tries, tries_max, concurrency_key IS NOT NULL, time_limit"""
)

DUE: LiteralString = "SELECT id FROM due_tasks(%(kinds)s, %(limit)s)"

REGISTER: LiteralString = """
INSERT INTO heartbeat (owner, node_id, expires_at)
VALUES (%(owner)s, %(node_id)s, clock_timestamp() + make_interval(secs => %(ttl)s))
"""

# An owner whose time is over is not revived, also when the beat has waited for a reaper to say so.
BEAT: LiteralString = """
WITH alive AS (
    UPDATE heartbeat SET expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
    WHERE owner = %(owner)s AND expires_at > clock_timestamp() RETURNING owner
)
SELECT t.id, t.attempt FROM alive LEFT JOIN task t ON t.owner = alive.owner AND t.state = 'running'
"""

LEAVE: LiteralString = "UPDATE heartbeat SET expires_at = '-infinity' WHERE owner = %(owner)s"

COMPLETE: LiteralString = (
    "WITH completed AS ("
    """
    UPDATE task SET state = 'completed', finished_at = clock_timestamp(), owner = NULL, last_error = NULL
    FROM unnest(%(ids)b::uuid[], %(owners)b::uuid[], %(attempts)b::integer[]) AS mine (id, owner, attempt)
    WHERE task.id = mine.id AND task.owner IS NOT DISTINCT FROM mine.owner
      AND task.attempt = mine.attempt AND task.state || '' = 'running'
    RETURNING task.id
), """ + _WOKEN + " SELECT completed.id FROM completed LEFT JOIN woken ON true"
)

# Where attempts go that did not complete, those of `mine`: to the dead letters when the tries are used up (a task
# whose workers died each time never runs again), else back to the queue, where a twin with the same dedupe key
# does the work: one that is queued, or the first of ours. A queued twin is locked: one that is being cancelled at
# this moment absorbs nothing.
_BACK: LiteralString = (
    """
, twin AS MATERIALIZED (
    SELECT id, dedupe_key FROM task WHERE state = 'queued' AND dedupe_key IN (
        SELECT t.dedupe_key FROM task t JOIN mine ON mine.id = t.id)
    FOR UPDATE
), judged AS (
    SELECT self.id, self.dedupe_key, mine.error, mine.delay,
           mine.is_final OR self.tries - %(refund)s >= self.tries_max AS is_dead
    FROM mine JOIN task self ON self.id = mine.id
), matched AS (
    SELECT judged.*, coalesce(twin.id, first_value(judged.id) OVER (
               PARTITION BY is_dead, coalesce(judged.dedupe_key, judged.id::text) ORDER BY judged.id)
           ) AS heir
    FROM judged LEFT JOIN twin ON twin.dedupe_key = judged.dedupe_key
), """
    + _WOKEN
    + """, verdict AS (
    SELECT matched.*, CASE WHEN is_dead THEN 'dead' WHEN heir = id THEN 'queued' ELSE 'cancelled' END
           AS state
    FROM matched LEFT JOIN woken ON true
)
UPDATE task SET
    state = verdict.state,
    finished_at = CASE WHEN verdict.state = 'queued' THEN NULL ELSE clock_timestamp() END,
    last_error = CASE WHEN verdict.state = 'cancelled' THEN 'merged into task ' || verdict.heir
                      ELSE coalesce(verdict.error, task.last_error) END,
    tries = task.tries - %(refund)s, owner = NULL,
    run_at = clock_timestamp() + make_interval(secs => verdict.delay)
FROM verdict WHERE task.id = verdict.id
RETURNING task.id, CASE WHEN verdict.state <> 'dead' AND verdict.delay <= 0 THEN verdict.heir END
"""
)

REQUEUE: LiteralString = (
    """
WITH mine AS MATERIALIZED (
    SELECT t.id, given.error, given.delay, given.is_final FROM task t
    JOIN unnest(%(ids)b::uuid[], %(owners)b::uuid[], %(attempts)b::integer[], %(errors)s::text[],
                %(delays)s::float8[], %(finals)s::boolean[])
         AS given (id, owner, attempt, error, delay, is_final)
      ON t.id = given.id AND t.owner IS NOT DISTINCT FROM given.owner AND t.attempt = given.attempt
    WHERE t.state || '' = 'running'
    ORDER BY t.id FOR UPDATE OF t
)"""
    + _BACK
)

# The dead are marked first, in a statement of its own, so that no late beat revives one while its tasks are
# taken away. An owner without a row is dead too: its claim had waited somewhere.
MARK_DEAD: LiteralString = """
UPDATE heartbeat SET expires_at = '-infinity' WHERE owner IN (
    SELECT owner FROM heartbeat WHERE expires_at < clock_timestamp() AND expires_at > '-infinity'
    ORDER BY owner FOR UPDATE SKIP LOCKED)
"""

REAP: LiteralString = (
    """
WITH abandoned AS MATERIALIZED (
    SELECT t.id, t.owner, t.attempt FROM task t
    WHERE t.state = 'running' AND NOT EXISTS (
        SELECT 1 FROM heartbeat b WHERE b.owner = t.owner AND b.expires_at > '-infinity')
    ORDER BY t.id LIMIT %(limit)s
), mine AS MATERIALIZED (
    -- Compared again: one that another reaper took back may run by now under an owner that we do not see yet.
    SELECT t.id, %(error)s AS error, 0::float8 AS delay, false AS is_final
    FROM task t JOIN abandoned a ON t.id = a.id AND t.owner = a.owner AND t.attempt = a.attempt
    WHERE t.state = 'running'
    ORDER BY t.id FOR UPDATE OF t SKIP LOCKED
)"""
    + _BACK
)

FORGET_DEAD: LiteralString = """
DELETE FROM heartbeat b WHERE expires_at = '-infinity'
AND NOT EXISTS (SELECT 1 FROM task t WHERE t.state = 'running' AND t.owner = b.owner)
"""

EXPIRE_ALL: LiteralString = "UPDATE heartbeat SET expires_at = '-infinity'"

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

CANCEL_KEYED: LiteralString = """
UPDATE task SET state = 'cancelled', finished_at = clock_timestamp(), owner = NULL
WHERE concurrency_key = %(key)s AND state IN ('queued', 'running')
"""

DEPTH: LiteralString = """
SELECT (SELECT count(*) FROM task WHERE state = 'queued'),
       (SELECT count(*) FROM task WHERE state = 'running'),
       (SELECT count(*) FROM task WHERE state = 'dead')
"""
