"""Several hosts in one address: the first that can be used is used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest
import trio

from lockd._hosts import connect_timeout, plan
from sercha.adapters.postgres.pool import open_pool
from sercha.errors import Unavailable
from tests.support.connections import connected
from tests.support.postgres import PostgresServer, free_port

Factory = Callable[..., PostgresServer]


def address(*ports: int, **params: object) -> str:
    hosts = ",".join("127.0.0.1" for _ in ports)
    more = " ".join(f"{name}={value}" for name, value in params.items())
    return (
        f"host={hosts} port={','.join(map(str, ports))} user=postgres dbname=postgres"
        f" sslmode=disable {more}"
    )


def first_that_writes(*servers: PostgresServer) -> str:
    return address(
        *(server.port for server in servers),
        password=servers[0].password,
        target_session_attrs="read-write",
    )


async def test_dead_hosts_are_passed_over(postgres_server: PostgresServer) -> None:
    password, port = postgres_server.password, postgres_server.port
    async with connected(address(free_port(), port, password=password)) as connection:
        assert connection.info.port == port
    names = f"host=nowhere.invalid,localhost port={port} user=postgres dbname=postgres"
    async with connected(names, password=password) as connection:
        assert connection.info.host == "localhost"


async def test_all_hosts_dead_tells_the_reason_for_each(postgres_server: PostgresServer) -> None:
    first, second = free_port(), free_port()
    with pytest.raises(psycopg.OperationalError) as caught:
        async with connected(address(first, second, password="topsecret")):
            pass
    text = str(caught.value)
    assert "none of 2 addresses" in text
    assert str(first) in text
    assert str(second) in text
    assert "topsecret" not in text


async def test_silent_host_costs_its_time_limit_only(postgres_server: PostgresServer) -> None:
    silent = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = silent[0].socket.getsockname()[1]
    began = trio.current_time()
    async with connected(
        address(port, postgres_server.port, password=postgres_server.password, connect_timeout=2)
    ) as connection:
        assert connection.info.port == postgres_server.port
    assert trio.current_time() - began < 5
    await silent[0].aclose()


async def test_only_a_server_that_can_be_written_to_is_used(
    postgres_server: PostgresServer, postgres_factory: Factory
) -> None:
    """As after a failover: the first host only reads; when it can write again, it is used again."""
    reader = postgres_factory(default_transaction_read_only=True)
    ports = (reader.port, postgres_server.port)
    assert reader.password == postgres_server.password
    both = address(*ports, password=postgres_server.password, target_session_attrs="read-write")

    async with connected(both) as connection:
        assert connection.info.port == postgres_server.port
    async with connected(address(*ports, password=reader.password)) as connection:
        assert connection.info.port == reader.port
    prefers = address(
        *reversed(ports), password=reader.password, target_session_attrs="prefer-standby"
    )
    async with connected(prefers) as connection:
        assert connection.info.port == postgres_server.port  # no standby at all: the first
    only = address(reader.port, password=reader.password, target_session_attrs="read-write")
    with pytest.raises(Unavailable, match="read-only"):
        await use(only)


async def test_the_pool_follows_a_failover(
    postgres_server: PostgresServer, postgres_factory: Factory
) -> None:
    second = postgres_factory()
    async with open_pool(first_that_writes(second, postgres_server)) as pool:
        async with pool.connection() as connection:
            assert connection.info.port == second.port
        await trio.to_thread.run_sync(second.stop, "immediate")
        async with pool.connection() as connection:
            assert connection.info.port == postgres_server.port


async def use(conninfo: str) -> None:
    async with open_pool(conninfo) as pool, pool.connection() as connection:
        await connection.execute("SELECT 1")


async def test_the_pool_leaves_a_primary_that_was_put_aside_and_still_runs(
    postgres_server: PostgresServer, postgres_factory: Factory
) -> None:
    first = postgres_factory()
    async with open_pool(first_that_writes(first, postgres_server)) as pool:
        async with pool.connection() as one, pool.connection() as other:
            assert {one.info.port, other.info.port} == {first.port}
        for statement in (
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "SELECT pg_reload_conf()",
        ):
            await trio.to_thread.run_sync(first.execute, statement)
        port = first.port
        with trio.fail_after(10):
            while port == first.port:
                with suppress(Unavailable):
                    async with pool.connection() as connection:
                        port = connection.info.port
                        await connection.execute("CREATE TEMP TABLE thing ()")
                        await connection.execute("DROP TABLE thing")
        assert port == postgres_server.port
        assert pool.statistics().open == 1


def test_attempts_are_planned_as_libpq_would() -> None:
    params = {"host": "a,b", "port": "1,2", "target_session_attrs": "prefer-standby"}

    planned = plan(params)

    assert [(each["host"], each["port"]) for each in planned] == [("a", "1"), ("b", "2")] * 2
    assert [each["target_session_attrs"] for each in planned] == ["standby"] * 2 + ["any"] * 2
    shuffled = {
        tuple(each["host"] for each in plan({"host": "a,b,c", "load_balance_hosts": "random"}))
        for _ in range(200)
    }
    assert len(shuffled) == 6


def test_connect_timeout_is_at_least_two_seconds() -> None:
    assert connect_timeout({}) == 10
    assert connect_timeout({"connect_timeout": "1"}) == 2
    assert connect_timeout({"connect_timeout": "0"}) == 10
    assert connect_timeout({"connect_timeout": "7"}) == 7
