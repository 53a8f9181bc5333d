"""Requests to Redis that are given up: no wrong reply later, nothing in the way of a release, nothing left."""

from __future__ import annotations

from random import Random
from uuid import UUID, uuid4

import pytest
import trio

from lockd import Granted, Renewal, hold
from lockd.redis import RedisStore, open_redis_store
from sercha.testing import open_proxy
from tests.support.connections import until
from tests.support.redis import RedisServer
from tests.support.redis_leases import leave_unadvised


async def test_release_waits_for_nothing_that_hangs(redis_server: RedisServer) -> None:
    async with open_redis_store(redis_server.url, connections_max=1) as store:
        holder = uuid4()
        assert await store.acquire("x", holder, 30, 0) == Granted(None)
        async with trio.open_nursery() as nursery:
            lane = store._client.requests
            nursery.start_soon(lane.request, ("BLPOP", "nothing", 0))
            nursery.start_soon(store.seen, "y")
            await until(lambda: any("cmd=blpop" in line for line in redis_server.clients()))
            with trio.fail_after(1):
                assert await store.release("x", holder)
            nursery.cancel_scope.cancel()


async def test_request_given_up_leaves_the_way_free(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection of a request that was cancelled is closed, and so are those that share its way."""
    leave_unadvised(monkeypatch)
    async with (
        open_proxy(redis_server.host, redis_server.port) as proxy,
        open_redis_store(redis_server.url_for(proxy.port), connections_max=2) as store,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.seen, "x")
            nursery.start_soon(store.seen, "y")
        for _ in range(20):
            proxy.half_open("server")
            with trio.move_on_after(0.02) as scope:
                await store.acquire("x", uuid4(), 30, 0)
            assert scope.cancelled_caught
            with trio.fail_after(2):
                assert (await store.inspect("x")).holder is None


async def test_cancelled_at_random_moments_no_reply_goes_astray(
    redis_server: RedisServer, seed: int
) -> None:
    """Eight tasks, each with a lease of its own; whatever is cancelled, the next answer is about their own."""
    random = Random(seed)
    cancelled = 0

    async def use(store: RedisStore, name: str) -> None:
        nonlocal cancelled
        holders: set[UUID | None] = {None}
        usual = 0.001
        for _ in range(100):
            began = trio.current_time()
            with trio.move_on_after(random.uniform(0, 1.3) * usual) as scope:
                holders.add(holder := uuid4())
                await store.acquire(name, holder, 1, 0)
                await store.fence(name, holder, (await store.seen(name)).token)
                await store.renew(name, holder, 1)
                await store.release(name, holder)
            if scope.cancelled_caught:
                cancelled += 1
            else:
                usual = 0.7 * usual + 0.3 * (trio.current_time() - began)
            found = await store.inspect(name)
            assert found.name == name
            assert found.holder in holders
            assert (await store.seen(name)).holder in holders
            await store.release(name, holder)
            assert await store.renew(name, holder, 1) is not Renewal.RENEWED

    async with open_redis_store(redis_server.url, connections_max=4) as store:
        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(use, store, f"name {number}")
        assert cancelled > 200
        await until(lambda: len(redis_server.clients()) == len(store._client._links))
        assert len(store._client._links) <= 8
    await until(lambda: redis_server.clients() == [])
    assert all(0 <= redis_server.execute("PTTL", key) <= 1000 for key in leases(redis_server))
    await until(lambda: not leases(redis_server))  # a SET may have come in after its release


async def test_hold_cancelled_at_random_moments_frees_its_lease(
    redis_server: RedisServer, seed: int
) -> None:
    random = Random(seed)

    async def use(store: RedisStore, name: str) -> None:
        for _ in range(40):
            with trio.move_on_after(random.uniform(0, 0.02)):
                async with hold(store, name, ttl=1):
                    await trio.sleep(random.uniform(0, 0.005))
            if random.random() < 0.1:
                redis_server.execute("CLIENT", "KILL", "TYPE", random.choice(["normal", "pubsub"]))

    async with open_redis_store(redis_server.url) as store, trio.open_nursery() as nursery:
        for number in range(8):
            nursery.start_soon(use, store, f"name {number % 4}")
    await until(lambda: redis_server.clients() == [])
    await until(lambda: not leases(redis_server))


async def test_opening_cancelled_at_random_moments_leaves_nothing(
    redis_server: RedisServer, seed: int
) -> None:
    random = Random(seed)
    for _ in range(100):
        with trio.move_on_after(random.uniform(0, 0.004)):
            async with open_redis_store(redis_server.url) as store, store.notices("x"):
                await store.seen("x")
                await trio.sleep_forever()
    await until(lambda: redis_server.clients() == [])


def leases(server: RedisServer) -> list[str]:
    return [key for key in server.execute("KEYS", "lockd:*") if not key.endswith(":token")]
