"""The feed of events: rows that triggers wrote, read by snapshots as the change feed is."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.errors import ObjectNotInPrerequisiteState

from sercha.adapters.postgres.changes import TIMELINE
from sercha.adapters.postgres.pool import Connection, ConnectionPool
from sercha.errors import Unavailable
from sercha.services.ports.events import Event, EventPage, EventPosition

_NOW: LiteralString = "SELECT " + TIMELINE + ", pg_current_snapshot()::text"

# One statement, so that it reads under the snapshot that it returns. A position from a future that was undone is
# ahead of the present; a horizon that is, came with a dump from elsewhere.
_READ: LiteralString = (
    """
WITH given AS (
    SELECT %(after)s::pg_snapshot AS after, pg_current_snapshot() AS present,
           coalesce(%(until)s::pg_snapshot, pg_current_snapshot()) AS until
), page AS (
    SELECT e.* FROM event e, given g
    WHERE e.xid >= pg_snapshot_xmin(g.after) AND e.id > %(above)s
      AND NOT pg_visible_in_snapshot(e.xid, g.after) AND pg_visible_in_snapshot(e.xid, g.until)
    ORDER BY e.id LIMIT %(limit)s + 1
)
SELECT """
    + TIMELINE
    + """, g.until::text,
    pg_snapshot_xmax(g.after) <= pg_snapshot_xmax(g.present)
        AND pg_snapshot_xmax(g.until) <= pg_snapshot_xmax(g.present)
        AND NOT EXISTS (SELECT 1 FROM event_horizon h
            WHERE h.xid >= pg_snapshot_xmin(g.after) AND h.xid < pg_snapshot_xmax(g.present)),
    (SELECT coalesce(jsonb_agg(jsonb_build_array(p.id, p.xid::text, p.at, p.type, p.subject, p.data)
                               ORDER BY p.id), '[]') FROM page p)
FROM given g
"""
)

# Only what every open transaction began after: a snapshot taken from here on shows all that the horizon is above.
# Rows of transactions that are still to come were brought by a dump from elsewhere.
_REMOVE: LiteralString = """
WITH gone AS (
    DELETE FROM event WHERE id IN (
        SELECT id FROM event
        WHERE at < clock_timestamp() - make_interval(secs => %(age)s)
          AND (xid < pg_snapshot_xmin(pg_current_snapshot()) OR xid >= pg_snapshot_xmax(pg_current_snapshot()))
        ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING xid
), seen AS (
    SELECT max(xid) AS xid FROM gone WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
), noted AS (
    UPDATE event_horizon h SET xid = CASE
        WHEN h.xid >= pg_snapshot_xmax(pg_current_snapshot()) THEN s.xid ELSE greatest(h.xid, s.xid) END
    FROM seen s WHERE s.xid IS NOT NULL
)
SELECT count(*) FROM gone
"""


class PostgresEventFeed:
    """`sercha.services.ports.events.EventFeed` on the primary; a standby's snapshots omit running work."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def now(self) -> EventPosition:
        """Return the present position."""
        return EventPosition(*await self._row(_NOW, {}))

    async def read(
        self,
        after: EventPosition,
        until: EventPosition | None = None,
        *,
        above: int = 0,
        limit: int,
    ) -> EventPage | None:
        """Return events between two positions; None: one of them means nothing any more."""
        if until is not None and until.timeline != after.timeline:
            return None
        snapshot = None if until is None else until.snapshot
        timeline, shown, is_known, rows = await self._row(
            _READ, {"after": after.snapshot, "until": snapshot, "above": above, "limit": limit}
        )
        if not is_known or timeline != after.timeline:
            return None
        events = tuple(_event(row) for row in rows[:limit])
        return EventPage(events, EventPosition(timeline, shown), len(rows) <= limit)

    async def remove(self, *, age: float, limit: int) -> int:
        """Remove up to *limit* events older than *age* seconds and say how many; older positions end by it."""
        (count,) = await self._row(_REMOVE, {"age": age, "limit": limit})
        return count

    async def _row(self, statement: LiteralString, parameters: dict[str, Any]) -> tuple[Any, ...]:
        async with self._primary() as connection:
            row = await (await connection.execute(statement, parameters)).fetchone()
        assert row is not None
        return row

    @asynccontextmanager
    async def _primary(self) -> AsyncGenerator[Connection]:
        async with self._pool.connection() as connection:
            try:
                yield connection
            except ObjectNotInPrerequisiteState as error:
                raise Unavailable("the database is a standby: it only reads") from error


def _event(row: list[Any]) -> Event:
    id_, xid, at, kind, subject, data = row
    moment = datetime.fromisoformat(at).astimezone(UTC)
    return Event(id_, int(xid), moment, kind, UUID(subject) if subject else None, data)
