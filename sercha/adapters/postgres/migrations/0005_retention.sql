-- What ended long ago is removed once a day: tasks, slots, sessions, processes.
INSERT INTO schedule (id, name, kind, spec, anchor, task_kind, next_slot)
SELECT gen_random_uuid(), 'prune', 'interval', '24h', m.moment, 'prune', m.moment + interval '24 hours'
FROM (SELECT date_trunc('second', clock_timestamp()) AS moment) AS m;
