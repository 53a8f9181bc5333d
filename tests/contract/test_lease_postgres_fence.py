"""The fence in PostgreSQL: what it refuses, what it waits for, and what outlives a failover."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import psycopg
import pytest
import trio
from psycopg.conninfo import make_conninfo
from psycopg.errors import IdleInTransactionSessionTimeout, UniqueViolation

from lockd import (
    Busy,
    FenceRefused,
    FenceRow,
    LeaseLost,
    LossReason,
    Renewal,
    StoreUnreachable,
    hold,
)
from lockd import _postgres_fence as fence_module
from lockd.postgres import (
    TrioConnection,
    create_tables,
    open_postgres_fence,
    open_postgres_store,
    open_postgres_store_on,
)
from sercha.testing import open_proxy
from tests.support.connections import connected, value_of
from tests.support.postgres import PostgresServer, Room
from tests.support.row_leases import HOSTILE, open_lab, over_tcp, row_of, take, until_somebody_waits
from tests.support.standby import REPLICATING_HBA, cut, make_standby, promote, wait_replayed

LIMITS = """
SELECT concat_ws(' ', current_setting('statement_timeout'), current_setting('lock_timeout'),
                 current_setting('idle_in_transaction_session_timeout'))
"""
EFFECTS = "SELECT count(*) FROM effect"


async def make_effects(connection: TrioConnection) -> None:
    await connection.execute("CREATE TABLE effect (token bigint PRIMARY KEY)")


async def act(connection: TrioConnection, token: int) -> None:
    await connection.execute("INSERT INTO effect VALUES (%s)", (token,))


# --- What passes ---


async def test_the_fence_passes_exactly_its_holder_and_token(postgres_url: str) -> None:
    """Mutant M17 compares with `>=`."""
    async with open_lab(postgres_url, *HOSTILE) as (store, hand):
        await make_effects(hand)
        holder, token = await take(store)
        refused: list[tuple[str, UUID, int]] = [
            ("x", holder, token + 1),
            ("x", holder, token - 1),
            ("x", uuid4(), token),
            ("y", holder, token),
        ]
        for name, who, number in refused:
            with pytest.raises(FenceRefused):
                async with store.fenced(hand, name, who, number):
                    raise AssertionError("it passed")
        async with store.fenced(hand, "x", holder, token):
            await act(hand, token)
        assert await value_of(hand, EFFECTS) == 1

        await hand.execute("UPDATE lease_fence SET timeline = 'another'")
        with pytest.raises(FenceRefused):
            async with store.fenced(hand, "x", holder, token):
                raise AssertionError("it passed")
        assert await store.renew("x", holder, 30) is Renewal.GONE


async def test_stale_lease_is_lost_at_the_fence(postgres_url: str) -> None:
    async with open_lab(postgres_url) as (store, hand):
        with pytest.raises(LeaseLost) as caught:
            async with hold(store, "x", ttl=30) as lease:
                await store.evict("x")
                async with lease.fenced(hand):
                    raise AssertionError("it passed")

        assert caught.value.reason is LossReason.FENCED


async def test_limits_hold_in_the_fenced_transaction_only(postgres_url: str) -> None:
    async with open_lab(postgres_url) as (store, hand):
        holder, token = await take(store)
        before = await value_of(hand, LIMITS)
        async with store.fenced(hand, "x", holder, token):
            assert await value_of(hand, LIMITS) == "5s 2s 2s"
        assert await value_of(hand, LIMITS) == before

        async with hand.pipeline(), store.fenced(hand, "x", holder, token):
            assert await value_of(hand, LIMITS) == "5s 2s 2s"


async def test_as_a_savepoint_the_fence_holds_until_the_outer_transaction_ends(
    postgres_url: str,
) -> None:
    async with open_lab(postgres_url) as (store, hand):
        holder, token = await take(store)
        async with hand.transaction():
            async with store.fenced(hand, "x", holder, token):
                pass
            await store.release("x", holder)
            seen = await store.seen("x")
            assert isinstance(await store.acquire("x", uuid4(), 1, seen.token), Busy)
        await take(store)


async def test_errors_inside_of_the_block_leave_as_they_are(postgres_url: str) -> None:
    async with open_lab(postgres_url) as (store, hand):
        await make_effects(hand)
        holder, token = await take(store)
        await act(hand, token)
        with pytest.raises(UniqueViolation):
            async with store.fenced(hand, "x", holder, token):
                await act(hand, token)
        with pytest.raises(KeyError):
            async with store.fenced(hand, "x", holder, token):
                await act(hand, token + 1)
                raise KeyError
        assert await value_of(hand, EFFECTS) == 1

        with pytest.raises(psycopg.OperationalError):
            async with store.fenced(hand, "x", holder, token):
                await hand.close()
        with pytest.raises(StoreUnreachable, match=r"^PostgreSQL: the connection is closed$"):
            async with store.fenced(hand, "x", holder, token):
                raise AssertionError("it opened")


async def test_lost_answer_to_commit_is_an_error_of_psycopg_and_found_out_by_reading(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    async with (
        open_lab(postgres_url) as (store, hand),
        open_proxy(postgres_server.host, postgres_server.port) as proxy,
        connected(over_tcp(postgres_server, postgres_url, port=proxy.port)) as connection,
    ):
        await make_effects(hand)
        holder, token = await take(store)
        with pytest.raises(psycopg.OperationalError):
            async with store.fenced(connection, "x", holder, token):
                await act(connection, token)
                proxy.lose_next_reply()
        assert await value_of(hand, EFFECTS) == 1


# --- Who waits for whom ---


async def test_takeover_waits_for_a_fenced_transaction_and_shuts_out_the_next(
    postgres_url: str,
) -> None:
    async with open_lab(postgres_url) as (store, hand):
        await make_effects(hand)
        holder, token = await take(store)
        tokens: list[int] = []

        async def take_over() -> None:
            async with (
                hold(store, "x", ttl=30) as lease,
                connected(postgres_url) as other,
                lease.fenced(other),
            ):
                tokens.append(lease.token)
                assert await value_of(other, EFFECTS) == 1  # what he did comes before

        with trio.fail_after(10):
            async with (
                connected(postgres_url) as watcher,
                trio.open_nursery() as nursery,
                store.fenced(hand, "x", holder, token),
            ):
                await store.release("x", holder)
                nursery.start_soon(take_over)
                await until_somebody_waits(watcher)
                await act(hand, token)
                assert tokens == []

        assert tokens[0] > token
        with pytest.raises(FenceRefused):
            async with store.fenced(hand, "x", holder, token):
                raise AssertionError("it passed")


async def test_takeover_that_cannot_be_yet_is_busy(postgres_url: str) -> None:
    """It gives up inside the time of an attempt, so that its lock on the row is not left behind."""
    async with open_lab(postgres_url) as (store, hand):
        holder, token = await take(store)
        await store.release("x", holder)
        async with store.fenced(hand, "x", holder, token):
            began = trio.current_time()
            assert await store.acquire("x", uuid4(), 3, token) == Busy(None, 0.0, token)
            assert 0.09 < trio.current_time() - began < 2
        await take(store)


async def test_renewal_release_and_reading_never_wait_for_fenced_transactions_nor_for_takeovers(
    postgres_url: str,
) -> None:
    async with open_lab(postgres_url) as (store, hand):
        holder, token = await take(store, "x")
        async with connected(postgres_url) as watcher:
            with trio.fail_after(1.5):  # less than any takeover below would wait
                async with store.fenced(hand, "x", holder, token):
                    assert await store.renew("x", holder, 60) is Renewal.RENEWED
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(store.evict, "x")
                        await until_somebody_waits(watcher)
                        assert await store.renew("x", holder, 60) is Renewal.RENEWED
                        assert (await store.inspect("x")).holder == holder
                        assert await store.release("x", holder)
                        nursery.start_soon(store.acquire, "x", uuid4(), 60, token)
                        await until_somebody_waits(watcher, 2)
                        # The lease has ended: there is nothing to do, and no reason to wait for the takeover.
                        assert await store.renew("x", holder, 60) is Renewal.GONE
                        assert not await store.release("x", holder)
                        assert (await store.inspect("x")).holder is None
                        nursery.cancel_scope.cancel()


async def test_session_that_stands_still_is_ended_and_the_takeover_proceeds(
    postgres_url: str,
) -> None:
    """Fault 8: the holder stops inside a fenced transaction, for good; the server throws it out."""
    async with open_lab(postgres_url) as (store, hand):
        await make_effects(hand)
        holder, token = await take(store, ttl=1)
        began = trio.current_time()
        with trio.fail_after(10), pytest.raises(IdleInTransactionSessionTimeout):
            async with store.fenced(hand, "x", holder, token):
                await act(hand, token)
                async with hold(store, "x", ttl=1) as lease:  # as if by somebody else
                    assert lease.token > token

        assert 1.9 < trio.current_time() - began < 5
        assert hand.closed
        async with connected(postgres_url) as watcher:
            assert await value_of(watcher, EFFECTS) == 0


# --- The fence alone, for leases that are elsewhere ---


async def test_fence_is_moved_by_who_saw_its_token(postgres_url: str) -> None:
    async with open_postgres_fence(postgres_url, create_tables=True) as fence:
        one, other = uuid4(), uuid4()
        assert await fence.seen("x") == FenceRow(None, 0)
        assert await fence.fence("x", one, 5) is None
        assert not await fence.evict("y")

        token = await fence.fence("x", one, 0)
        assert token is not None
        assert await fence.seen("x") == FenceRow(one, token)
        assert await fence.fence("x", other, 0) is None
        newer = await fence.fence("x", other, token)
        assert newer is not None
        assert newer > token
        async with connected(postgres_url) as connection:
            async with fence.fenced(connection, "x", other, newer):
                pass
            assert await fence.evict("x")
            assert not await fence.evict("x")
            with pytest.raises(FenceRefused):
                async with fence.fenced(connection, "x", other, newer):
                    raise AssertionError("it passed")

            # Tokens follow the clock, so they grow also for those outside who saw some that the database lost.
            await connection.execute("UPDATE lease_fence SET token = 7")
            now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
            floor = await value_of(connection, now)
            last = await fence.fence("x", one, 7)
            assert last is not None
            assert isinstance(floor, int)
            assert floor - 1 <= last <= floor + 10_000
            # And they grow when the clock was set back, or is not as fine as they are.
            await connection.execute("UPDATE lease_fence SET token = 9000000000000000")
            assert await fence.fence("x", one, 9 * 10**15) == 9 * 10**15 + 1


async def test_fence_waits_for_fenced_transactions_within_a_bound(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence_module, "TAKEOVER_SECONDS", 0.1)
    async with (
        open_postgres_fence(postgres_url, create_tables=True) as fence,
        connected(postgres_url) as connection,
    ):
        holder = uuid4()
        token = await fence.fence("x", holder, 0)
        assert token is not None
        async with fence.fenced(connection, "x", holder, token):
            assert await fence.fence("x", uuid4(), token) is None
            with pytest.raises(StoreUnreachable, match="lock timeout"):
                await fence.evict("x")
        assert await fence.seen("x") == FenceRow(holder, token)


async def test_moves_and_renewals_are_durable_whatever_the_default_is(postgres_url: str) -> None:
    async with open_lab(postgres_url, *HOSTILE) as (store, hand):
        holder, token = await take(store)
        await hand.execute(
            """CREATE TABLE written (what text);
               CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                   'BEGIN INSERT INTO written VALUES (TG_TABLE_NAME || '' ''
                        || current_setting(''synchronous_commit'')); RETURN NULL; END';
               CREATE TRIGGER note AFTER UPDATE ON lease_row
                   FOR EACH ROW EXECUTE FUNCTION note();
               CREATE TRIGGER note AFTER UPDATE ON lease_fence
                   FOR EACH ROW EXECUTE FUNCTION note()"""
        )
        assert await store.renew("x", holder, 30) is Renewal.RENEWED
        await store.fence("x", holder, token)

        rows = await (await hand.execute("SELECT what FROM written")).fetchall()
        assert rows == [("lease_row on",), ("lease_fence on",)]
        assert await value_of(hand, "SELECT current_setting('synchronous_commit')") == "off"


# --- Failover ---


@pytest.mark.slow
async def test_paused_holder_of_a_lost_past_is_refused_by_the_timeline(
    postgres_room: Room, postgres_factory: Callable[..., PostgresServer]
) -> None:
    """Fault 19: an asynchronous standby is promoted that never heard of the last takeover.

    It brings back the holder before, with his token, and he wakes up just then. On the new timeline he may
    neither commit nor renew; the next one gets a larger token than the one that was lost.
    """
    primary = postgres_factory(hba=REPLICATING_HBA)
    standby = make_standby(postgres_room, primary)
    standby.start()
    try:
        async with connected(primary.url) as connection:
            await create_tables(connection)
        async with open_postgres_store(primary.url) as store:
            paused, token = await take(store)
            wait_replayed(primary, standby)
            await standby_answers_nothing(standby, primary)
            cut(standby)
            await store.evict("x")
            _, lost_token = await take(store)
        primary.stop("immediate")
        promote(standby)

        async with connected(standby.url) as hand, open_postgres_store(standby.url) as store:
            assert (await row_of(hand))[:3] == (paused, token, True)
            with pytest.raises(FenceRefused):
                async with store.fenced(hand, "x", paused, token):
                    raise AssertionError("it passed")
            assert await store.renew("x", paused, 30) is Renewal.GONE

            # Nobody can keep it, but somebody may trust in it: it is free when its time is over, not before.
            assert isinstance(await store.acquire("x", uuid4(), 1, token), Busy)
            await hand.execute("UPDATE lease_row SET expires_at = clock_timestamp()")
            holder, newest = await take(store)
            assert newest > lost_token > token
            async with store.fenced(hand, "x", holder, newest):
                pass
    finally:
        standby.stop("immediate")


async def standby_answers_nothing(standby: PostgresServer, primary: PostgresServer) -> None:
    """Whoever lends the connection to it; an own one is made to the primary, if its host is named too."""
    async with open_postgres_store_on(lambda: connected(standby.url)) as store:
        for request in (
            store.seen("x"),
            store.inspect("x"),
            store.renew("x", uuid4(), 5),
            store.release("x", uuid4()),
            store.acquire("x", uuid4(), 5, 0),
            store.fence("x", uuid4(), 0),
            store.evict("x"),
        ):
            with pytest.raises(StoreUnreachable, match=r"^PostgreSQL: [^\n]+$"):
                await request
    async with open_postgres_store(standby.url) as store:
        with pytest.raises(StoreUnreachable, match=r"^PostgreSQL: [^\n]+$"):
            await store.seen("x")
    both = {"host": f"{standby.host},{primary.host}", "port": f"{standby.port},{primary.port}"}
    async with open_postgres_store(make_conninfo(primary.tcp_url, **both)) as store:
        assert (await store.seen("x")).holder is not None
    async with connected(standby.url) as connection:
        with pytest.raises(StoreUnreachable):
            async with store.fenced(connection, "x", uuid4(), 1):
                raise AssertionError("it passed")
