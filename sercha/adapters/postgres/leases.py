"""Leases over the connections of a process's pool."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from lockd import StoreUnreachable
from lockd.postgres import Lend, PostgresStore, open_postgres_store_on
from sercha.adapters.postgres.pool import Connection, ConnectionPool
from sercha.errors import SerchaError

LISTENING_CONNECTIONS_MIN = 5
"""In a smaller pool no connection is kept for listening while this process waits for a lease: it polls."""


def lend_from(pool: ConnectionPool) -> Lend:
    """Return what lends lockd connections of *pool*, and tells it in its own words when there are none."""
    return _lend(pool.connection)


@asynccontextmanager
async def open_postgres_leases(
    pool: ConnectionPool, *, max_open: int
) -> AsyncGenerator[PostgresStore]:
    """Keep leases in the database of *pool*, which opens up to *max_open* connections, for the block.

    While this process waits for a lease, one of the connections listens for its release.
    """
    listen = _lend(lambda: pool.dedicated("leases"))
    async with open_postgres_store_on(
        lend_from(pool), listen=listen if max_open >= LISTENING_CONNECTIONS_MIN else None
    ) as store:
        yield store


class PostgresLeaseNames:
    """`sercha.services.leases.LeaseNames` from the table of fences."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def list(self, limit: int) -> list[str]:
        """Return names of leases in order."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT name FROM lease_fence ORDER BY name LIMIT %s", [limit]
            )
            return [row[0] for row in await cursor.fetchall()]


def _lend(give: Callable[[], AbstractAsyncContextManager[Connection]]) -> Lend:
    @asynccontextmanager
    async def lend() -> AsyncGenerator[Connection]:
        try:
            async with give() as connection:
                yield connection
        except SerchaError as error:
            raise StoreUnreachable(error.message) from error

    return lend
