"""Leases in PostgreSQL: waiting for them, and giving up."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from random import Random
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing

from lockd import Busy, EventKind, Granted, Renewal, StoreUnreachable, hold
from lockd import _postgres_notices as notices_module
from lockd._postgres_errands import Errands
from lockd._postgres_notices import Listener
from lockd.postgres import (
    PostgresStore,
    create_tables,
    open_postgres_store,
)
from sercha.testing import FaultProxy, open_proxy
from tests.support.connections import connected, until, value_of
from tests.support.leases import Diary
from tests.support.postgres import PostgresServer
from tests.support.row_leases import OURS, open_lab, over_tcp, take, until_somebody_waits


@asynccontextmanager
async def behind_proxy(
    server: PostgresServer, url: str
) -> AsyncGenerator[tuple[FaultProxy, PostgresStore]]:
    """Open a store that has its tables, and answers, through a proxy."""
    with trio.fail_after(30):
        async with open_proxy(server.host, server.port) as proxy:
            through = over_tcp(server, url, port=proxy.port)
            async with open_postgres_store(through, create_tables=True) as store:
                await store.seen("x")
                yield proxy, store


# --- Notices ---


async def test_release_wakes_a_waiter_at_once(postgres_url: str) -> None:
    diary = Diary()
    async with open_lab(postgres_url) as (store, _):
        holder, token = await take(store, ttl=60)

        async def come_next() -> None:
            async with hold(store, "x", ttl=60, observe=diary) as lease:
                assert lease.token > token

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_next)
            await diary.wait_for(EventKind.WAITING)
            began = trio.current_time()
            await store.release("x", holder)
            await diary.wait_for(EventKind.ACQUIRED)
            assert trio.current_time() - began < 1  # without a notice it is up to 5 s
        assert diary.count(EventKind.WAITING) == 1


async def test_notices_are_for_their_lease_only_and_none_is_lost(postgres_url: str) -> None:
    async with (
        open_lab(postgres_url) as (store, hand),
        store.notices("x") as notices,
        store.notices("y") as others,
    ):
        await store.release("y", (await take(store, "y"))[0])
        with trio.fail_after(5):
            await others.wait()
        for _ in range(3):
            await store.release("x", (await take(store, "x"))[0])
            with trio.fail_after(5):
                await notices.wait()
        # What came before has been seen by now: this one arrives after it.
        await hand.execute("SELECT pg_notify('lockd', 'y')")
        with trio.fail_after(5):
            await others.wait()
        with trio.move_on_after(0) as scope:
            await notices.wait()
        assert scope.cancelled_caught


async def test_lost_connection_is_mended_and_waiters_are_woken_once(postgres_url: str) -> None:
    async with open_lab(postgres_url) as (store, hand):
        listening = f"SELECT count(*) {OURS} AND query = 'LISTEN lockd'"
        async with store.notices("x") as notices, store.notices("x") as others:
            assert await value_of(hand, listening) == 1  # one for all of the store
            kill = f"SELECT pg_terminate_backend(pid) {OURS} AND query = 'LISTEN lockd'"
            await hand.execute(kill.encode())
            with trio.fail_after(10):
                await notices.wait()
                await others.wait()
            await store.release("x", (await take(store))[0])
            with trio.fail_after(5):
                await notices.wait()


async def test_listening_ends_when_nobody_waits_any_more(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices_module, "LINGER_SECONDS", 0.2)
    listening = f"SELECT count(*) {OURS} AND query = 'LISTEN lockd'"
    async with open_lab(postgres_url) as (store, hand):
        for _ in range(2):
            async with store.notices("x"):
                assert await value_of(hand, listening) == 1
            assert await value_of(hand, listening) == 1
            await until(lambda: value_of(hand, listening.replace("count(*)", "count(*) = 0")))

        async with store.notices("x"):
            pass
        async with store.notices("x") as notices:
            with trio.move_on_after(0.4) as scope:  # as good as the end of lingering
                await notices.wait()  # it would be woken by a connection made anew
            assert scope.cancelled_caught


async def test_block_starts_without_notices_when_there_is_no_server(
    postgres_factory: Callable[..., PostgresServer],
) -> None:
    """And is woken when they can be had again, since something may have been missed."""
    server = postgres_factory()
    async with open_postgres_store(server.tcp_url) as store:
        server.stop("immediate")
        with trio.fail_after(20):
            began = trio.current_time()
            async with store.notices("x") as notices:
                assert trio.current_time() - began < notices_module.ARM_SECONDS / 2  # it is refused
                with trio.move_on_after(0) as scope:
                    await notices.wait()
                assert scope.cancelled_caught
                await trio.to_thread.run_sync(server.start)
                await notices.wait()


async def test_without_notices_waiters_poll(postgres_url: str) -> None:
    async with open_lab(postgres_url, notices=False) as (store, hand):
        holder, _ = await take(store, ttl=1)
        async with store.notices("x") as notices:
            await store.release("x", holder)
            with trio.move_on_after(0.1) as scope:
                await notices.wait()
            assert scope.cancelled_caught
        await take(store, ttl=1)
        with trio.fail_after(4):
            async with hold(store, "x", ttl=5):
                pass
        assert await value_of(hand, f"SELECT count(*) {OURS}") == 1


class CountingStore(PostgresStore):
    """Counts what it asks for."""

    def __init__(self, errands: Errands, listener: Listener) -> None:
        super().__init__(errands, listener)
        self.attempts = 0

    async def acquire(self, name: str, holder: UUID, ttl: float, seen: int) -> Granted | Busy:
        self.attempts += 1
        return await super().acquire(name, holder, ttl, seen)


async def test_two_hundred_waiters_and_one_release_make_one_winner_and_no_storm(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 30, and no connection for each of them either."""
    monkeypatch.setattr("lockd._postgres_open.PostgresStore", CountingStore)
    diary = Diary()
    async with open_lab(postgres_url) as (store, hand), trio.open_nursery() as nursery:
        assert isinstance(store, CountingStore)
        holder, _ = await take(store, ttl=60)
        store.attempts = 0

        async def wait() -> None:
            async with hold(store, "x", ttl=60, observe=diary):
                await trio.sleep_forever()

        for _ in range(200):
            nursery.start_soon(wait)
        await diary.wait_for(EventKind.WAITING, times=200)
        assert store.attempts == 200

        store.attempts = 0
        await store.release("x", holder)
        await diary.wait_for(EventKind.WAITING, times=399)
        assert store.attempts == 200
        assert diary.count(EventKind.ACQUIRED) == 1
        assert int(str(await value_of(hand, f"SELECT count(*) {OURS}"))) <= 5
        nursery.cancel_scope.cancel()


