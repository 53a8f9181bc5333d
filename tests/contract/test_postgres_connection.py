"""`lockd.postgres.TrioConnection` against a real server: psycopg under Trio, with each known trap."""

from __future__ import annotations

import inspect
import os
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import psycopg
import pytest
import trio
import trio.testing
from psycopg import AsyncConnection, AsyncTransaction, errors, generators, pq

from lockd.postgres import TrioConnection
from tests.support.connections import connected, is_waiting_in_server, until, value_of
from tests.support.postgres import PostgresServer

IDLE = pq.TransactionStatus.IDLE
INTRANS = pq.TransactionStatus.INTRANS
INERROR = pq.TransactionStatus.INERROR


# --- What of psycopg's half private names is used --------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (AsyncConnection.__init__, ["self", "pgconn", "row_factory"]),
        (AsyncConnection._connect_gen, ["conninfo"]),
        (AsyncConnection._cancel_gen, ["self"]),
        (AsyncConnection._should_cancel, ["self"]),
        (AsyncConnection._try_cancel, ["self", "timeout"]),
        (AsyncConnection.cancel_safe, ["self", "timeout"]),
        (AsyncConnection.wait, ["self", "gen", "interval", "timeout"]),
        (AsyncConnection.transaction, ["self", "savepoint_name", "force_rollback"]),
        (AsyncConnection.pipeline, ["self"]),
        (AsyncTransaction.__init__, ["self", "connection", "savepoint_name", "force_rollback"]),
        (AsyncTransaction._check_enter, ["self"]),
        (AsyncTransaction._enter_gen, ["self"]),
        (AsyncTransaction._exit_gen, ["self", "exc_type", "exc_val", "exc_tb"]),
        (generators._send, ["pgconn"]),
        (generators._fetch, ["pgconn"]),
        (generators.notifies, ["pgconn"]),
        (psycopg._conninfo_utils.split_attempts, ["params"]),
        (psycopg._conninfo_utils.get_param, ["params", "name"]),
        (psycopg._conninfo_utils.get_param_def, ["keyword", "_cache"]),
        (psycopg._conninfo_utils.is_ip_address, ["s"]),
    ],
)
def test_psycopg_still_has_each_name_that_is_used(
    function: Callable[..., object], parameters: list[str]
) -> None:
    assert list(inspect.signature(function).parameters) == parameters


def test_connect_takes_what_psycopg_takes() -> None:
    ours = inspect.signature(TrioConnection.connect).parameters
    theirs = inspect.signature(AsyncConnection.connect).parameters

    assert list(ours) == list(theirs)


