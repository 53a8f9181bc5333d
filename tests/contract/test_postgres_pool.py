"""The pool of connections: bounded, fair, and never lending a connection that is not ready."""

from __future__ import annotations

import os
from functools import partial
from random import Random

import psycopg
import pytest
import trio
import trio.testing
from psycopg import pq
from psycopg.conninfo import make_conninfo

from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from sercha.errors import SettingsError, Unavailable
from tests.support.connections import connected, lose_at_commit, until, value_of
from tests.support.postgres import PostgresServer

IDLE = pq.TransactionStatus.IDLE


async def count_in_server(pool: ConnectionPool, url: str, name: str = "sercha%") -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE %s"
    async with connected(url) as watcher:
        return int(str(await value_of(watcher, query, name)))


async def pid_in_use(pool: ConnectionPool) -> int:
    async with pool.connection() as connection:
        return connection.info.backend_pid


def with_setting(url: str, setting: str) -> str:
    return make_conninfo(url, options=f"-c {setting}")


async def terminate(url: str, pid: int) -> None:
    async with connected(url) as killer:
        assert await value_of(killer, "SELECT pg_terminate_backend(%s, 5000)", pid)


# --- Lending ---------------------------------------------------------------------------------------------


async def test_connections_are_lent_one_after_the_other_and_used_again(postgres_url: str) -> None:
    async with open_pool(postgres_url) as pool:
        pids = {await pid_in_use(pool) for _ in range(5)}

        assert len(pids) == 1
        found = pool.statistics()
        assert (found.open, found.idle, found.in_use, found.opened_total) == (1, 1, 0, 1)
    assert pool.statistics().open == 0


async def test_never_more_than_max_open(postgres_url: str) -> None:
    async with open_pool(postgres_url, max_open=2, max_idle=1) as pool:

        async def use() -> None:
            async with pool.connection() as connection:
                await connection.execute("SELECT pg_sleep(0.01)")
                assert pool.statistics().open <= 2

        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(use)

        found = pool.statistics()
        assert (found.open, found.idle, found.waiting) == (1, 1, 0)
        assert found.waits_total > 0


async def test_first_come_first_served_over_the_same_connection(postgres_url: str) -> None:
    """None may be kept idle, yet one that somebody waits for is passed on and not closed."""
    order: list[int] = []

    async with open_pool(postgres_url, max_open=1, max_idle=0) as pool:

        async def use(number: int) -> None:
            async with pool.connection() as connection:
                order.append(number)
                await connection.execute("SELECT 1")

        async with trio.open_nursery() as nursery, pool.connection():
            for number in range(12):
                nursery.start_soon(use, number)
                while pool.statistics().waiting <= number:
                    await trio.lowlevel.checkpoint()

        assert order == list(range(12))
        found = pool.statistics()
        assert (found.opened_total, found.open) == (1, 0)


async def test_exhausted_pool_is_a_clear_error_after_the_time_limit(postgres_url: str) -> None:
    async with open_pool(postgres_url, max_open=1, checkout_timeout=0.05) as pool:
        async with pool.connection():
            with pytest.raises(Unavailable, match="all 1 database connections") as caught:
                await pid_in_use(pool)

        assert caught.value.error_code == "pool-exhausted"
        assert await pid_in_use(pool)


async def test_sessions_have_our_name_and_speak_utc_and_utf8(
    postgres_url: str,
) -> None:
    url = with_setting(postgres_url, "work_mem=5MB")
    async with open_pool(url, application_name="sercha-test") as pool, pool.connection() as one:
        for setting, expected in [
            ("TimeZone", "UTC"),
            ("client_encoding", "UTF8"),
            ("application_name", "sercha-test"),
            ("work_mem", "5MB"),
        ]:
            assert await value_of(one, "SELECT current_setting(%s)", setting) == expected


async def test_dedicated_connections_count_and_have_a_name_of_their_own(postgres_url: str) -> None:
    async with open_pool(postgres_url, max_open=2, checkout_timeout=0.05) as pool:
        async with pool.connection(), pool.connection():
            pass
        assert pool.statistics().idle == 2
        async with pool.dedicated("tail") as tail:
            assert (
                await value_of(tail, "SELECT current_setting('application_name')") == "sercha:tail"
            )
            found = pool.statistics()
            assert (found.open, found.dedicated, found.idle) == (2, 1, 1)
            async with pool.connection():
                with pytest.raises(Unavailable):
                    await pid_in_use(pool)
        assert pool.statistics().dedicated == 0
        assert tail.closed