# --- Giving up ---


async def test_cancelled_at_random_moments_nothing_stays_behind(
    postgres_url: str, seed: int
) -> None:
    """Fault 29 on a real server: a lease that stays lives for a TTL at most; no transaction stays open."""
    random = Random(seed)
    usual = 1.0
    async with open_lab(postgres_url) as (store, hand):
        for _ in range(150):
            began = trio.current_time()
            with trio.move_on_after(random.uniform(0, 1.2) * usual) as scope:
                async with hold(store, "x", ttl=1) as lease, lease.fenced(hand):
                    pass
            if not scope.cancelled_caught:
                usual = min(usual, trio.current_time() - began)
            # A request that was given up is stopped; if its answer was under way it may have been carried out.
            remaining = (await store.inspect("x")).remaining
            assert remaining is None or remaining <= 1

        await until(lambda: value_of(hand, f"SELECT count(*) = 0 {OURS} AND state <> 'idle'"))
        held = "SELECT count(*) = 0 FROM lease_row WHERE expires_at > clock_timestamp()"
        await until(lambda: value_of(hand, held))
        assert int(str(await value_of(hand, f"SELECT count(*) {OURS}"))) <= 4


async def test_cancelled_hold_is_freed_although_the_world_around_its_store_ends(
    postgres_url: str,
) -> None:
    async with open_lab(postgres_url), connected(postgres_url) as hand:
        with trio.CancelScope() as scope:
            async with (
                open_postgres_store(postgres_url) as store,
                hold(store, "x", ttl=60) as lease,
            ):
                scope.cancel()
                with trio.CancelScope(shield=True):
                    assert await store.renew("x", lease.holder, 60) is Renewal.RENEWED
        assert scope.cancelled_caught
        live = "SELECT count(*) FROM lease_row WHERE expires_at > clock_timestamp()"
        assert await value_of(hand, live) == 0


async def test_cancelled_takeover_is_stopped_at_the_server(postgres_url: str) -> None:
    """It waits for a fenced transaction when it is given up; left alone it would take the lease later."""
    async with open_lab(postgres_url) as (store, hand):
        holder, token = await take(store)
        await store.release("x", holder)
        async with connected(postgres_url) as watcher, store.fenced(hand, "x", holder, token):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.acquire, "x", uuid4(), 60, token)
                await until_somebody_waits(watcher)
                nursery.cancel_scope.cancel()
            await until(
                lambda: value_of(watcher, f"SELECT count(*) = 0 {OURS} AND state <> 'idle'")
            )
        assert (await store.inspect("x")).holder is None


async def test_request_without_answer_is_given_up_at_once_and_holds_up_nobody(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    async with behind_proxy(postgres_server, postgres_url) as (proxy, store):
        holder, _ = await take(store)
        proxy.black_hole()
        began = trio.current_time()
        for _ in range(3):
            with trio.move_on_after(0.1) as scope:
                await store.renew("x", holder, 30)
            assert scope.cancelled_caught
        assert trio.current_time() - began < 1.5  # not the 5 s that a cancel request may take
        proxy.heal()
        with trio.fail_after(3):
            assert await store.release("x", holder)


async def test_connection_that_takes_longer_than_an_attempt_serves_the_next(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    async with connected(postgres_url) as connection:
        await create_tables(connection)
    async with open_proxy(postgres_server.host, postgres_server.port) as proxy:
        proxy.delay(0.06)
        url = over_tcp(postgres_server, postgres_url, port=proxy.port)
        async with open_postgres_store(url) as store:
            attempts, is_answered = 0, False
            while not is_answered:
                attempts += 1
                with trio.move_on_after(0.2):  # connecting takes four round trips, asking takes one
                    await store.seen("x")
                    is_answered = True
                assert attempts < 10
            assert attempts > 1


async def test_lost_reply_to_an_acquisition_is_recognised_by_the_own_id(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    """Fault 1."""
    async with behind_proxy(postgres_server, postgres_url) as (proxy, store):
        holder = uuid4()
        proxy.lose_next_reply()
        with pytest.raises(StoreUnreachable):
            await store.acquire("x", holder, 30, 0)
        answer = await store.acquire("x", holder, 30, 0)
        assert isinstance(answer, Busy)
        assert answer.holder == holder
        assert answer.token == (await store.seen("x")).token
