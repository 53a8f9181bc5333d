"""Waiting for leases in Redis: one subscription for all waiters, and no storm when a lease is free."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
import trio

import lockd._redis_notices as module
from lockd import EventKind, Notices, hold
from lockd.redis import open_redis_store
from sercha.testing import open_proxy
from tests.support.connections import until
from tests.support.leases import Diary
from tests.support.redis import RedisServer
from tests.support.redis_leases import publish

Factory = Callable[..., RedisServer]


async def is_noticed(notices: Notices, seconds: float = 3) -> bool:
    with trio.move_on_after(seconds):
        await notices.wait()
        return True
    return False


def subscriptions(server: RedisServer) -> list[str]:
    return [line for line in server.clients() if " sub=0 " not in line]


async def test_listening_begins_with_the_block(redis_url: str) -> None:
    async with open_redis_store(redis_url) as store, open_redis_store(redis_url) as other:
        for number in range(50):
            async with store.notices(f"{number % 3}") as notices:
                await publish(other, f"{number % 3}")
                assert await is_noticed(notices)
                assert not await is_noticed(notices, 0.002)


async def test_notices_are_for_one_name_and_all_its_waiters(redis_url: str) -> None:
    async with (
        open_redis_store(redis_url) as store,
        store.notices("x") as one,
        store.notices("x") as two,
        store.notices("y") as other,
    ):
        await publish(store, "x")
        assert await is_noticed(one)
        assert await is_noticed(two)
        assert not await is_noticed(other, 0.05)
        await publish(store, "y")
        assert await is_noticed(other)


async def test_cancelled_wait_forgets_no_notice(redis_url: str) -> None:
    async with open_redis_store(redis_url) as store, store.notices("x") as notices:
        for _ in range(20):
            assert not await is_noticed(notices, 0.001)
            await publish(store, "x")
            assert await is_noticed(notices)


async def test_error_of_the_block_leaves_alone(redis_url: str) -> None:
    async with open_redis_store(redis_url) as store:
        with pytest.raises(LookupError):
            async with store.notices("x"):
                raise LookupError


async def test_200_waiters_and_one_release_have_one_winner(redis_server: RedisServer) -> None:
    waiting, won = Diary(), Diary()
    winner_may_go = trio.Event()

    async def wait() -> None:
        async with hold(other, "x", ttl=60, observe=lambda event: (waiting(event), won(event))):
            await winner_may_go.wait()

    with trio.fail_after(60):
        async with (
            open_redis_store(redis_server.url) as store,
            open_redis_store(redis_server.url) as other,
            trio.open_nursery() as nursery,
        ):
            async with hold(store, "x", ttl=60):
                for _ in range(200):
                    nursery.start_soon(wait)
                await waiting.wait_for(EventKind.WAITING, times=200)
                assert len(subscriptions(redis_server)) == 1
                redis_server.execute("CONFIG", "RESETSTAT")
                seen = waiting.count(EventKind.WAITING)
            await won.wait_for(EventKind.ACQUIRED)
            await waiting.wait_for(EventKind.WAITING, times=seen + 199)
            assert won.count(EventKind.ACQUIRED) == 1
            assert 100 < redis_server.calls("set") <= 200
            nursery.cancel_scope.cancel()
        assert redis_server.execute("EXISTS", "lockd:x") == 0


async def test_nobody_waiting_ends_the_subscription(redis_server: RedisServer) -> None:
    async with open_redis_store(redis_server.url) as store:
        async with store.notices("x"), store.notices("y"):
            assert len(redis_server.execute("PUBSUB", "CHANNELS")) == 2
            [first] = redis_server.clients()
        await until(lambda: not redis_server.execute("PUBSUB", "CHANNELS"))
        async with store.notices("y"):
            assert redis_server.execute("PUBSUB", "CHANNELS") == ["lockd:y:free"]
            [second] = redis_server.clients()
            assert second.split()[0] == first.split()[0]  # the same connection


async def test_quiet_subscription_is_tried_out_and_one_without_use_closed(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.2)
    async with open_redis_store(redis_server.url) as store:
        async with store.notices("x"):
            [first] = redis_server.clients()
            before = redis_server.calls("ping")
            await until(lambda: redis_server.calls("ping") >= before + 3)
            [later] = redis_server.clients()
            assert later.split()[0] == first.split()[0]
        await until(lambda: redis_server.clients() == [])
        async with store.notices("x") as notices:
            await publish(store, "x")
            assert await is_noticed(notices)


# --- When the connection is lost ---


async def test_lost_subscription_is_mended_and_wakes_once(redis_server: RedisServer) -> None:
    async with (
        open_redis_store(redis_server.url) as store,
        store.notices("x") as notices,
        store.notices("y") as others,
    ):
        for _ in range(3):
            redis_server.execute("CLIENT", "KILL", "TYPE", "pubsub")
            assert await is_noticed(notices)
            assert await is_noticed(others)
            assert not await is_noticed(notices, 0.05)
            await publish(store, "x")
            assert await is_noticed(notices)


async def test_block_starts_without_redis_and_is_armed_when_it_comes(
    redis_factory: Factory,
) -> None:
    server = redis_factory()
    server.stop()
    async with open_redis_store(server.url) as store:
        began = trio.current_time()
        async with store.notices("x") as notices:
            assert trio.current_time() - began < 1  # refused is refused
            assert not await is_noticed(notices, 0.1)
            await trio.to_thread.run_sync(server.start)
            assert await is_noticed(notices)
            await publish(store, "x")
            assert await is_noticed(notices)


async def test_silent_server_holds_up_a_block_for_a_moment_only(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ARM_SECONDS", 0.1)
    async with (
        open_proxy(redis_server.host, redis_server.port) as proxy,
        open_redis_store(redis_server.url_for(proxy.port)) as store,
    ):
        proxy.ignore_new()
        with trio.fail_after(2):
            async with store.notices("x") as notices:
                assert not await is_noticed(notices, 0.05)


async def test_peer_that_vanished_is_found_out(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.1)
    async with (
        open_proxy(redis_server.host, redis_server.port) as proxy,
        open_redis_store(redis_server.url_for(proxy.port)) as store,
        store.notices("x") as notices,
    ):
        before = proxy.statistics()
        proxy.half_open("server")
        with trio.fail_after(5):
            await proxy.wait_connections(1, since=before)
        assert await is_noticed(notices)
        await publish(store, "x")
        assert await is_noticed(notices)


async def test_subscribing_and_leaving_at_random_misses_nothing(redis_url: str, seed: int) -> None:
    """On each name one waiter that counts on its notices, and two that come and go."""
    random = Random(seed)
    is_over = trio.Event()

    async def count_on_it(name: str) -> None:
        for _ in range(60):
            async with store.notices(name) as notices:
                await publish(other, name)
                assert await is_noticed(notices), name
            await trio.sleep(random.uniform(0, 0.003))

    async def come_and_go(name: str) -> None:
        while not is_over.is_set():
            with trio.move_on_after(random.uniform(0, 0.004)):
                async with store.notices(name) as notices:
                    await notices.wait()
            await trio.sleep(random.uniform(0, 0.003))

    async with (
        open_redis_store(redis_url) as store,
        open_redis_store(redis_url) as other,
        trio.open_nursery() as visitors,
    ):
        async with trio.open_nursery() as nursery:
            for name in "abcd":
                nursery.start_soon(count_on_it, name)
                visitors.start_soon(come_and_go, name)
                visitors.start_soon(come_and_go, name)
        is_over.set()


async def test_confirmation_of_an_earlier_subscription_arms_nobody() -> None:
    """A notice may fall between the end of the earlier one and the beginning of the present one."""
    notifier = module.Notifier(None, Random())  # type: ignore[arg-type]
    waiter = module.Waiter()
    sent: list[object] = []
    for waiters in ({"x": {module.Waiter()}}, {}, {"x": {waiter}}):
        notifier._waiters = waiters
        sent += notifier._changes()
    assert sent == [("SUBSCRIBE", "x"), ("UNSUBSCRIBE", "x"), ("SUBSCRIBE", "x")]

    notifier._hear([b"subscribe", b"x", 1])
    assert not waiter.settled.is_set()
    notifier._hear([b"unsubscribe", b"x", 0])
    notifier._hear([b"subscribe", b"x", 1])
    assert waiter.settled.is_set()
    assert not waiter.noticed.is_set()