async def test_old_connections_are_replaced(postgres_url: str) -> None:
    async with open_pool(postgres_url, lifetime=0.05) as pool:
        first = await pid_in_use(pool)
        await trio.sleep(0.06)

        assert await pid_in_use(pool) != first
        assert pool.statistics().open == 1


async def test_closed_pool_lends_nothing_and_takes_nothing_back(postgres_url: str) -> None:
    async with open_pool(postgres_url) as pool, pool.connection() as connection:
        pool.close()
    assert connection.closed
    with pytest.raises(Unavailable, match="closed"):
        await pid_in_use(pool)


@pytest.mark.parametrize("left", ["BEGIN", "error", "pipeline", "copy", "closed"])
async def test_connection_left_in_a_mess_is_not_lent_again(postgres_url: str, left: str) -> None:
    async with open_pool(postgres_url, max_open=1) as pool:
        async with pool.connection() as connection:
            pid = connection.info.backend_pid
            if left == "BEGIN":
                await connection.execute("BEGIN")
            elif left == "error":
                await connection.execute("BEGIN")
                with pytest.raises(psycopg.errors.DivisionByZero):
                    await connection.execute("SELECT 1/0")
            elif left == "pipeline":
                connection.pgconn.enter_pipeline_mode()
            elif left == "copy":
                connection.pgconn.send_query(b"COPY (SELECT 1) TO STDOUT")
            else:
                await connection.close()

        assert await pid_in_use(pool) != pid
        assert pool.statistics().open == 1


# --- Cancellation ----------------------------------------------------------------------------------------


async def test_cancelled_use_at_random_moments_leaks_nothing(postgres_url: str, seed: int) -> None:
    """300 tasks on three permits; each is cancelled while it waits, connects, works or leaves."""
    random = Random(seed)
    async with open_pool(postgres_url, max_open=3, max_idle=2) as pool:
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE pairs (key int)")

        async def work(key: int, patience: float) -> None:
            with trio.move_on_after(patience):
                kind = key % 3
                if kind == 0:
                    async with pool.dedicated("work") as connection:
                        await connection.execute("SELECT pg_sleep(0.002)")
                elif kind == 1:
                    async with pool.connection() as connection, connection.pipeline():
                        await connection.execute("SELECT 1")
                else:
                    async with pool.transaction() as tx:
                        assert (
                            tx.connection.pgconn.transaction_status == pq.TransactionStatus.INTRANS
                        )
                        await tx.connection.execute("INSERT INTO pairs VALUES (%s)", (key,))
                        await tx.connection.execute("INSERT INTO pairs VALUES (%s)", (key,))

        async with trio.open_nursery() as nursery:
            for key in range(300):
                nursery.start_soon(work, key, random.uniform(0, 0.05))
                await trio.sleep(random.uniform(0, 0.006))

        found = pool.statistics()
        assert (found.in_use, found.dedicated, found.waiting) == (0, 0, 0)
        assert found.open == found.idle == found.opened_total - found.closed_total <= 2
        async with pool.connection() as one, pool.connection(), pool.connection():
            halves = "SELECT count(*) FROM (SELECT FROM pairs GROUP BY key HAVING count(*) <> 2) x"
            assert await value_of(one, halves) == 0
            assert await value_of(one, "SELECT count(*) FROM pairs") > 0  # type: ignore[operator]
    await until(partial(is_empty, pool, postgres_url))


async def is_empty(pool: ConnectionPool, url: str) -> bool:
    return await count_in_server(pool, url) == 0


async def test_transaction_commits_or_rolls_back(postgres_url: str) -> None:
    async with open_pool(postgres_url, max_open=1) as pool:
        async with pool.transaction() as tx:
            await tx.connection.execute("CREATE TABLE t (n int)")
            assert tx.is_open
        assert not tx.is_open
        with pytest.raises(LookupError):
            await fail_inside(pool)
        with trio.CancelScope() as scope:
            async with pool.transaction() as tx:
                await tx.connection.execute("INSERT INTO t VALUES (2)")
                scope.cancel()

        async with pool.connection() as connection:
            assert await value_of(connection, "SELECT count(*) FROM t") == 0
        assert pool.statistics().opened_total == 1


