"""Leases in PostgreSQL alone: the holder in the fence's row, the end of his lease in a row beside it.

How the two rows are locked decides everything here. ``lease_row`` (L) is the mutex of a name: an acquisition
locks L first and then moves the fence (F), whose lock may be long in coming, since fenced transactions share it.
Renewal and release lock L only. They never wait for such an acquisition: it has L locked only when the lease
has expired, and then they have nothing to do. Whoever has locked L reads F in a *later* statement, whose snapshot
shows the last acquisition; what a statement saw before it waited for a lock may be over.

All times are the server's, by ``clock_timestamp()``: ``now()`` stands still while a transaction waits.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import trio
from psycopg.errors import LockNotAvailable

from lockd._connection import TrioConnection
from lockd._errors import StoreUnreachable
from lockd._postgres_errands import Errands
from lockd._postgres_fence import NEXT_NUMBER, READ_SECONDS, PostgresFence
from lockd._postgres_notices import CHANNEL, Listener
from lockd._postgres_script import TIMELINE, Row, run_script
from lockd._store import Busy, FenceRow, Granted, Inspection, Notices, Renewal
from lockd._transaction import TrioTransaction

RELEASE_LOCK_SECONDS = 1.0
"""How long a release waits for L, which is locked for an instant only."""

_STATE = """
SELECT f.holder, coalesce(f.token, 0),
    extract(epoch FROM l.expires_at)::float8 - extract(epoch FROM clock_timestamp())::float8,
    pg_is_in_recovery()
FROM (SELECT 1) AS one
LEFT JOIN lease_fence f ON f.name = %(name)s
LEFT JOIN lease_row l ON l.name = %(name)s
"""

# The row's own condition is looked at again after a wait for its lock, if it was changed meanwhile.
_ACQUIRE = f"""
INSERT INTO lease_row (name, expires_at) VALUES (%(name)s, '-infinity') ON CONFLICT DO NOTHING;
INSERT INTO lease_fence (name) VALUES (%(name)s) ON CONFLICT DO NOTHING;
WITH free AS MATERIALIZED (
    SELECT name FROM lease_row
    WHERE name = %(name)s AND expires_at < clock_timestamp()
    FOR UPDATE
), taken AS (
    UPDATE lease_fence f SET holder = %(holder)s, token = {NEXT_NUMBER}, timeline = {TIMELINE}
    FROM free
    WHERE f.name = free.name AND f.token = %(seen)s
    RETURNING f.name, f.token
), held AS (
    UPDATE lease_row l SET expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
    FROM taken
    WHERE l.name = taken.name
)
SELECT token FROM taken;
{_STATE}
"""

_LOCK_LIVE = """
SELECT 1 FROM lease_row WHERE name = %(name)s AND expires_at >= clock_timestamp() FOR UPDATE;
"""

_RENEW = f"""
{_LOCK_LIVE}
UPDATE lease_row l SET expires_at = clock_timestamp() + make_interval(secs => %(ttl)s)
FROM lease_fence f
WHERE l.name = %(name)s AND l.expires_at >= clock_timestamp()
    AND f.name = l.name AND f.holder = %(holder)s AND f.timeline = {TIMELINE}
