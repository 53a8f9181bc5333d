"""`lockd.postgres.TrioConnection` against a real server: psycopg under Trio, with each known trap."""

from __future__ import annotations

import inspect
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import psycopg
import pytest
import trio
import trio.testing
from psycopg import AsyncConnection, AsyncTransaction, errors, generators, pq

from lockd import _connection, _transaction
from lockd.postgres import TrioConnection
from tests.support.postgres import PostgresServer

IDLE = pq.TransactionStatus.IDLE
INTRANS = pq.TransactionStatus.INTRANS
INERROR = pq.TransactionStatus.INERROR


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
        big = "x" * 200_000
        async with connection.pipeline():
            results = [await connection.execute("SELECT %s::text", (big,)) for _ in range(60)]
        assert [await result.fetchone() for result in results] == [(big,)] * 60
        await cursor.executemany("SELECT %s::text", [(big,)] * 60, returning=True)


async def test_notifies_come_in_and_time_out(postgres_url: str) -> None:
    async with connected(postgres_url) as connection, connected(postgres_url) as sender:
        await connection.execute("LISTEN bell")
        await sender.execute("NOTIFY bell, 'one'")
        await sender.execute("NOTIFY bell, 'two'")

        assert [n.payload async for n in connection.notifies(stop_after=2)] == ["one", "two"]
        assert [n async for n in connection.notifies(timeout=0.01)] == []
        assert [n async for n in connection.notifies(timeout=0)] == []


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
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await trio.lowlevel.checkpoint()
            longest = max(longest, time.perf_counter() - before)

    async with connected(postgres_url) as connection, connection.cursor() as cursor:
        await connection.execute("CREATE TEMP TABLE numbers (n int)")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            async with cursor.copy("COPY numbers FROM STDIN") as copy:
                for n in range(100_000):
                    await copy.write_row((n,))
            nursery.cancel_scope.cancel()

    assert longest < 0.15


# --- Connecting ------------------------------------------------------------------------------------------


async def test_refused_connection_is_a_clear_error() -> None:
    with pytest.raises(psycopg.OperationalError, match=r"127\.0\.0\.1.*port 1 .*refused"):
        await TrioConnection.connect("host=127.0.0.1 port=1 dbname=x user=y password=secret")


async def test_unknown_host_name_is_a_clear_error() -> None:
    with pytest.raises(psycopg.OperationalError, match="'nowhere.invalid' cannot be resolved"):
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
            raise NotImplementedError

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


# --- Cancellation ----------------------------------------------------------------------------------------


async def test_cancelled_query_stops_in_the_server_and_the_connection_goes_on(
    postgres_url: str,
) -> None:
    async with connected(postgres_url) as connection, connected(postgres_url) as watcher:
        pid = connection.info.backend_pid
        began = trio.current_time()
        with trio.move_on_after(0.1) as scope:
            await connection.execute("SELECT pg_sleep(30)")

        assert scope.cancelled_caught
        assert trio.current_time() - began < 3
        assert connection.pgconn.transaction_status == IDLE
        assert not await is_waiting_in_server(watcher, pid)
        assert await value_of(connection, "SELECT 7") == 7