async def fail_inside(pool: ConnectionPool) -> None:
    async with pool.transaction() as tx:
        await tx.connection.execute("INSERT INTO t VALUES (1)")
        raise LookupError


# --- A server that goes away -----------------------------------------------------------------------------


async def test_connection_that_died_while_idle_is_replaced_unseen(postgres_url: str) -> None:
    async with open_pool(postgres_url) as pool:
        pid = await pid_in_use(pool)
        await terminate(postgres_url, pid)

        assert await pid_in_use(pool) != pid
        assert pool.statistics().open == 1


async def test_connection_killed_in_use_is_unavailable_and_the_next_is_sound(
    postgres_url: str,
) -> None:
    async with open_pool(postgres_url, max_open=1) as pool:
        for _ in range(2):
            with pytest.raises(Unavailable, match="terminating connection") as caught:
                await sleep_until_killed(pool)
            assert caught.value.error_code == "database-unavailable"
            assert caught.value.retry_after
        assert await pid_in_use(pool)


async def sleep_until_killed(pool: ConnectionPool) -> None:
    async with pool.transaction() as tx:
        await tx.connection.execute("SELECT pg_terminate_backend(pg_backend_pid()), pg_sleep(10)")


async def test_lost_while_committing_is_told_as_unknown(postgres_url: str) -> None:
    async with open_pool(postgres_url) as pool:
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE t (n int)")
            await lose_at_commit(connection)
        with pytest.raises(Unavailable) as caught:
            await insert(pool)
        assert caught.value.error_code == "commit-unknown"


async def insert(pool: ConnectionPool) -> None:
    async with pool.transaction() as tx:
        await tx.connection.execute("INSERT INTO t VALUES (1)")


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_pool_heals_itself_after_a_restart(
    postgres_server: PostgresServer, postgres_url: str, mode: str
) -> None:
    async with open_pool(postgres_url) as pool:
        async with pool.connection(), pool.connection(), pool.connection():
            pass
        assert pool.statistics().idle == 3
        await trio.to_thread.run_sync(postgres_server.restart, mode)

        for _ in range(3):
            assert await pid_in_use(pool)
        assert pool.statistics().open == 1


async def test_server_away_is_unavailable_until_it_is_back(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    async with open_pool(postgres_url, max_open=2) as pool:
        assert await pid_in_use(pool)
        await trio.to_thread.run_sync(postgres_server.stop, "immediate")
        for _ in range(5):
            with pytest.raises(Unavailable, match="PostgreSQL is not available"):
                await pid_in_use(pool)
        found = pool.statistics()
        assert (found.open, found.in_use) == (0, 0)
        await trio.to_thread.run_sync(postgres_server.start)

        assert await pid_in_use(pool)


async def test_refused_address_is_named_without_the_password() -> None:
    async with open_pool("postgresql://u:topsecret@127.0.0.1:1/x") as pool:
        with pytest.raises(Unavailable, match=r"127\.0\.0\.1.*port 1 .*refused") as caught:
            await pid_in_use(pool)
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize(
    "conninfo", ["postgresql://u:top%secret@h/x", "nonsense topsecret", "host=a nosuch=topsecret"]
)
async def test_unreadable_address_is_a_settings_error_without_the_password(conninfo: str) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL") as caught:
        async with open_pool(conninfo):
            pass
    assert "secret" not in str(caught.value)


async def test_limit_below_one_is_a_settings_error() -> None:
    with pytest.raises(SettingsError, match="DB_MAX_OPEN_CONNS"):
        async with open_pool("", max_open=0):
            pass


async def test_no_descriptor_is_left_behind(postgres_url: str) -> None:
    (await trio.to_thread.run_sync(psycopg.connect, postgres_url)).close()
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        async with open_pool(postgres_url) as pool, pool.dedicated("x"), pool.connection():
            pass
    assert len(os.listdir("/dev/fd")) == before