async def test_psycopg_still_has_each_attribute_that_is_used(postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        assert connection._autocommit is True
        assert connection._adapters is None
        assert connection._pipeline is None
        assert connection._closed is False
        assert connection._notifies_backlog == deque()
        transaction = AsyncTransaction(connection)
        assert transaction._outer_transaction is False
        assert transaction._conn is connection
        assert issubclass(errors._WaitTimeout, psycopg.Error)


# --- What works as with psycopg --------------------------------------------------------------------------


async def test_cursors_rows_and_types(postgres_url: str) -> None:
    async with connected(postgres_url) as connection, connection.cursor() as cursor:
        await cursor.execute("SELECT i, 'x' || i FROM generate_series(1, 3) i")

        assert await cursor.fetchone() == (1, "x1")
        assert await cursor.fetchall() == [(2, "x2"), (3, "x3")]
        assert [row async for row in cursor.stream("SELECT generate_series(1, 2)")] == [(1,), (2,)]


async def test_server_side_cursors_in_a_transaction(postgres_url: str) -> None:
    async with (
        connected(postgres_url) as connection,
        connection.transaction(),
        connection.cursor("named") as cursor,
    ):
        await cursor.execute("SELECT generate_series(1, 1000)")

        assert len(await cursor.fetchmany(10)) == 10
        assert sum([row[0] async for row in cursor]) == sum(range(11, 1001))


async def test_copy_in_and_out(postgres_url: str) -> None:
    async with connected(postgres_url) as connection, connection.cursor() as cursor:
        await connection.execute("CREATE TABLE numbers (n int, t text)")
        async with cursor.copy("COPY numbers FROM STDIN") as copy:
            for n in range(5000):
                await copy.write_row((n, "x" * 50))
        async with cursor.copy("COPY numbers TO STDOUT") as copy:
            copy.set_types(["int4", "text"])
            rows = [row async for row in copy.rows()]

        assert [n for n, _ in rows] == list(range(5000))


async def test_pipeline_and_executemany(postgres_url: str) -> None:
    async with connected(postgres_url) as connection, connection.cursor() as cursor:
        await connection.execute("CREATE TABLE numbers (n int)")
        await cursor.executemany("INSERT INTO numbers VALUES (%s)", [(n,) for n in range(2000)])
        async with connection.pipeline():
            results = [await connection.execute("SELECT %s::int", (n,)) for n in range(50)]
            async with connection.transaction():
                await connection.execute("INSERT INTO numbers VALUES (-1)")

        assert [await result.fetchone() for result in results] == [(n,) for n in range(50)]
        assert await value_of(connection, "SELECT count(*) FROM numbers") == 2001


async def test_a_query_larger_than_the_socket_buffer(postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        assert await value_of(connection, "SELECT length(%s)", "x" * 20_000_000) == 20_000_000


async def test_pipeline_fed_faster_than_the_server_answers(postgres_url: str) -> None:
    """Both directions are full at times: the wait for either of them is used."""
    async with connected(postgres_url) as connection, connection.cursor() as cursor:
        big = "x" * 500_000
        query = "SELECT length(%s), repeat('y', 1000000) FROM pg_sleep(0.02)"
        with trio.fail_after(20):
            async with connection.pipeline():
                results = [await connection.execute(query, (big,)) for _ in range(8)]
            await cursor.executemany(query, [(big,)] * 8)
        assert {await each.fetchone() for each in results} == {(500_000, "y" * 1_000_000)}


async def test_notifies_come_in_and_time_out(postgres_url: str) -> None:
    async with connected(postgres_url) as connection, connected(postgres_url) as sender:
        await connection.execute("LISTEN bell")
        await sender.execute("NOTIFY bell, 'one'")
        await sender.execute("NOTIFY bell, 'two'")

        assert [n.payload async for n in connection.notifies(stop_after=2)] == ["one", "two"]
        assert [n async for n in connection.notifies(timeout=0.01)] == []
        assert [n async for n in connection.notifies(timeout=0)] == []
        await sender.execute("NOTIFY bell, 'three'")
        await until(connection.is_readable)
        assert [n.payload async for n in connection.notifies(timeout=0)] == ["three"]


async def test_cancelled_notifies_lose_nothing(postgres_url: str) -> None:
    async with connected(postgres_url) as connection, connected(postgres_url) as sender:
        await connection.execute("LISTEN bell")
        for number in range(20):
            with trio.move_on_after(0.002):
                await connection.receive_notifies()
                raise AssertionError("nothing was sent")
            await sender.execute(f"NOTIFY bell, '{number}'")
            if number % 2:
                await connection.execute("SELECT 1")  # the notice comes in with the answer

            assert [n.payload for n in await connection.receive_notifies()] == [str(number)]
        assert connection.pgconn.transaction_status == IDLE


async def test_two_tasks_take_turns_on_one_connection(postgres_url: str) -> None:
    seen: list[object] = []

    async with connected(postgres_url) as connection:

        async def ask(number: int) -> None:
            seen.append(await value_of(connection, "SELECT %s::int", number))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, number)

    assert sorted(seen) == list(range(20))


async def test_without_autocommit_the_block_commits_or_rolls_back(postgres_url: str) -> None:
    async with await TrioConnection.connect(postgres_url) as connection:
        await connection.execute("CREATE TABLE kept (n int)")
    assert connection.closed
    with trio.CancelScope() as scope:
        async with await TrioConnection.connect(postgres_url) as connection:
            await connection.execute("DROP TABLE kept")
            scope.cancel()
            await trio.sleep_forever()
    assert connection.closed

    async with connected(postgres_url) as connection:
        assert await value_of(connection, "SELECT count(*) FROM kept") == 0


async def test_calls_that_never_wait_do_not_starve_the_loop(postgres_url: str) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with connected(postgres_url) as connection, connection.cursor() as cursor:
        await connection.execute("CREATE TEMP TABLE numbers (n int)")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            async with cursor.copy("COPY numbers FROM STDIN") as copy:
                before = turns
                began = time.perf_counter()
                while turns - before <= 5:
                    assert time.perf_counter() - began < 5, "the loop is starved"
                    await copy.write_row((1,))
            nursery.cancel_scope.cancel()


# --- Connecting ------------------------------------------------------------------------------------------


async def test_refused_connection_is_a_clear_error() -> None:
    with pytest.raises(psycopg.OperationalError, match=r"127\.0\.0\.1.*port 1 .*refused"):
        await TrioConnection.connect("host=127.0.0.1 port=1 dbname=x user=y password=secret")


async def test_unknown_host_name_is_a_clear_error() -> None:
    with pytest.raises(psycopg.OperationalError, match=r"'nowhere\.invalid' cannot be resolved"):
        await TrioConnection.connect("host=nowhere.invalid")


async def test_bad_connect_timeout_is_a_clear_error() -> None:
    with pytest.raises(psycopg.ProgrammingError, match="connect_timeout"):
        await TrioConnection.connect("host=127.0.0.1 connect_timeout=soon")


async def test_wrong_password_is_a_clear_error_without_the_password(
    postgres_server: PostgresServer,
) -> None:
    url = postgres_server.tcp_url.replace(postgres_server.password, "not-the-one")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed") as caught:
        await TrioConnection.connect(url)
    assert "not-the-one" not in str(caught.value)


async def test_name_look_up_does_not_block_and_counts_in_the_limit(
    postgres_server: PostgresServer,
) -> None:
    class Resolver(trio.abc.HostnameResolver):
        async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):
            if host == b"hangs.test":
                await trio.sleep_forever()
            return [(2, 1, 6, "", ("127.0.0.1", port))]

        async def getnameinfo(self, sockaddr, flags):
            raise AssertionError("nobody asks for a name")

    trio.socket.set_custom_hostname_resolver(Resolver())
    port, password = postgres_server.port, postgres_server.password
    began = trio.current_time()
    async with connected(
        f"host=hangs.test,works.test port={port} dbname=postgres user=postgres",
        connect_timeout=2,
        password=password,
    ) as connection:
        assert connection.info.host == "works.test"
        assert 1.9 < trio.current_time() - began < 6


