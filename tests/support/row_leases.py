"""Leases in PostgreSQL, and a second connection to interfere with them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast
from uuid import UUID, uuid4

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockd import Granted
from lockd.postgres import PostgresStore, TrioConnection, open_postgres_store
from tests.support.connections import connected, until, value_of
from tests.support.postgres import PostgresServer

OURS = "FROM pg_stat_activity WHERE application_name = 'lockd'"
"""The connections of stores on the server; those to other databases too."""

HOSTILE = ("default_transaction_isolation = 'serializable'", "synchronous_commit = off")
"""Defaults that a database may have, and that leases must not depend on."""


@asynccontextmanager
async def open_lab(
    url: str, *defaults: str, notices: bool = True
) -> AsyncGenerator[tuple[PostgresStore, TrioConnection]]:
    """Open a store with its tables, and a connection to the same database; *defaults* hold for both."""
    async with connected(url) as connection:
        name = await value_of(connection, "SELECT current_database()")
        for default in defaults:
            await connection.execute(f'ALTER DATABASE "{name}" SET {default}'.encode())
    async with (
        connected(url) as hand,
        open_postgres_store(url, notices=notices, create_tables=True) as store,
    ):
        await store.seen("make the tables")
        yield store, hand


def over_tcp(server: PostgresServer, url: str, **changes: object) -> str:
    """Return the TCP address, with the password, of the database at *url*."""
    database = str(conninfo_to_dict(url)["dbname"])
    return make_conninfo(server.url_for(database, tcp=True), **changes)  # type: ignore[arg-type]


async def take(
    store: PostgresStore, name: str = "x", *, ttl: float = 30, holder: UUID | None = None
) -> tuple[UUID, int]:
    """Acquire a lease that is free; its holder and token."""
    holder = holder or uuid4()
    answer = await store.acquire(name, holder, ttl, (await store.seen(name)).token)
    assert isinstance(answer, Granted)
    assert answer.token is not None
    return holder, answer.token


async def until_somebody_waits(hand: TrioConnection, count: int = 1) -> None:
    """Return when so many of the store's requests wait for a lock."""
    query = """SELECT count(*) >= %s FROM pg_locks JOIN pg_stat_activity USING (pid)
               WHERE NOT granted AND application_name = 'lockd'"""
    await until(lambda: value_of(hand, query, count))


async def row_of(hand: TrioConnection, name: str = "x") -> tuple[UUID | None, int, bool, str]:
    """Read what the tables have for *name*: holder, token, whether it lives, and until when."""
    cursor = await hand.execute(
        """SELECT holder, token, expires_at > clock_timestamp(), expires_at::text
           FROM lease_fence JOIN lease_row USING (name) WHERE name = %s""",
        (name,),
    )
    row = await cursor.fetchone()
    assert row is not None
    return cast("tuple[UUID | None, int, bool, str]", row)
