"""A store's own small set of connections: opened when needed, kept while they are sound."""

# pyright: reportPrivateUsage=false
# psycopg keeps its parsing half private; see `lockd._hosts`.

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import pq
from psycopg._conninfo_utils import get_param
from psycopg.abc import ConnDict
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from lockd._connection import TrioConnection

IDLE_MAX = 2
"""Connections kept for the next requests."""

_DEFAULTS: ConnDict = {
    "application_name": "lockd",
    "client_encoding": "UTF8",
    # Of several hosts the one that can hold leases.
    "target_session_attrs": "read-write",
}

_TABLES_KEY = 0x10CC_D000
"""Advisory lock around making the tables; any constant will do that nobody else uses in the database."""


class Connections:
    """Connections to one server. How many there are at a time is up to those who borrow."""

    def __init__(self, conninfo: str, *, create_tables: bool = False) -> None:
        self._conninfo = _complete(conninfo)
        self._lacks_tables = create_tables
        self._idle: list[TrioConnection[Any]] = []

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[TrioConnection[Any]]:
        """Lend a connection in autocommit mode.

        One that comes back closed or in a transaction takes the idle ones with it, since what broke one has
        probably broken them.

        Raises:
            psycopg.Error: no server could be used, or the tables could not be made.
        """
        connection = self._take() or await self._open()
        try:
            if self._lacks_tables:
                await create_tables(connection)
                self._lacks_tables = False
            yield connection
        finally:
            self._give_back(connection)

    @asynccontextmanager
    async def dedicate(self) -> AsyncGenerator[TrioConnection[Any]]:
        """Open a connection for the block, and close it at the end.

        Raises:
            psycopg.Error: no server could be used.
        """
        connection = await self._open()
        try:
            yield connection
        finally:
            connection.finish()

    def close(self) -> None:
        """Close the idle ones; no checkpoint."""
        while self._idle:
            self._idle.pop().finish()

    async def _open(self) -> TrioConnection[Any]:
        # Prepared statements do not survive a pooler in transaction mode.
        return await TrioConnection[Any].connect(
            self._conninfo, autocommit=True, prepare_threshold=None
        )

    def _take(self) -> TrioConnection[Any] | None:
        while self._idle:
            connection = self._idle.pop()
            # What an idle connection has to say is its end.
            if not connection.is_readable():
                return connection
            connection.finish()
        return None

    def _give_back(self, connection: TrioConnection[Any]) -> None:
        is_sound = connection.pgconn.transaction_status == pq.TransactionStatus.IDLE
        if not is_sound:
            self.close()
        if is_sound and len(self._idle) < IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.finish()


def _complete(conninfo: str) -> str:
    try:
        params = conninfo_to_dict(conninfo)
    except (psycopg.Error, ValueError):
        # libpq's message may quote a part of the password.
        raise ValueError("not a PostgreSQL connection string") from None
    missing = {name: value for name, value in _DEFAULTS.items() if get_param(params, name) is None}
    return make_conninfo("", **{**missing, **params})


async def create_tables(connection: TrioConnection[Any]) -> None:
    """Make lockd's tables where they are missing, in the first schema of the search path.

    Safe to run from many processes at once. Cancelled, it has made both or none.

    Raises:
        psycopg.Error: they could not be made.
    """
    if await _has_tables(connection):
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_TABLES_KEY,))
        await connection.execute(files("lockd").joinpath("schema.sql").read_bytes())


async def _has_tables(connection: TrioConnection[Any]) -> bool:
    # Without looking first, a role that may not make tables could not use those that are there.
    query = "SELECT to_regclass('lease_fence') IS NOT NULL AND to_regclass('lease_row') IS NOT NULL"
    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
    await cursor.execute(query)
    return await cursor.fetchone() == (True,)
