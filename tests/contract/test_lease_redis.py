"""Leases in Redis: what the store adds to the contract of all stores, on a real server."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing
import trio_asyncio

from lockd import (
    Busy,
    EventKind,
    FenceRow,
    Granted,
    LeaseLost,
    LeaseTaken,
    LossReason,
    MemoryStore,
    Renewal,
    StoreUnreachable,
    hold,
)
from lockd.postgres import open_postgres_fence
from lockd.redis import RedisStore, open_redis_store
from sercha.testing import FaultProxy, open_proxy
from tests.support.connections import connected, until, value_of
from tests.support.leases import Diary
from tests.support.redis import RedisServer
from tests.support.redis_leases import leave_unadvised

Factory = Callable[..., RedisServer]


@asynccontextmanager
async def two_stores(url: str) -> AsyncGenerator[tuple[RedisStore, RedisStore]]:
    async with open_redis_store(url) as one, open_redis_store(url) as other:
        yield one, other


# --- From end to end ---


async def test_one_holds_the_other_waits_and_comes_next(redis_server: RedisServer) -> None:
    diary = Diary()
    tokens: list[int] = []

    async def come_next() -> None:
        async with hold(other, "daily", ttl=30, observe=diary) as lease:
            tokens.append(lease.token)
            assert redis_server.execute("GET", "lockd:daily") == str(lease.holder)

    with trio.fail_after(4):  # less than the time between two polls: the notice does it
        async with (
            two_stores(redis_server.url) as (one, other),
            trio.open_nursery() as nursery,
            hold(one, "daily", ttl=60) as lease,
        ):
            nursery.start_soon(come_next)
            waiting = await diary.wait_for(EventKind.WAITING)
            assert waiting.holder == lease.holder
            assert 59_000 < redis_server.execute("PTTL", "lockd:daily") <= 60_000
            with pytest.raises(LeaseTaken) as caught:
                await take(other, "daily")
            assert caught.value.holder == lease.holder
            assert caught.value.remaining == pytest.approx(60, abs=1)
            assert tokens == []
            tokens.append(lease.token)
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 2
    assert redis_server.execute("GET", "lockd:daily") is None


async def take(store: RedisStore, name: str) -> None:
    async with hold(store, name, ttl=5, on_busy="raise"):
        raise AssertionError("it was free")


async def test_renewals_carry_a_lease_beyond_its_ttl(redis_url: str) -> None:
    diary = Diary()
    async with two_stores(redis_url) as (one, other):
        async with hold(one, "x", ttl=1, observe=diary) as lease:
            await diary.wait_for(EventKind.RENEWED, times=4)
            found = await other.inspect("x")
            assert found.holder == lease.holder
            assert found.token == lease.token
            assert found.remaining is not None
            assert 0.5 < found.remaining <= 1
        assert (await other.inspect("x")).holder is None
        assert (await other.inspect("x")).remaining is None


async def test_lost_reply_to_set_is_recognised_by_the_own_id(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_unadvised(monkeypatch)
    async with (
        open_proxy(redis_server.host, redis_server.port) as proxy,
        open_redis_store(redis_server.url_for(proxy.port)) as store,
    ):
        assert await store.seen("x") == FenceRow(None, 0)
        holder = uuid4()
        proxy.lose_next_reply()
        with pytest.raises(StoreUnreachable):
            await store.acquire("x", holder, 30, 0)
        again = await store.acquire("x", holder, 30, 0)
        assert isinstance(again, Busy)
        assert again.holder == holder

        await store.release("x", holder)
        diary = Diary()
        async with hold(LosingStore(store, proxy), "x", ttl=30, observe=diary) as lease:  # type: ignore[arg-type]
            assert redis_server.execute("GET", "lockd:x") == str(lease.holder)
        assert diary.count(EventKind.STORE_FAILED) == 1
        assert diary.count(EventKind.WAITING) == 0


class LosingStore:
    """A store whose first acquisition is carried out, but not answered."""

    def __init__(self, store: RedisStore, proxy: FaultProxy) -> None:
        self._store = store
        self._proxy = proxy
        self._has_lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def acquire(self, name: str, holder: UUID, ttl: float, seen: int) -> Granted | Busy:
        if not self._has_lost:
            self._has_lost = True
            self._proxy.lose_next_reply()
        return await self._store.acquire(name, holder, ttl, seen)


# --- What may happen to the key ---


async def test_scripts_that_the_server_forgot_are_sent_again(redis_server: RedisServer) -> None:
    diary = Diary()
    async with open_redis_store(redis_server.url) as store:
        async with hold(store, "x", ttl=1, observe=diary):
            await diary.wait_for(EventKind.RENEWED)
            redis_server.execute("SCRIPT", "FLUSH")
            await diary.wait_for(EventKind.RENEWED, times=3)
            redis_server.execute("SCRIPT", "FLUSH")
        assert redis_server.execute("EXISTS", "lockd:x") == 0
        assert redis_server.calls("eval") >= 4  # token, two renewals, release
    assert not [event.error for event in diary.events if "NOSCRIPT" in (event.error or "")]


async def test_flushall_during_hold_is_a_loss(redis_server: RedisServer) -> None:
    async with open_redis_store(redis_server.url) as store:
        with trio.fail_after(5), pytest.raises(LeaseLost) as caught:
            async with hold(store, "x", ttl=1) as lease:
                redis_server.execute("FLUSHALL")
                await lease.lost.wait()
                await trio.lowlevel.checkpoint()
    assert caught.value.reason is LossReason.GONE


async def test_taken_key_is_a_loss_and_stays_with_its_taker(redis_server: RedisServer) -> None:
    async with open_redis_store(redis_server.url) as store:
        with trio.fail_after(5), pytest.raises(LeaseLost) as caught:
            async with hold(store, "x", ttl=1):
                redis_server.execute("SET", "lockd:x", "somebody", "PX", 60_000)
                await trio.sleep_forever()
        assert caught.value.reason is LossReason.TAKEN
        assert redis_server.execute("GET", "lockd:x") == "somebody"
        assert await store.renew("x", uuid4(), 30) is Renewal.TAKEN
        assert await store.release("x", uuid4()) is False
        assert redis_server.execute("PTTL", "lockd:x") > 50_000


async def test_value_that_is_no_holder_is_somebody(redis_server: RedisServer) -> None:
    async with open_redis_store(redis_server.url) as store:
        redis_server.execute("SET", "lockd:x", "not an id")
        assert await store.acquire("x", uuid4(), 30, 0) == Busy(None, None)
        found = await store.inspect("x")
        assert (found.holder, found.remaining) == (None, None)
        redis_server.execute("PEXPIRE", "lockd:x", 50_000)
        found = await store.inspect("x")
        assert found.remaining == pytest.approx(50, abs=1)

        redis_server.execute("RPUSH", "lockd:y", "a list")
        with pytest.raises(StoreUnreachable, match="wrong kind of value") as caught:
            await store.renew("y", uuid4(), 30)
        assert "\n" not in str(caught.value)
        with pytest.raises(ValueError, match="must not end in :token"):
            await store.acquire("x:token", uuid4(), 30, 0)


async def test_evict_frees_for_whoever_waits(redis_server: RedisServer) -> None:
    async with two_stores(redis_server.url) as (one, other):
        holder = uuid4()
        assert await one.acquire("x", holder, 30, 0) == Granted(None)
        token = await one.fence("x", holder, 0)
        assert token is not None
        async with other.notices("x") as notices:
            assert await other.evict("x") is True
            with trio.fail_after(2):
                await notices.wait()
        row = await one.seen("x")
        assert row.holder is None
        assert row.token > token
        assert await one.renew("x", holder, 30) is Renewal.GONE
        assert await one.evict("x") is False


# --- The token ---


async def test_token_without_a_fence_only_grows(redis_server: RedisServer) -> None:
    async with open_redis_store(redis_server.url) as store:
        holder = uuid4()
        first = await store.fence("x", holder, 0)
        assert first is not None
        assert await store.seen("x") == FenceRow(holder, first)
        assert await store.fence("x", uuid4(), 0) is None  # somebody was faster
        assert await store.seen("x") == FenceRow(holder, first)
        second = await store.fence("x", uuid4(), first)
        assert second is not None
        assert second > first
        redis_server.execute("HSET", "lockd:x:token", "token", 2**51)
        assert (
            await store.fence("x", uuid4(), 2**51) == 2**51 + 1
        )  # whatever the server's clock says
        redis_server.execute("FLUSHALL")
        third = await store.fence("x", uuid4(), 0)
        assert third is not None
        assert third > second


async def test_fenced_without_a_fence_says_what_is_missing(redis_url: str) -> None:
    async with open_redis_store(redis_url) as store, hold(store, "x", ttl=5) as lease:
        with pytest.raises(TypeError, match=r"fence="):
            async with lease.fenced(None):
                raise AssertionError("it was opened")


async def test_fence_of_its_own_gives_the_token(redis_server: RedisServer) -> None:
    async with open_redis_store(redis_server.url, fence=MemoryStore()) as store:
        with pytest.raises(LeaseLost) as caught:
            async with hold(store, "x", ttl=5) as lease:
                assert lease.token == 1
                async with lease.fenced("connection") as connection:
                    assert connection == "connection"
                assert await store.evict("x")
                async with lease.fenced("connection"):
                    raise AssertionError("it was opened")
        assert caught.value.reason is LossReason.FENCED
        assert await store.seen("x") == FenceRow(None, 2)
    assert redis_server.execute("KEYS", "*") == []


async def test_fence_in_postgresql_stops_whoever_redis_forgot(
    redis_server: RedisServer, postgres_url: str
) -> None:
    async with (
        open_postgres_fence(postgres_url, create_tables=True) as fence,
        open_redis_store(redis_server.url, fence=fence) as store,
        connected(postgres_url) as connection,
    ):
        with pytest.raises(LeaseLost) as caught:
            async with hold(store, "x", ttl=60) as stale:
                async with stale.fenced(connection):
                    await connection.execute("CREATE TABLE acts AS SELECT 1 AS act")
                redis_server.execute("FLUSHALL")
                async with hold(store, "x", ttl=60) as lease:
                    assert lease.token > stale.token
                    stale.check()  # it believes
                    async with stale.fenced(connection):
                        await connection.execute("INSERT INTO acts VALUES (2)")
        assert caught.value.reason is LossReason.FENCED
        assert await value_of(connection, "SELECT count(*) FROM acts") == 1


# --- Where it may be used ---


async def test_any_task_may_use_it_and_an_asyncio_loop_around_it_stays(redis_url: str) -> None:
    done = [trio.Event(), trio.Event()]

    async def use(number: int) -> None:
        async with hold(store, f"lease {number}", ttl=5):
            pass
        done[number].set()

    async with (
        trio_asyncio.open_loop() as loop,
        trio.open_nursery() as outside,
        open_redis_store(redis_url) as store,
    ):
        assert trio_asyncio.current_loop.get() is loop
        outside.start_soon(use, 0)
        trio.lowlevel.spawn_system_task(use, 1)
        with trio.fail_after(5):
            for each in done:
                await each.wait()
        await trio_asyncio.aio_as_trio(asyncio_sleep)()


async def asyncio_sleep() -> None:
    await asyncio.sleep(0.001)


async def test_block_ends_with_its_own_error_and_leaves_no_connection(
    redis_server: RedisServer,
) -> None:
    with pytest.raises(LookupError):
        await fail_with_a_store(redis_server.url)
    await until(lambda: redis_server.clients() == [])


async def fail_with_a_store(url: str) -> None:
    async with open_redis_store(url) as store, hold(store, "x", ttl=5), store.notices("y"):
        raise LookupError


async def test_cancelled_block_still_releases(redis_server: RedisServer) -> None:
    with trio.CancelScope() as scope:
        async with open_redis_store(redis_server.url) as store, hold(store, "x", ttl=30):
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert redis_server.execute("EXISTS", "lockd:x") == 0
    await until(lambda: redis_server.clients() == [])


async def test_after_the_block_requests_say_so(redis_server: RedisServer) -> None:
    outcomes: list[str] = []

    async def ask() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await store._client.requests.request(("BLPOP", "nothing", 0))
        outcomes.append("closed")

    with trio.fail_after(5):
        async with (
            trio.open_nursery() as nursery,
            open_redis_store(redis_server.url) as store,
        ):
            nursery.start_soon(ask)
            await until(lambda: any("cmd=blpop" in line for line in redis_server.clients()))
        with pytest.raises(trio.ClosedResourceError):
            await store.seen("x")
    assert outcomes == ["closed"]


@pytest.mark.parametrize("order", ["redis, lockd.postgres", "postgres, lockd.redis"])
async def test_both_doors_open_in_either_order(order: str, redis_url: str) -> None:
    program = f"""
import lockd.{order}
import trio
async def main():
    async with lockd.redis.open_redis_store({redis_url!r}) as store, lockd.hold(store, "x", ttl=5):
        print((await store.inspect("x")).name)
trio.run(main)
"""
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", program]
    done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
    assert (done.stdout, done.stderr) == (b"x\n", b"")


def test_core_does_not_import_the_driver() -> None:
    program = "import lockd, sys; print({'redis', 'trio_asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"set()\n"
