"""The change feed: which documents changed, followed with a snapshot as the cursor.

Sequence numbers commit out of order, so ``seq > last`` loses rows; a snapshot names exactly the transactions
that it shows. A consumer's cursor is the ``pg_snapshot`` of its last poll, and the next poll gives the rows
whose transaction that snapshot does not show. No row is missed and a long transaction stalls nobody.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, LiteralString
from uuid import UUID, uuid4

from psycopg.errors import ObjectNotInPrerequisiteState

from sercha.adapters.postgres.pool import Connection, ConnectionPool
from sercha.domain.document import DocumentId
from sercha.errors import Unavailable
from sercha.services.ports import ChangeBatch, DocumentVersion, FeedPosition

CONSUMER_TTL = 24 * 3600.0
"""Seconds after which a silent consumer is forgotten, so that the feed stays bounded."""

# Names this database's history: transaction ids mean nothing in another cluster, after a failover to
# another timeline, or in a database restored under another oid. Raises on a standby, as it must.
TIMELINE: LiteralString = """
    (SELECT system_identifier::text FROM pg_control_system())
    || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
    || '/' || (SELECT oid::text FROM pg_database WHERE datname = current_database())"""

_REGISTER: LiteralString = (
    """
INSERT INTO consumer (id, snapshot, mark, next_mark)
VALUES (%(id)s, pg_current_snapshot(), %(mark)s, %(mark)s)
ON CONFLICT (id) DO UPDATE SET snapshot = excluded.snapshot, mark = excluded.mark,
    next_mark = excluded.next_mark, seen_at = clock_timestamp()
RETURNING snapshot::text, """
    + TIMELINE
)

# One statement, so that the snapshot returned is the one that the rows were read under. A row that we see
# has a transaction older than that snapshot's end; one that says otherwise came with a dump from elsewhere.
_POLL: LiteralString = (
    """
SELECT pg_current_snapshot()::text, """
    + TIMELINE
    + """,
    EXISTS (SELECT 1 FROM consumer WHERE id = %(id)s AND %(mark)s IN (mark, next_mark)),
    array(SELECT DISTINCT document_id FROM change
          WHERE xid >= pg_snapshot_xmin(%(snapshot)s::pg_snapshot)
            AND xid < pg_snapshot_xmax(pg_current_snapshot())
            AND NOT pg_visible_in_snapshot(xid, %(snapshot)s::pg_snapshot)
          ORDER BY document_id)
"""
)

# Committed durably under a transaction id above everything that *following* has seen. So after a crash the
# server cannot give one of those ids away again (it may, to those that rolled back and were never flushed).
_ADVANCE: LiteralString = """
UPDATE consumer SET snapshot = %(snapshot)s::pg_snapshot, mark = %(mark)s, next_mark = %(next)s,
    seen_at = clock_timestamp()
WHERE id = %(id)s
"""

_MOMENT: LiteralString = "SELECT pg_current_snapshot()::text"

_COVERS: LiteralString = (
    """
SELECT %(timeline)s = ("""
    + TIMELINE
    + """) AND EXISTS (SELECT 1 FROM consumer WHERE id = %(id)s AND %(mark)s IN (mark, next_mark))
   AND NOT EXISTS (
    SELECT 1 FROM change
    WHERE xid >= pg_snapshot_xmin(%(snapshot)s::pg_snapshot)
      AND pg_visible_in_snapshot(xid, %(moment)s::pg_snapshot)
      AND NOT pg_visible_in_snapshot(xid, %(snapshot)s::pg_snapshot))
"""
)

_EXPIRE: LiteralString = """
DELETE FROM consumer WHERE seen_at < clock_timestamp() - make_interval(secs => %(ttl)s)
"""

# Without consumers nothing is trimmed: min() is null. The next consumer's first advance does it.
_TRIM: LiteralString = """
DELETE FROM change WHERE xid < (SELECT min(pg_snapshot_xmin(snapshot)) FROM consumer)
    OR xid >= pg_snapshot_xmax(pg_current_snapshot())
