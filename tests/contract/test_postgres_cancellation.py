"""What a cancellation leaves behind: the connection closed or ready, and never half of a transaction."""

from __future__ import annotations

import os
import signal

import psycopg
import pytest
import trio
from psycopg import errors, pq

from lockd import _connection, _transaction
from lockd.postgres import TrioConnection
from tests.support.connections import connected, is_gone, is_waiting_in_server, until, value_of
from tests.support.postgres import PostgresServer

IDLE = pq.TransactionStatus.IDLE
INTRANS = pq.TransactionStatus.INTRANS


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


async def test_cancelled_pipeline_closes_the_connection(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
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
        assert not [each for each in caplog.records if each.levelname == "WARNING"]
        await until(lambda: is_gone(second, pid))
        assert await value_of(second, "SELECT count(*) FROM t") == 0


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
        for statement in (
            "COPY t FROM STDIN",
            "COPY (SELECT generate_series(1, 1000000)) TO STDOUT",
        ):
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
