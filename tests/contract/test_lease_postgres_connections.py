"""Leases in PostgreSQL: the connections behind them, and what is between them and the server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import uuid4

import pytest
import trio
import trio.testing
from psycopg.conninfo import conninfo_to_dict

from lockd import LeaseTaken, Renewal, StoreUnreachable, hold
from lockd.postgres import (
    TrioConnection,
    create_tables,
    open_postgres_store,
    open_postgres_store_on,
)
from lockd.redis import open_redis_store
from sercha.adapters.postgres.pool import open_pool
from tests.support.connections import connected, until, value_of
from tests.support.pgbouncer import address, pgbouncer, pgbouncer_program
from tests.support.postgres import PostgresServer
from tests.support.row_leases import OURS, open_lab, over_tcp, take, until_somebody_waits


async def test_requests_share_few_connections_and_sound_ones_are_kept(postgres_url: str) -> None:
    pids: set[object] = set()
    async with open_lab(postgres_url) as (store, hand):
        for _ in range(20):
            await store.seen("x")
            pids |= {await value_of(hand, f"SELECT string_agg(pid::text, ' ') {OURS}")}
        assert len(pids) == 1

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(store.seen, "x")
        await until(lambda: value_of(hand, f"SELECT count(*) <= 2 {OURS}"))

        await hand.execute(f"SELECT pg_terminate_backend(pid) {OURS}".encode())
        await until(lambda: value_of(hand, f"SELECT count(*) = 0 {OURS}"))
        await store.seen("x")  # found out before anything is sent
    async with connected(postgres_url) as hand:
        await until(lambda: value_of(hand, f"SELECT count(*) = 0 {OURS}"))


async def test_renewals_do_not_queue_behind_acquisitions_that_wait(postgres_url: str) -> None:
    async with open_lab(postgres_url) as (store, hand), connected(postgres_url) as watcher:
        kept, _ = await take(store, "kept")
        holder, token = await take(store)
        await store.release("x", holder)
        async with store.fenced(hand, "x", holder, token), trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(store.acquire, "x", uuid4(), 60, token)
            await until_somebody_waits(watcher, 4)
            with trio.fail_after(1):  # the four wait for two seconds
                assert await store.renew("kept", kept, 60) is Renewal.RENEWED
            assert int(str(await value_of(watcher, f"SELECT count(*) {OURS}"))) <= 5
            nursery.cancel_scope.cancel()


async def test_lent_connections_are_counted_in_their_pool(postgres_url: str) -> None:
    async with open_pool(postgres_url, max_open=2) as pool:
        async with pool.connection() as connection:
            await create_tables(connection)

        @asynccontextmanager
        async def listen() -> AsyncGenerator[TrioConnection]:
            async with pool.dedicated("leases") as connection:
                yield connection

        async with (
            open_postgres_store_on(pool.connection, listen=listen) as store,
            hold(store, "x", ttl=5) as lease,
            store.notices("x"),
        ):
            assert pool.statistics().dedicated == 1
            assert pool.statistics().open == 2
            with pytest.raises(LeaseTaken):
                async with hold(store, "x", ttl=5, on_busy="raise"):
                    raise AssertionError("taken twice")
            async with pool.transaction() as tx, lease.fenced(tx.connection):
                pass
        assert pool.statistics().dedicated == 0


async def test_store_that_has_been_left_answers_nothing(postgres_url: str) -> None:
    async with open_lab(postgres_url) as (store, _):
        pass
    with pytest.raises(trio.ClosedResourceError):
        await store.seen("x")


async def test_errors_of_the_block_are_in_no_group(postgres_url: str) -> None:
    with pytest.raises(KeyError):
        async with open_lab(postgres_url) as (store, _), store.notices("x"):
            raise KeyError


async def test_errors_are_one_line_without_the_password(
    postgres_server: PostgresServer, empty_postgres_url: str
) -> None:
    with pytest.raises(ValueError, match=r"^not a PostgreSQL connection string$") as caught:
        async with open_postgres_store("postgresql://u:s3cret@[host/x"):
            raise AssertionError("it opened")
    assert caught.value.__cause__ is None
    wrong = over_tcp(postgres_server, empty_postgres_url, password="s3cret")
    nobody = "host=127.0.0.1 port=1 user=u password=s3cret"
    for url in (wrong, nobody, empty_postgres_url):  # the last one lacks the tables
        async with open_postgres_store(url) as store:
            with pytest.raises(StoreUnreachable, match=r"^PostgreSQL: [^\n]+$") as failed:
                await store.seen("x")
        assert "s3cret" not in str(failed.value)


async def test_lent_connection_is_closed_after_an_error(empty_postgres_url: str) -> None:
    """The server behind it may not be the right one any more."""
    async with connected(empty_postgres_url) as connection:

        @asynccontextmanager
        async def lend() -> AsyncGenerator[TrioConnection]:
            yield connection

        async with open_postgres_store_on(lend) as store:
            with pytest.raises(StoreUnreachable):
                await store.seen("x")  # there are no tables
            assert connection.closed


async def test_row_leases_work_through_pgbouncer_in_transaction_mode(
    postgres_server: PostgresServer, postgres_url: str, require: Callable[[str, object, str], None]
) -> None:
    """Fault 34: sixteen connections on two of the server's; LISTEN is not tried, waiters poll."""
    require("pgbouncer", pgbouncer_program(), "PgBouncer is not installed")
    database = str(conninfo_to_dict(postgres_url)["dbname"])
    async with connected(postgres_url) as hand:
        await create_tables(hand)
        tokens: list[int] = []

        async def contend(url: str) -> None:
            async with (
                open_postgres_store(url) as store,
                hold(store, "x", ttl=1) as lease,
                connected(url, prepare_threshold=None) as connection,
                lease.fenced(connection),
            ):
                assert await value_of(connection, "SHOW statement_timeout") == "5s"
                tokens.append(lease.token)
                assert await store.renew("x", lease.holder, 1) is Renewal.RENEWED

        with pgbouncer(postgres_server, pool_size=2) as port, trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(contend, address(port, database))
            through = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            assert int(str(await value_of(hand, through))) <= 3
            async with connected(address(port, database), prepare_threshold=None) as connection:
                assert await value_of(connection, "SHOW statement_timeout") == "0"
                assert (
                    await value_of(connection, "SELECT count(*) FROM pg_listening_channels()") == 0
                )

        assert len(tokens) == 8
        assert tokens == sorted(set(tokens))


@pytest.mark.parametrize("opening", [open_postgres_store, open_redis_store])
async def test_an_error_of_the_block_leaves_it_also_beside_a_cancellation(
    request: pytest.FixtureRequest, opening: Callable[[str], AbstractAsyncContextManager[object]]
) -> None:
    name = "redis_url" if opening is open_redis_store else "postgres_url"
    with pytest.raises(ZeroDivisionError), trio.CancelScope() as scope:
        async with opening(request.getfixturevalue(name)):
            scope.cancel()
            raise ZeroDivisionError
