"""Errors of the server, as the callers of the pool see them."""

from __future__ import annotations

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo

from sercha.adapters.postgres.errors import translate_errors
from sercha.adapters.postgres.pool import ConnectionPool, PostgresTransaction, open_pool
from sercha.errors import Transient, Unavailable
from tests.support.connections import until
from tests.support.postgres import PostgresServer, free_port


def with_setting(url: str, setting: str) -> str:
    return make_conninfo(url, options=f"-c {setting}")


async def test_read_only_server_is_unavailable(postgres_url: str) -> None:
    async with open_pool(with_setting(postgres_url, "default_transaction_read_only=on")) as pool:
        with pytest.raises(Unavailable, match="read-only"):
            async with pool.connection() as connection:
                await connection.execute("CREATE TABLE t (n int)")


async def test_too_many_connections_is_unavailable(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    name = str(psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"])
    postgres_server.execute("CREATE ROLE one_only LOGIN CONNECTION LIMIT 1")
    url = postgres_url.replace("postgres@", "one_only@")
    try:
        async with open_pool(url) as pool, pool.connection():
            with pytest.raises(Unavailable, match="too many connections"):
                await use(pool)
    finally:
        await until(lambda: not backends_of(postgres_server, name, "one_only"))
        postgres_server.execute("DROP ROLE one_only")


async def test_log_in_that_is_refused_is_told_from_a_server_that_is_away(
    postgres_server: PostgresServer,
) -> None:
    """libpq gives words only; one of several addresses that refuses is enough, as with libpq itself."""
    wrong = make_conninfo(postgres_server.tcp_url, password="Hunter2")
    port = f"{free_port()},{postgres_server.port}"
    several = make_conninfo(wrong, host="127.0.0.1,127.0.0.1", port=port)
    away = make_conninfo(postgres_server.tcp_url, port=free_port())
    codes = {wrong: "database-refused", several: "database-refused", away: "database-unavailable"}

    for url, code in codes.items():
        async with open_pool(url) as pool:
            with pytest.raises(Unavailable) as caught:
                await use(pool)
        assert caught.value.error_code == code
        assert "Hunter2" not in caught.value.message


async def use(pool: ConnectionPool) -> None:
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")


def backends_of(server: PostgresServer, database: str, user: str) -> object:
    return server.execute(f"SELECT pid FROM pg_stat_activity WHERE usename = '{user}'", database)


async def test_deadlock_is_transient_for_its_victim(postgres_url: str) -> None:
    victims: list[Transient] = []

    async with open_pool(with_setting(postgres_url, "deadlock_timeout=20ms")) as pool:
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE t AS SELECT n FROM generate_series(1, 2) n")
        both = trio.Event()
        holders = 0

        async def lock(first: int, second: int) -> None:
            nonlocal holders
            try:
                async with pool.transaction() as tx:
                    query = "SELECT FROM t WHERE n = %s FOR UPDATE"
                    await tx.connection.execute(query, (first,))
                    holders += 1
                    if holders == 2:
                        both.set()
                    await both.wait()
                    await tx.connection.execute(query, (second,))
            except Transient as error:
                victims.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lock, 1, 2)
            nursery.start_soon(lock, 2, 1)

    assert [type(error) for error in victims] == [Transient]


async def test_serialization_failure_and_time_limits_are_transient(postgres_url: str) -> None:
    async with open_pool(postgres_url) as pool:
        for limit in ("statement_timeout", "transaction_timeout"):
            with pytest.raises(Transient) as caught:
                await exceed(pool, limit)
            assert not isinstance(caught.value, Unavailable)
    with pytest.raises(Transient), translate_errors():
        raise psycopg.errors.SerializationFailure("could not serialize")


async def exceed(pool: ConnectionPool, limit: str) -> None:
    async with pool.transaction() as tx:
        await tx.connection.execute(f"SET LOCAL {limit} = '20ms'")
        await tx.connection.execute("SELECT pg_sleep(5)")


async def test_broken_constraint_is_left_to_the_caller(postgres_url: str) -> None:
    async with open_pool(postgres_url) as pool:
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE t (n int PRIMARY KEY)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            async with pool.transaction() as tx:
                assert isinstance(tx, PostgresTransaction)
                await tx.connection.execute("INSERT INTO t VALUES (1), (1)")
        assert pool.statistics().opened_total == 1


async def test_value_that_can_never_be_stored_is_not_worth_a_retry(postgres_url: str) -> None:
    async with open_pool(postgres_url) as pool, pool.connection() as connection:
        await connection.execute("CREATE TABLE t (v text PRIMARY KEY)")
        with pytest.raises(psycopg.errors.ProgramLimitExceeded), translate_errors():
            await connection.execute(
                "INSERT INTO t SELECT string_agg(md5(i::text), '') FROM generate_series(1, 1000) i"
            )