RETURNING 1;
{_STATE}
"""

_FREE = f"""
{_LOCK_LIVE}
WITH freed AS (
    UPDATE lease_row l SET expires_at = '-infinity'
    FROM lease_fence f
    WHERE l.name = %(name)s AND l.expires_at >= clock_timestamp()
        AND f.name = l.name AND f.holder IS NOT DISTINCT FROM %(holder)s
    RETURNING l.name
)
SELECT pg_notify('{CHANNEL}', name) FROM freed
"""


@dataclass(frozen=True, slots=True)
class _State:
    holder: UUID | None
    token: int
    remaining: float | None
    """Seconds until the lease expires, None when nobody holds it."""


class PostgresStore:
    """Satisfies `lockd.LeaseStore`; made by `open_postgres_store`.

    Once the block of that has been left, every request raises ``trio.ClosedResourceError``.
    """

    def __init__(self, errands: Errands, listener: Listener) -> None:
        self._errands = errands
        self._listener = listener
        self._fence = PostgresFence(errands)

    async def seen(self, name: str) -> FenceRow:
        """Read the fence."""
        return await self._fence.seen(name)

    async def acquire(self, name: str, holder: UUID, ttl: float, seen: int) -> Granted | Busy:
        """Take lease and fence in one transaction, if the lease has expired and the token is still *seen*.

        While a fenced transaction of the holder before is under way it is busy, with nobody as the holder.
        """

        async def attempt(connection: TrioConnection[Any]) -> Granted | Busy:
            values = {"name": name, "holder": holder, "ttl": ttl, "seen": seen}
            try:
                [taken, state_rows] = await run_script(
                    connection, _ACQUIRE, lock_seconds=_lock_seconds(ttl), **values
                )
            except LockNotAvailable:
                [state_rows] = await run_script(
                    connection, _STATE, lock_seconds=READ_SECONDS, name=name
                )
                taken = []
            if taken:
                return Granted(taken[0][0])
            state = _state(connection, state_rows)
            if state.remaining is None:
                return Busy(None, 0.0, state.token)
            return Busy(state.holder, state.remaining, state.token)

        return await self._errands.run(self._errands.contending, attempt)

    async def fence(self, name: str, holder: UUID, seen: int) -> int | None:
        """Take the fence alone; `acquire` does it, too."""
        return await self._fence.fence(name, holder, seen)

    async def renew(self, name: str, holder: UUID, ttl: float) -> Renewal:
        """Extend the lease of *holder*, unless it has expired or the server has another timeline by now."""

        async def renew(connection: TrioConnection[Any]) -> Renewal:
            [*_, renewed, state_rows] = await run_script(
                connection,
                _RENEW,
                lock_seconds=_lock_seconds(ttl),
                name=name,
                holder=holder,
                ttl=ttl,
            )
            if renewed:
                return Renewal.RENEWED
            state = _state(connection, state_rows)
            return Renewal.GONE if state.holder in (None, holder) else Renewal.TAKEN

        return await self._errands.run(self._errands.keeping, renew)

    async def release(self, name: str, holder: UUID) -> bool:
        """Free the lease of *holder*, and notify waiters in the same transaction."""
        return await self._free(self._errands.keeping, name, holder)

    async def inspect(self, name: str) -> Inspection:
        """Say who holds the lease."""

        async def read(connection: TrioConnection[Any]) -> Inspection:
            [rows] = await run_script(connection, _STATE, lock_seconds=READ_SECONDS, name=name)
            state = _state(connection, rows)
            holder = None if state.remaining is None else state.holder
            return Inspection(name, holder, state.remaining, state.token)

        return await self._errands.run(self._errands.contending, read)

    async def evict(self, name: str) -> bool:
        """Move the fence so that it names nobody, then free the lease if it still does.

        In two transactions, so that a renewal never waits for what the fence waits for. Without an answer the
        fence may have moved; to evict again is safe.
        """
        await self._fence.evict(name)
        return await self._free(self._errands.contending, name, None)

    @asynccontextmanager
    async def notices(self, name: str) -> AsyncGenerator[Notices]:
        """Listen for releases of *name* within the block; without a server it starts after a moment."""
        async with self._listener.listen(name) as ear:
            yield ear

    def fenced(
        self, connection: TrioConnection[Any], name: str, holder: UUID, token: int
    ) -> AbstractAsyncContextManager[TrioTransaction]:
        """Open a transaction that the fence protects: see `PostgresFence.fenced`.

        *connection* is to the database that has the leases.
        """
        return self._fence.fenced(connection, name, holder, token)

    async def _free(self, lane: trio.Semaphore, name: str, holder: UUID | None) -> bool:
        async def free(connection: TrioConnection[Any]) -> bool:
            seconds = RELEASE_LOCK_SECONDS
            [*_, freed] = await run_script(
                connection, _FREE, lock_seconds=seconds, name=name, holder=holder
            )
            return bool(freed)

        return await self._errands.run(lane, free)


def _lock_seconds(ttl: float) -> float:
    """Less than half of what `lockd` gives an attempt: whoever waits for both rows still gets an answer."""
    return min(2.0, ttl / 30)


def _state(connection: TrioConnection[Any], rows: list[Row]) -> _State:
    [[holder, token, remaining, is_standby]] = rows
    if is_standby:
        connection.finish()
        raise StoreUnreachable("PostgreSQL: the server is a standby")
    return _State(holder, token, remaining if remaining is not None and remaining > 0 else None)