"""

_SCAN: LiteralString = """
SELECT id FROM document WHERE deleted_at IS NULL AND id > %(after)s ORDER BY id LIMIT %(batch)s
"""

_VERSIONS: LiteralString = """
SELECT id, version, chunk_count FROM document WHERE deleted_at IS NULL AND id > %(after)s
ORDER BY id LIMIT %(batch)s
"""


class PostgresChangeFeed:
    """`sercha.services.ports.ChangeFeed` on the primary; a standby's snapshots omit running work."""

    def __init__(self, pool: ConnectionPool, *, consumer_ttl: float = CONSUMER_TTL) -> None:
        self._pool = pool
        self._consumer_ttl = consumer_ttl

    async def register(self, consumer_id: str) -> FeedPosition:
        """Register *consumer_id* at the present; read everything older by `scan`."""
        mark = uuid4()
        row = await self._durably(_REGISTER, {"id": consumer_id, "mark": mark})
        assert row is not None
        return FeedPosition(consumer_id, row[0], row[1], str(mark))

    async def poll(self, position: FeedPosition) -> ChangeBatch | None:
        """Return what changed since *position*; None: rebuild."""
        async with self._primary() as connection:
            cursor = await connection.execute(
                _POLL,
                {
                    "id": position.consumer_id,
                    "snapshot": position.snapshot,
                    "mark": UUID(position.mark),
                },
            )
            row = await cursor.fetchone()
        assert row is not None
        snapshot, timeline, is_known, ids = row
        if not is_known or timeline != position.timeline:
            return None
        following = FeedPosition(position.consumer_id, snapshot, timeline, str(uuid4()))
        return ChangeBatch(tuple(ids), following)

    async def advance(self, position: FeedPosition, following: FeedPosition) -> None:
        """Record, durably, that the copy holds *position* and may commit *following* next."""
        await self._durably(
            _ADVANCE,
            {
                "id": position.consumer_id,
                "snapshot": position.snapshot,
                "mark": UUID(position.mark),
                "next": UUID(following.mark),
            },
        )

    async def _durably(
        self, statement: LiteralString, parameters: dict[str, Any]
    ) -> tuple[Any, ...] | None:
        """Run one statement whose commit is on disk when this returns, whatever the database's default."""
        async with self._primary() as connection, connection.transaction():
            await connection.execute("SET LOCAL synchronous_commit = on")
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchone() if cursor.description else None

    @asynccontextmanager
    async def _primary(self) -> AsyncGenerator[Connection]:
        """Lend a connection; a standby, as an address may lead to for a moment of a failover, is `Unavailable`."""
        async with self._pool.connection() as connection:
            try:
                yield connection
            except ObjectNotInPrerequisiteState as error:
                raise Unavailable("the database is a standby: it only reads") from error

    async def unregister(self, consumer_id: str) -> None:
        """Forget a consumer, and tell whoever follows as it."""
        async with self._pool.connection() as connection:
            await connection.execute("DELETE FROM consumer WHERE id = %s", [consumer_id])
            await connection.execute("SELECT pg_notify('sercha_change', '')")

    async def moment(self) -> str:
        """Return the present as a ``pg_snapshot``."""
        async with self._primary() as connection:
            row = await (await connection.execute(_MOMENT)).fetchone()
        assert row is not None
        return row[0]

    async def covers(self, position: FeedPosition, moment: str) -> bool:
        """Say whether a copy at *position* has every change that *moment* sees."""
        parameters = {
            "snapshot": position.snapshot,
            "moment": moment,
            "timeline": position.timeline,
            "id": position.consumer_id,
            "mark": UUID(position.mark),
        }
        async with self._primary() as connection:
            row = await (await connection.execute(_COVERS, parameters)).fetchone()
        assert row is not None
        return row[0]

    async def trim(self) -> None:
        """Forget silent consumers, then changes that everyone has seen."""
        async with self._pool.connection() as connection:
            await connection.execute(_EXPIRE, {"ttl": self._consumer_ttl})
            await connection.execute(_TRIM)

    async def scan(self, *, batch: int) -> AsyncGenerator[tuple[DocumentId, ...]]:
        """Give all live document ids, ascending, a batch at a time."""
        after = 0
        while True:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_SCAN, {"after": after, "batch": batch})
                rows = await cursor.fetchall()
            if not rows:
                return
            yield tuple(row[0] for row in rows)
            after = rows[-1][0]

    async def versions(self, *, batch: int) -> AsyncGenerator[list[DocumentVersion]]:
        """Give all live documents' versions, ascending, a batch at a time."""
        after = 0
        while True:
            async with self._pool.connection() as connection:
                cursor = await connection.execute(_VERSIONS, {"after": after, "batch": batch})
                rows = await cursor.fetchall()
            if not rows:
                return
            yield [DocumentVersion(*row) for row in rows]
            after = rows[-1][0]