async def test_cancelled_before_it_was_sent_a_query_has_no_effect(postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        await connection.execute("CREATE TABLE t (n int)")
        with trio.CancelScope() as scope:
            scope.cancel()
            await connection.execute("INSERT INTO t VALUES (1)")

        assert await value_of(connection, "SELECT count(*) FROM t") == 0


async def test_rollback_in_a_cancelled_scope_reaches_the_server(postgres_url: str) -> None:
    async with connected(postgres_url) as connection, connected(postgres_url) as second:
        await connection.execute("CREATE TABLE t (n int PRIMARY KEY)")
        with trio.CancelScope() as scope:
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                scope.cancel()
                await trio.lowlevel.checkpoint()

        assert connection.pgconn.transaction_status == IDLE
        await second.execute("SET lock_timeout = '1s'")
        await second.execute("INSERT INTO t VALUES (1)")  # would wait for an open transaction
        assert await value_of(second, "SELECT count(*) FROM t") == 1


async def test_scope_cancelled_before_the_end_of_the_block_does_not_commit(
    postgres_url: str,
) -> None:
    async with connected(postgres_url) as connection:
        await connection.execute("CREATE TABLE t (n int)")
        with trio.CancelScope() as scope:
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                scope.cancel()

        assert scope.cancelled_caught
        assert await value_of(connection, "SELECT count(*) FROM t") == 0


async def test_commit_that_was_sent_is_waited_for(postgres_url: str) -> None:
    """A deferred trigger sleeps in COMMIT; the cancellation comes meanwhile and does not win."""
    async with connected(postgres_url) as connection:
        await create_slow_commit(connection, 0.5)
        with trio.CancelScope() as scope:
            scope.deadline = trio.current_time() + 0.2
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
            committed = True

        assert committed
        assert not scope.cancelled_caught
        assert await value_of(connection, "SELECT count(*) FROM t") == 1


async def test_commit_that_is_not_answered_closes_the_connection(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transaction, "LEAVE_SECONDS", 0.2)
    async with connected(postgres_url) as connection:
        await create_slow_commit(connection, 20)
        began = trio.current_time()
        with trio.move_on_after(0.1) as scope:
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")

        assert scope.cancelled_caught
        assert connection.closed
        assert trio.current_time() - began < 3


async def create_slow_commit(connection: TrioConnection, seconds: float) -> None:
    await connection.execute("CREATE TABLE t (n int)")
    await connection.execute(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$"
    )
    await connection.execute(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION slow()"
    )


async def test_swallowed_server_error_cannot_end_in_a_silent_rollback(postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        await connection.execute("CREATE TABLE t (n int)")
        with pytest.raises(errors.InFailedSqlTransaction):
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                with pytest.raises(errors.DivisionByZero):
                    await connection.execute("SELECT 1 / 0")

        assert connection.pgconn.transaction_status == IDLE
        assert await value_of(connection, "SELECT count(*) FROM t") == 0


async def test_savepoint_is_rolled_back_alone(postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        await connection.execute("CREATE TABLE t (n int)")
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1)")
            with trio.move_on_after(0.05):
                async with connection.transaction():
                    await connection.execute("INSERT INTO t VALUES (2)")
                    await connection.execute("SELECT pg_sleep(30)")
            assert connection.pgconn.transaction_status == INTRANS
            with pytest.raises(errors.DivisionByZero):
                async with connection.transaction():
                    await connection.execute("SELECT 1 / 0")
            async with connection.transaction(force_rollback=True):
                await connection.execute("INSERT INTO t VALUES (3)")
            async with connection.transaction() as inner:
                await connection.execute("INSERT INTO t VALUES (4)")
                raise psycopg.Rollback(inner)

        cursor = await connection.execute("SELECT n FROM t")
        assert await cursor.fetchall() == [(1,)]


async def test_cancelled_pipeline_closes_the_connection(postgres_url: str) -> None:
    async with connected(postgres_url) as connection, connected(postgres_url) as second:
        await connection.execute("CREATE TABLE t (n int)")
        pid = connection.info.backend_pid
        with trio.move_on_after(0.1) as scope:
            async with connection.pipeline():
                await connection.execute("INSERT INTO t VALUES (1)")
                await connection.execute("SELECT pg_sleep(30)")
                await connection.execute("INSERT INTO t VALUES (2)")

        assert scope.cancelled_caught
        assert connection.closed
        await until(lambda: is_gone(second, pid))
        assert await value_of(second, "SELECT count(*) FROM t") == 0


async def is_gone(watcher: TrioConnection, pid: int) -> bool:
    query = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    return await value_of(watcher, query, pid) == 0


async def test_body_of_a_pipeline_cancelled_before_anything_was_sent(postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        with trio.CancelScope() as scope:
            async with connection.pipeline():
                scope.cancel()
                await trio.lowlevel.checkpoint()
        assert connection.closed
    async with connected(postgres_url) as connection:
        with trio.CancelScope() as scope:
            async with connection.pipeline():
                await connection.execute("SELECT 1")
                scope.cancel()
        assert connection.closed


@pytest.mark.parametrize("direction", ["in", "out"])
@pytest.mark.parametrize("where", ["body", "call"])
async def test_cancelled_copy_closes_the_connection_and_leaves_nothing(
    postgres_url: str, direction: str, where: str
) -> None:
    async with connected(postgres_url) as connection, connected(postgres_url) as second:
        await connection.execute("CREATE TABLE t (n int)")
        pid = connection.info.backend_pid
        statement = {
            "in": "COPY t FROM STDIN",
            "out": "COPY (SELECT generate_series(1, 100000000)) TO STDOUT",
        }[direction]
        with trio.move_on_after(0.1) as scope:
            async with connection.cursor() as cursor, cursor.copy(statement) as copy:
                while True:
                    if direction == "in":
                        await copy.write(b"1\n" * 10_000)
                    else:
                        await copy.read()
                    if where == "body":
                        await trio.sleep_forever()

        assert scope.cancelled_caught
        assert connection.closed
        await until(lambda: is_gone(second, pid))
        assert await value_of(second, "SELECT count(*) FROM t") == 0


async def test_copy_that_fails_in_the_body_keeps_the_connection(postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        await connection.execute("CREATE TABLE t (n int)")
        for statement in ("COPY t FROM STDIN", "COPY (SELECT generate_series(1, 1000000)) TO STDOUT"):
            with pytest.raises(LookupError):
                async with connection.cursor() as cursor, cursor.copy(statement) as copy:
                    await (copy.read() if "OUT" in statement else copy.write(b"1\n"))
                    raise LookupError

            assert connection.pgconn.transaction_status == IDLE
            assert await value_of(connection, "SELECT count(*) FROM t") == 0


async def test_cancelled_stream_goes_back_to_idle(postgres_url: str) -> None:
    async with connected(postgres_url) as connection:
        with trio.move_on_after(0.05) as scope:
            async with connection.cursor() as cursor:
                async for _ in cursor.stream("SELECT generate_series(1, 100000000)"):
                    pass

        assert scope.cancelled_caught
        assert connection.pgconn.transaction_status == IDLE
        assert await value_of(connection, "SELECT 7") == 7


async def test_query_that_does_not_end_when_cancelled_costs_the_connection(
    postgres_server: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped backend answers nothing, so the connection is closed after the limit."""
    import signal

    monkeypatch.setattr(_connection, "CANCEL_SECONDS", 0.3)
    async with connected(postgres_url) as connection:
        pid = connection.info.backend_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            began = trio.current_time()
            with trio.move_on_after(0.1) as scope:
                await connection.execute("SELECT 1")
            assert scope.cancelled_caught
            assert connection.closed
            assert trio.current_time() - began < 3
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_rollback_that_is_not_answered_costs_the_connection(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    monkeypatch.setattr(_transaction, "LEAVE_SECONDS", 0.3)
    async with connected(postgres_url) as connection:
        pid = connection.info.backend_pid
        try:
            with trio.CancelScope() as scope:
                async with connection.transaction():
                    os.kill(pid, signal.SIGSTOP)
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
            assert scope.cancelled_caught
            assert connection.closed
        finally:
            os.kill(pid, signal.SIGCONT)


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
        with pytest.raises(psycopg.OperationalError):
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
