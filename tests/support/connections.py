"""Short ways to talk to a server from Trio tests."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from lockd.postgres import TrioConnection


@asynccontextmanager
async def connected(url: str, **options: object) -> AsyncIterator[TrioConnection]:
    options = {"autocommit": True, **options}
    connection = await TrioConnection.connect(url, **options)
    try:
        yield connection
    finally:
        connection.finish()


async def value_of(connection: TrioConnection, query: str, *params: object) -> object:
    row = await (await connection.execute(query, params)).fetchone()
    assert row is not None
    return row[0]


async def until(condition: Callable[[], object]) -> None:
    """Look again, for something that another process does, 10 s at most."""
    with trio.fail_after(10):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return
            await trio.sleep(0.01)


async def is_waiting_in_server(watcher: TrioConnection, pid: int) -> bool:
    query = "SELECT state = 'active' FROM pg_stat_activity WHERE pid = %s"
    return bool(await value_of(watcher, query, pid))


async def is_gone(watcher: TrioConnection, pid: int) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    return await value_of(watcher, query, pid) == 0


async def lose_at_commit(connection: Any) -> None:
    """Let whoever inserts into the table ``t`` lose the connection within COMMIT."""
    await connection.execute(
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); RETURN NULL;"
        " END $$"
    )
    await connection.execute(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION die()"
    )
