"""The statements of schedules, by name.

Whoever moves ``next_slot`` holds the row of the schedule, so the slots of one schedule are recorded by one
transaction at a time. The key of `schedule_slot` is the second barrier: whatever ``next_slot`` says, a slot that
has an outcome, alone or within a stretch, gets no other one.
"""

from __future__ import annotations

from typing import LiteralString

COLUMNS: LiteralString = """s.id, s.name, s.kind, s.spec, s.tz, s.anchor, s.task_kind, s.payload, s.priority,
s.source_id, s.catch_up, s.runs_max, s.max_late, s.enabled, s.paused_reason, s.next_slot, s.is_default, s.version,
s.created_at, s.updated_at"""

SECONDS_TO_NEXT: LiteralString = """
SELECT extract(epoch FROM next_slot - clock_timestamp())::float8 FROM schedule
WHERE enabled AND next_slot IS NOT NULL AND task_kind = ANY (%(kinds)s) ORDER BY next_slot LIMIT 1
"""

LOCK_DUE: LiteralString = (
    "SELECT clock_timestamp(), coalesce(NOT source.enabled, false), "
    + COLUMNS
    + """
FROM schedule s LEFT JOIN source ON source.id = s.source_id
WHERE s.enabled AND s.next_slot <= now() AND s.task_kind = ANY (%(kinds)s)
ORDER BY s.next_slot, s.id LIMIT %(limit)s
FOR NO KEY UPDATE OF s SKIP LOCKED
"""
)

LOCK: LiteralString = "SELECT 1 FROM schedule WHERE id = %(id)s FOR NO KEY UPDATE"

# In a statement of its own: it sees what was committed while LOCK waited, and the time after it.
LOCKED: LiteralString = (
    "SELECT clock_timestamp(), coalesce(NOT source.enabled, false), "
    + COLUMNS
    + " FROM schedule s LEFT JOIN source ON source.id = s.source_id WHERE s.id = %(id)s"
)

# Stretches do not overlap, so the one that begins last before a slot tells whether it is recorded.
RECORD: LiteralString = """
INSERT INTO schedule_slot (schedule_id, slot, slot_last, outcome, task_id, token)
SELECT n.schedule_id, n.slot, n.slot_last, n.outcome, n.task_id, %(token)s
FROM unnest(%(ids)s::uuid[], %(slots)s::timestamptz[], %(lasts)s::timestamptz[], %(outcomes)s::text[],
            %(task_ids)s::uuid[]) AS n (schedule_id, slot, slot_last, outcome, task_id)
WHERE coalesce((SELECT r.slot_last < n.slot FROM schedule_slot r
                WHERE r.schedule_id = n.schedule_id AND r.slot <= n.slot
                ORDER BY r.slot DESC LIMIT 1), true)
ON CONFLICT DO NOTHING
RETURNING schedule_id, slot
"""

AMEND: LiteralString = """
UPDATE schedule_slot SET outcome = n.outcome, task_id = n.task_id
FROM unnest(%(ids)s::uuid[], %(slots)s::timestamptz[], %(outcomes)s::text[], %(task_ids)s::uuid[])
     AS n (schedule_id, slot, outcome, task_id)
WHERE schedule_slot.schedule_id = n.schedule_id AND schedule_slot.slot = n.slot
"""

ADVANCE: LiteralString = """
UPDATE schedule SET next_slot = n.next_slot
FROM unnest(%(ids)s::uuid[], %(next_slots)s::timestamptz[]) AS n (id, next_slot)
WHERE schedule.id = n.id
"""

PAUSE_BROKEN: LiteralString = """
UPDATE schedule SET enabled = false, paused_reason = n.reason, version = version + 1,
       updated_at = clock_timestamp()
FROM unnest(%(ids)s::uuid[], %(reasons)s::text[]) AS n (id, reason)
WHERE schedule.id = n.id
"""

ADD: LiteralString = """
INSERT INTO schedule (id, name, kind, spec, tz, anchor, task_kind, payload, priority, source_id, catch_up,
                      runs_max, max_late, enabled, paused_reason, next_slot)
VALUES (%(id)s, %(name)s, %(kind)s, %(spec)s, %(tz)s, %(anchor)s, %(task_kind)s, %(payload)s, %(priority)s,
        %(source_id)s, %(catch_up)s, %(runs_max)s, %(max_late)s, %(enabled)s, %(paused_reason)s, %(next_slot)s)
"""

ADD_DEFAULT: LiteralString = """
INSERT INTO schedule (id, name, kind, spec, anchor, task_kind, payload, source_id, enabled, paused_reason,
                      next_slot, is_default)
SELECT %(id)s, %(name)s, 'interval', sync_interval_minutes || 'm', date_trunc('second', clock_timestamp()),
       'sync_source', jsonb_build_object('source_id', %(source_id)s::uuid), %(source_id)s, sync_enabled,
       CASE WHEN NOT sync_enabled THEN 'syncs are switched off in the settings' END,
       date_trunc('second', clock_timestamp()) + make_interval(secs => sync_interval_minutes * 60), true
FROM team_settings
ON CONFLICT (name) DO NOTHING
RETURNING id
"""

SAVE: LiteralString = """
UPDATE schedule SET
    name = %(name)s, kind = %(kind)s, spec = %(spec)s, tz = %(tz)s, anchor = %(anchor)s,
    task_kind = %(task_kind)s, payload = %(payload)s, priority = %(priority)s, source_id = %(source_id)s,
    catch_up = %(catch_up)s, runs_max = %(runs_max)s, max_late = %(max_late)s, enabled = %(enabled)s,
    paused_reason = %(paused_reason)s, next_slot = %(next_slot)s, is_default = %(is_default)s,
    version = version + 1, updated_at = clock_timestamp()
WHERE id = %(id)s
"""

REMOVE: LiteralString = "DELETE FROM schedule WHERE id = %(id)s"

GET: LiteralString = "SELECT " + COLUMNS + " FROM schedule s WHERE s.id = %(id)s"

_MATCHING: LiteralString = """ FROM schedule s
WHERE (%(source_id)s::uuid IS NULL OR s.source_id = %(source_id)s)
  AND (%(name)s::text IS NULL OR s.name = %(name)s)"""

LIST: LiteralString = (
    "SELECT " + COLUMNS + _MATCHING + " ORDER BY s.name LIMIT %(limit)s OFFSET %(offset)s"
)

COUNT: LiteralString = "SELECT count(*)" + _MATCHING

SLOTS: LiteralString = """
SELECT schedule_id, slot, slot_last, outcome, task_id, token, recorded_at FROM schedule_slot
WHERE schedule_id = %(id)s ORDER BY slot DESC LIMIT %(limit)s OFFSET %(offset)s
"""

FORGET_SLOTS: LiteralString = """
DELETE FROM schedule_slot WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM schedule_slot WHERE recorded_at < now() - make_interval(secs => %(older_than)s)
    LIMIT %(limit)s))
"""
