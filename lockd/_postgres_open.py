"""Opening a store or a fence in PostgreSQL: on connections of its own, or on those that somebody lends."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random

from lockd._postgres_connections import Connections
from lockd._postgres_errands import Lend, open_errands
from lockd._postgres_fence import PostgresFence
from lockd._postgres_notices import Listener
from lockd._postgres_store import PostgresStore


@asynccontextmanager
async def open_postgres_store(
    conninfo: str, *, notices: bool = True, create_tables: bool = False
) -> AsyncGenerator[PostgresStore]:
    """Keep leases in the database at *conninfo*, for the block; it connects when there is something to ask.

    There is mostly one connection; at most `lockd._postgres_errands.REQUESTS_MAX`, and one more that listens for
    releases while somebody waits. Without *notices* waiters poll; that is what they do behind a pooler anyway,
    which must be said here only if it gives one connection to many (PgBouncer in transaction mode). With
    *create_tables* missing tables are made before the first request.

    Errors of the block leave it as themselves. Its end takes as long as a request that was given up may take to
    be cancelled, 5 s at most.

    Raises:
        ValueError: *conninfo* cannot be read.
    """
    connections = Connections(conninfo, create_tables=create_tables)
    listen = connections.dedicate if notices else None
    try:
        async with open_postgres_store_on(connections.lend, listen=listen) as store:
            yield store
    finally:
        connections.close()


@asynccontextmanager
async def open_postgres_store_on(
    lend: Lend, *, listen: Lend | None = None, random: Random | None = None
) -> AsyncGenerator[PostgresStore]:
    """Keep leases over connections that *lend* gives, one for each request; as `open_postgres_store` else.

    *listen* gives a connection to keep for as long as somebody waits for a lease; without it waiters poll. Both
    give connections in autocommit mode and raise psycopg's errors or `StoreUnreachable`. A connection that an
    error occurred on is closed before it is given back.
    """
    listener = Listener(listen, random or Random())
    async with open_errands(lend) as (errands, nursery):
        nursery.start_soon(listener.run)
        yield PostgresStore(errands, listener)


@asynccontextmanager
async def open_postgres_fence(
    conninfo: str, *, create_tables: bool = False
) -> AsyncGenerator[PostgresFence]:
    """Keep fences in the database at *conninfo*, for leases that are elsewhere; see `open_postgres_store`.

    Raises:
        ValueError: *conninfo* cannot be read.
    """
    connections = Connections(conninfo, create_tables=create_tables)
    try:
        async with open_postgres_fence_on(connections.lend) as fence:
            yield fence
    finally:
        connections.close()


@asynccontextmanager
async def open_postgres_fence_on(lend: Lend) -> AsyncGenerator[PostgresFence]:
    """Keep fences over connections that *lend* gives; see `open_postgres_store_on`."""
    async with open_errands(lend) as (errands, _):
        yield PostgresFence(errands)
