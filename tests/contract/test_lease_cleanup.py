"""What a connection cleans up under a lease ends within the lease's margin, whatever the server does."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio

from lockd import EventKind, LeaseLost, hold
from lockd._cleanup import bounded_cleanup, cleanup_seconds
from lockd.postgres import TrioConnection, create_tables, open_postgres_store
from sercha.testing import open_proxy
from tests.support.leases import Diary
from tests.support.postgres import PostgresServer

TTL = 6.0
"""The margin is half a second; a cancel request waits five for a server that hangs."""


async def test_a_query_that_hangs_does_not_outlive_its_lease(
    postgres_server: PostgresServer, postgres_url: str, seed: int
) -> None:
    """Cause: the server swallows all bytes while the body waits for an answer. No overrun, and the connection closed."""
    direct = postgres_server.url_for(urlsplit(postgres_url).path.removeprefix("/"), tcp=True)
    diary = Diary()
    async with open_proxy("127.0.0.1", postgres_server.port, seed=seed) as proxy:
        url = direct.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        connection = await TrioConnection[Any].connect(url, autocommit=True)
        await create_tables(connection)
        with trio.fail_after(30), pytest.raises(LeaseLost):
            async with (
                open_postgres_store(url) as store,
                hold(store, "x", ttl=TTL, observe=diary),
            ):
                proxy.black_hole("up")
                await connection.execute("SELECT pg_sleep(60)")
        assert connection.closed
    assert diary.count(EventKind.LOST) == 1
    assert diary.count(EventKind.OVERRAN) == 0


def test_the_shorter_time_counts_and_ends_with_its_block() -> None:
    assert cleanup_seconds(math.inf) == math.inf
    with bounded_cleanup(3):
        assert cleanup_seconds(5) == 3
        assert cleanup_seconds(1) == 1
        with bounded_cleanup(2):
            assert cleanup_seconds(5) == 2
        with bounded_cleanup(4):
            assert cleanup_seconds(5) == 3
    assert cleanup_seconds(5) == 5


async def test_tasks_that_a_body_starts_have_its_time() -> None:
    seen: list[float] = []

    async def look() -> None:
        await trio.lowlevel.checkpoint()
        seen.append(cleanup_seconds(5))

    async with trio.open_nursery() as nursery:
        with bounded_cleanup(1):
            nursery.start_soon(look)
        nursery.start_soon(look)

    assert sorted(seen) == [1, 5]
