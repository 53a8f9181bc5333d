"""What a client of PostgreSQL sees of a failing network, as the fault proxy makes it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import psycopg
import pytest
import trio
import trio.testing
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockd import _connection
from lockd.postgres import TrioConnection
from sercha.testing import FaultProxy, open_proxy
from tests.support.connections import connected, until, value_of
from tests.support.postgres import PostgresServer

ROWS = "SELECT count(*) FROM written"
TRY_LOCK = "SELECT pg_try_advisory_lock(4711)"


@pytest.fixture
def tcp_url(postgres_server: PostgresServer, postgres_url: str) -> str:
    """Give the TCP address of the fresh database at `postgres_url`, without a proxy."""
    return make_conninfo(
        postgres_server.tcp_url,
        dbname=conninfo_to_dict(postgres_url)["dbname"],
        application_name="through the proxy",
    )


def by_way_of(proxy: FaultProxy, tcp_url: str) -> str:
    return make_conninfo(tcp_url, host=proxy.host, port=proxy.port)


@asynccontextmanager
async def proxy_before(tcp_url: str) -> AsyncGenerator[FaultProxy]:
    target = conninfo_to_dict(tcp_url)
    with trio.fail_after(20):
        async with open_proxy(str(target["host"]), int(str(target["port"]))) as proxy:
            yield proxy


@asynccontextmanager
async def proxied(tcp_url: str) -> AsyncGenerator[tuple[FaultProxy, TrioConnection]]:
    """Open a proxy and a connection through it, to a database with an empty table ``written``."""
    async with (
        proxy_before(tcp_url) as proxy,
        connected(by_way_of(proxy, tcp_url)) as connection,
    ):
        await connection.execute("CREATE TABLE written (key int)")
        yield proxy, connection


def lose_the_reply(proxy: FaultProxy) -> None:
    proxy.lose_next_reply()


def cut_the_reply_short(proxy: FaultProxy) -> None:
    proxy.cut_after(5, "down")


def lose_the_request(proxy: FaultProxy) -> None:
    proxy.cut_after(0, "up")


@pytest.mark.parametrize(
    ("fault", "rows"), [(lose_the_reply, 1), (cut_the_reply_short, 1), (lose_the_request, 0)]
)
async def test_a_commit_without_an_answer_may_have_taken_place(
    tcp_url: str, postgres_url: str, fault: Callable[[FaultProxy], None], rows: int
) -> None:
    """The client is told the same whether the request was lost or its reply."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    async with proxied(tcp_url) as (proxy, connection):
        with pytest.raises(psycopg.OperationalError):
            async with connection.transaction():
                await connection.execute("INSERT INTO written VALUES (1)")
                fault(proxy)

        assert connection.closed
        assert proxy.statistics().cut == 1
        async with connected(postgres_url) as witness:

            async def is_alone() -> bool:
                return await value_of(witness, query) == 1

            await until(is_alone)
            assert await value_of(witness, ROWS) == rows


async def test_only_the_callers_limit_notices_a_server_that_vanished(
    tcp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connection, "CANCEL_SECONDS", 0.2)
    async with proxied(tcp_url) as (proxy, connection):
        proxy.half_open("server")

        with trio.move_on_after(0.2) as limit:
            await connection.execute("INSERT INTO written VALUES (1)")

        assert limit.cancelled_caught
        assert proxy.statistics().swallowed_up > 0
        assert connection.closed
        async with connected(by_way_of(proxy, tcp_url)) as next_connection:
            assert await value_of(next_connection, ROWS) == 0


async def test_the_server_keeps_the_session_of_a_client_that_vanished(
    tcp_url: str, postgres_url: str
) -> None:
    async with proxied(tcp_url) as (proxy, connection):
        assert await value_of(connection, TRY_LOCK) is True

        proxy.half_open("client")

        with pytest.raises(psycopg.OperationalError):
            await connection.execute("SELECT 1")
        async with connected(postgres_url) as witness:
            assert await value_of(witness, TRY_LOCK) is False
            proxy.heal()
            await until(lambda: value_of(witness, TRY_LOCK))


async def test_a_reset_in_the_middle_of_a_statement(tcp_url: str) -> None:
    async with proxied(tcp_url) as (proxy, connection), trio.open_nursery() as nursery:
        before = proxy.statistics()

        async def be_interrupted() -> None:
            with pytest.raises(psycopg.OperationalError):
                await connection.execute("SELECT pg_sleep(60)")
            assert connection.closed

        nursery.start_soon(be_interrupted)
        await proxy.wait_bytes("up", 1, since=before)
        proxy.reset()


async def test_a_reset_between_statements(tcp_url: str) -> None:
    async with proxied(tcp_url) as (proxy, connection):
        proxy.reset()

        with pytest.raises(psycopg.OperationalError):
            await connection.execute("SELECT 1")
        async with connected(by_way_of(proxy, tcp_url)) as next_connection:
            assert await value_of(next_connection, ROWS) == 0


async def test_an_answer_that_is_held_comes_after_healing(tcp_url: str) -> None:
    answers: list[object] = []
    async with proxied(tcp_url) as (proxy, connection):
        proxy.hold("down")

        async def ask() -> None:
            answers.append(await value_of(connection, "SELECT 17"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await proxy.wait_until(lambda now: now.held_down > 0)
            await trio.testing.wait_all_tasks_blocked(0.02)
            assert answers == []
            proxy.heal()

    assert answers == [17]


async def test_refused_and_ignored_connections_raise_operational_errors(tcp_url: str) -> None:
    async with proxy_before(tcp_url) as proxy:
        url = make_conninfo(by_way_of(proxy, tcp_url), connect_timeout=2)
        proxy.refuse_new()
        with pytest.raises(psycopg.OperationalError, match="closed the connection"):
            await TrioConnection.connect(url)
        proxy.ignore_new()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            await TrioConnection.connect(url)
        proxy.heal()
        async with connected(url) as connection:
            assert await value_of(connection, "SELECT 1") == 1
