"""The fence in PostgreSQL: a row per lease that says who may commit.

A takeover is a compare-and-set of that row, and it waits for the fenced transactions of the holder before, which
have the row locked in share mode. So what is committed under a token was committed before anybody got a larger
one. The row also has the server's timeline: an asynchronous standby that is promoted may have lost the last
takeover and name the holder before it again, who would pass otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import psycopg
from psycopg.errors import LockNotAvailable

from lockd._connection import TrioConnection
from lockd._errors import FenceRefused, StoreUnreachable
from lockd._postgres_errands import Errands
from lockd._postgres_errors import unreachable
from lockd._postgres_script import TIMELINE, run_script
from lockd._store import FenceRow
from lockd._transaction import TrioTransaction

STATEMENT_MS = 5000
"""Longest statement of a fenced transaction."""
IDLE_MS = 2000
"""Longest pause between two of its statements. The server ends the session of a process that stands still."""
LOCK_MS = 2000
"""Longest wait for one lock in it."""

TAKEOVER_SECONDS = 8.0
"""How long a takeover waits for fenced transactions: for a full statement and a full pause."""

READ_SECONDS = 1.0
"""For locks that reading does not take."""

NEXT_NUMBER = "greatest(f.token + 1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint)"
"""The next token: larger than any before, also for those outside of this database if it lost the last ones."""

_SEEN = """
SELECT f.holder, coalesce(f.token, 0), pg_is_in_recovery()
FROM (SELECT 1) AS one LEFT JOIN lease_fence f ON f.name = %(name)s
"""

_FENCE = f"""
INSERT INTO lease_fence (name) VALUES (%(name)s) ON CONFLICT DO NOTHING;
UPDATE lease_fence f SET holder = %(holder)s, token = {NEXT_NUMBER}, timeline = {TIMELINE}
WHERE f.name = %(name)s AND f.token = %(seen)s
RETURNING f.token
"""

_EVICT = f"""
INSERT INTO lease_fence (name) VALUES (%(name)s) ON CONFLICT DO NOTHING;
SELECT holder FROM lease_fence WHERE name = %(name)s FOR UPDATE;
UPDATE lease_fence f SET holder = NULL, token = {NEXT_NUMBER}, timeline = {TIMELINE}
WHERE f.name = %(name)s
"""

# One statement, so that it works in a pipeline as well. The limits hold when it starts to wait for the row.
_VERIFY = f"""
WITH limits AS MATERIALIZED (
    SELECT set_config('statement_timeout', '{STATEMENT_MS}', true),
           set_config('lock_timeout', '{LOCK_MS}', true),
           set_config('idle_in_transaction_session_timeout', '{IDLE_MS}', true)
)
SELECT 1 FROM limits, lease_fence f
WHERE f.name = %(name)s AND f.holder = %(holder)s AND f.token = %(token)s AND f.timeline = {TIMELINE}
FOR SHARE OF f
""".encode()


class PostgresFence:
    """Satisfies `lockd._fence.Fence`; made by `open_postgres_fence`."""

    def __init__(self, errands: Errands) -> None:
        self._errands = errands

    async def seen(self, name: str) -> FenceRow:
        """Read the row of *name*.

        Raises:
            StoreUnreachable: no answer, or one of a standby, which may be behind.
        """

        async def read(connection: TrioConnection[Any]) -> FenceRow:
            [[row]] = await run_script(connection, _SEEN, lock_seconds=READ_SECONDS, name=name)
            holder, token, is_standby = row
            if is_standby:
                connection.finish()
                raise StoreUnreachable("PostgreSQL: the server is a standby")
            return FenceRow(holder, token)

        return await self._errands.run(self._errands.contending, read)

    async def fence(self, name: str, holder: UUID, seen: int) -> int | None:
        """Name *holder* if the token is still *seen*; the new, larger token, or None.

        Waits for fenced transactions under way, `TAKEOVER_SECONDS` at most, then it is None as well. Cancelled
        or without an answer it may have taken place.

        Raises:
            StoreUnreachable: no answer.
        """

        async def take(connection: TrioConnection[Any]) -> int | None:
            try:
                [rows] = await run_script(
                    connection,
                    _FENCE,
                    lock_seconds=TAKEOVER_SECONDS,
                    name=name,
                    holder=holder,
                    seen=seen,
                )
            except LockNotAvailable:
                return None
            return rows[0][0] if rows else None

        return await self._errands.run(self._errands.contending, take)

    async def evict(self, name: str) -> bool:
        """Name nobody, under a new token; whether somebody was named, be it that he had released.

        Raises:
            StoreUnreachable: no answer, or a fenced transaction that does not end; it may have taken place.
        """

        async def evict(connection: TrioConnection[Any]) -> bool:
            [[[holder]]] = await run_script(
                connection, _EVICT, lock_seconds=TAKEOVER_SECONDS, name=name
            )
            return holder is not None

        return await self._errands.run(self._errands.contending, evict)

    @asynccontextmanager
    async def fenced(
        self, connection: TrioConnection[Any], name: str, holder: UUID, token: int
    ) -> AsyncGenerator[TrioTransaction]:
        """Open a transaction on *connection* in which the row names exactly (*holder*, *token*), on this timeline.

        The row is locked in share mode until the transaction ends: nobody can take the fence before. The server
        ends a statement after `STATEMENT_MS`, and the session after a pause of `IDLE_MS`: so a process that
        stands still does not hold others up. On a connection that is in a transaction already it is a
        savepoint; lock and limits then last until the outer transaction ends, and it is the outer one that
        must not go on after an error.

        Errors of the block, of the server inside of it, and of COMMIT leave as they are; for cancellation and
        for a COMMIT without an answer see `TrioTransaction`: whether it took place must be found out by what
        it wrote.

        Raises:
            FenceRefused: the row names somebody else; nothing was changed.
            StoreUnreachable: the transaction could not be opened; nothing was changed.
        """
        is_open = False
        values = {"name": name, "holder": holder, "token": token}
        try:
            async with connection.transaction() as transaction:
                cursor = await connection.execute(_VERIFY, values)
                if await cursor.fetchone() is None:
                    raise FenceRefused
                is_open = True
                yield transaction
        except psycopg.Error as error:
            if is_open:
                raise
            raise unreachable(error) from error