async def test_silent_peer_is_given_up_after_connect_timeout() -> None:
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    began = trio.current_time()

    with pytest.raises(errors.ConnectionTimeout, match="within 2 s"):
        await TrioConnection.connect(f"host=127.0.0.1 port={port} connect_timeout=2")

    assert 1.9 < trio.current_time() - began < 5
    await listeners[0].aclose()


async def test_cancelled_connecting_leaves_no_socket_open(postgres_url: str, seed: int) -> None:
    import random

    chance = random.Random(seed)
    (await TrioConnection.connect(postgres_url)).finish()
    before = len(os.listdir("/dev/fd"))

    for _ in range(60):
        with trio.move_on_after(chance.uniform(0, 0.01)):
            (await TrioConnection.connect(postgres_url)).finish()

    assert len(os.listdir("/dev/fd")) == before


async def test_a_vanished_peer_is_noticed_by_keepalives_unless_told_otherwise(
    postgres_server: PostgresServer,
) -> None:
    def settings(connection: TrioConnection) -> dict[str, str | None]:
        return {
            option.keyword.decode(): option.val and option.val.decode()
            for option in connection.pgconn.info
        }

    async with connected(postgres_server.tcp_url) as connection:
        found = settings(connection)
        assert (found["keepalives_idle"], found["tcp_user_timeout"]) == ("5", "10000")
    async with connected(postgres_server.tcp_url, keepalives_idle=60) as connection:
        assert settings(connection)["keepalives_idle"] == "60"


# --- Lost connections ------------------------------------------------------------------------------------


async def test_backend_killed_in_the_middle_of_a_query(postgres_url: str) -> None:
    async with connected(postgres_url) as connection, connected(postgres_url) as killer:
        pid = connection.info.backend_pid

        async def kill() -> None:
            await until(partial(is_waiting_in_server, killer, pid))
            await killer.execute("SELECT pg_terminate_backend(%s)", (pid,))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            with pytest.raises(errors.AdminShutdown):
                await connection.execute("SELECT pg_sleep(30)")

        assert connection.closed


async def test_backend_killed_inside_a_transaction_is_never_a_silent_commit(
    postgres_url: str,
) -> None:
    async with connected(postgres_url) as connection, connected(postgres_url) as killer:
        await connection.execute("CREATE TABLE t (n int)")
        pid = connection.info.backend_pid
        with pytest.raises(psycopg.OperationalError, match="inside the transaction"):
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                await killer.execute("SELECT pg_terminate_backend(%s)", (pid,))
                with pytest.raises(psycopg.OperationalError):
                    await connection.execute("SELECT 1")

        assert connection.closed
        assert await value_of(killer, "SELECT count(*) FROM t") == 0


async def test_connection_closed_by_another_task_gives_the_waiting_one_an_error(
    postgres_url: str,
) -> None:
    async with connected(postgres_url) as connection, trio.open_nursery() as nursery:

        async def wait_for_it() -> None:
            with pytest.raises(psycopg.OperationalError, match="closed"):
                await connection.execute("SELECT pg_sleep(30)")

        nursery.start_soon(wait_for_it)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await connection.close()
