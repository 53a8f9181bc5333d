"""The dispatch in Redis under faults: nothing that was put in is ever out of reach."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from uuid import UUID

import pytest
import trio
import trio.testing

import lockd._redis_client as client_module
from sercha.adapters.redis import RedisDispatch
from sercha.adapters.redis import dispatch as module
from sercha.adapters.redis.dispatch import GROUP, STREAM
from sercha.errors import Unavailable
from sercha.services.ports import Delivery
from sercha.testing import open_proxy
from tests.support.connections import until
from tests.support.redis import RedisServer, tls_binary
from tests.support.redis_dispatch import (
    away,
    be_sure,
    blocked,
    consumers,
    ids,
    opened,
    pending,
    tasks,
)

Factory = Callable[..., RedisServer]


# --- Data that are lost ---


async def test_what_was_flushed_can_be_offered_again_at_once(redis_server: RedisServer) -> None:
    offered = ids(3)
    async with opened(redis_server.url) as dispatch:
        await dispatch.offer(offered)
        taken = await dispatch.receive(1, wait=5)
        redis_server.flush()
        assert await dispatch.receive(1, wait=0) == []  # the group is made again on the way
        assert await dispatch.confirm(taken) == 0
        assert await dispatch.offer(offered) == 3
        assert tasks(await dispatch.receive(9, wait=5)) == offered


async def test_a_flush_wakes_a_waiting_reader_that_reads_on(redis_server: RedisServer) -> None:
    [one] = ids(1)
    found: list[Delivery] = []

    async def read(dispatch: RedisDispatch) -> None:
        found.extend(await dispatch.receive(1, wait=30))

    async with opened(redis_server.url) as dispatch, trio.open_nursery() as nursery:
        nursery.start_soon(read, dispatch)
        await blocked(redis_server)
        redis_server.execute("FLUSHALL")
        await until(lambda: redis_server.execute("EXISTS", STREAM))
        await dispatch.offer([one])
    assert tasks(found) == [one]


@pytest.mark.parametrize("binary", ["wheel", "system"])
async def test_a_group_that_was_destroyed_begins_with_the_oldest_entry(
    redis_factory: Factory, binary: str, require: Callable[..., None]
) -> None:
    if binary == "system":
        require("redis-tls", tls_binary(), "no redis-server here")
    server = redis_factory(**({"binary": tls_binary()} if binary == "system" else {}))
    offered = ids(3)
    async with opened(server.url) as dispatch:
        await dispatch.offer(offered)
        await dispatch.receive(2, wait=5)
        server.execute("XGROUP", "DESTROY", STREAM, GROUP)
        assert tasks(await dispatch.receive(9, wait=5)) == offered
        server.execute("XGROUP", "DESTROY", STREAM, GROUP)
        assert await dispatch.sweep(idle=0) == []
        server.execute("DEL", STREAM)
        assert await dispatch.sweep(idle=0) == []
        server.execute("DEL", STREAM)
        assert await dispatch.offer(offered) == 3


async def test_a_group_that_is_destroyed_under_a_reader_is_made_again(
    redis_server: RedisServer,
) -> None:
    found: list[Delivery] = []

    async def read(dispatch: RedisDispatch) -> None:
        found.extend(await dispatch.receive(1, wait=30))

    async with opened(redis_server.url) as dispatch, trio.open_nursery() as nursery:
        nursery.start_soon(read, dispatch)
        await blocked(redis_server)
        redis_server.execute("XGROUP", "DESTROY", STREAM, GROUP)
        await dispatch.offer(ids(1))
    assert found


@pytest.mark.parametrize("kill", [False, True])
async def test_a_restart_with_data_gives_back_what_was_taken(
    redis_factory: Factory, kill: bool
) -> None:
    server = redis_factory(appendonly="yes", appendfsync="always")
    offered = ids(4)
    async with opened(server.url) as dispatch:
        await dispatch.offer(offered)
        taken = await dispatch.receive(2, wait=5)
        await trio.to_thread.run_sync(partial(server.restart, kill=kill))
        assert tasks(await dispatch.receive(9, wait=5)) == offered[2:]
        await dispatch.open()
        assert await dispatch.receive(2, wait=5) == taken


async def test_a_restart_without_data_needs_only_another_offer(redis_factory: Factory) -> None:
    server = redis_factory(appendonly="no")
    offered = ids(3)
    async with opened(server.url) as dispatch:
        await dispatch.offer(offered)
        await dispatch.receive(1, wait=5)
        await trio.to_thread.run_sync(server.restart)
        assert await dispatch.receive(9, wait=0) == []
        assert await dispatch.offer(offered) == 3
        assert tasks(await dispatch.receive(9, wait=5)) == offered


# --- Answers that are lost ---


async def test_a_server_that_is_away_is_said_and_come_back_it_works(
    redis_factory: Factory,
) -> None:
    server = redis_factory(requirepass="hush")
    async with opened(server.url) as dispatch:
        await dispatch.offer(ids(2))
        server.stop()
        for step in (
            dispatch.open,
            partial(dispatch.receive, 1, wait=1),
            partial(dispatch.confirm, []),
            partial(dispatch.offer, ids(1)),
            partial(dispatch.announce, ids(1), at_most=5),
            partial(dispatch.sweep, idle=1),
        ):
            message = await away(step)
            assert "Connection refused" in message
            assert "hush" not in message
        await trio.to_thread.run_sync(server.start)
        await dispatch.open()
        assert len(await dispatch.receive(5, wait=5)) == 2


async def test_a_server_that_stands_still_costs_a_bounded_time(
    redis_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "REQUEST_SECONDS", 0.3)
    server = redis_factory()
    async with opened(server.url) as dispatch:
        server.pause()
        assert "no answer within" in await away(partial(dispatch.receive, 1, wait=0.1))
        assert "no answer within" in await away(partial(dispatch.offer, ids(1)))
        server.resume()
        await dispatch.open()


async def test_a_long_wait_is_not_cut_short(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK_SECONDS_MAX", 0.05)
    async with opened(redis_server.url) as dispatch:
        began = trio.current_time()
        assert await dispatch.receive(1, wait=0.5) == []
        assert trio.current_time() - began >= 0.5


@pytest.mark.parametrize("byte", [0, 1, 30, 100])
async def test_entries_whose_answer_was_lost_come_with_the_next_read(
    redis_server: RedisServer, byte: int
) -> None:
    offered = ids(3)
    async with (
        open_proxy(redis_server.host, redis_server.port) as proxy,
        opened(redis_server.url_for(proxy.port)) as dispatch,
    ):
        be_sure(dispatch)
        assert await dispatch.receive(1, wait=0) == []
        await dispatch.offer(offered)
        proxy.cut_after(byte, "down", times=1)
        await away(partial(dispatch.receive, 2, wait=5))
        proxy.heal()
        assert tasks(await dispatch.receive(2, wait=5)) == offered[:2]
        assert tasks(await dispatch.receive(2, wait=5)) == offered[2:]


async def test_a_sweep_whose_answer_was_lost_comes_with_the_next_read(
    redis_server: RedisServer,
) -> None:
    async with (
        open_proxy(redis_server.host, redis_server.port) as proxy,
        opened(redis_server.url_for(proxy.port)) as dispatch,
        opened(redis_server.url, "dead") as dead,
    ):
        assert await dispatch.sweep(idle=0) == []  # from now on the server knows the script
        await dead.offer(ids(3))
        taken = await dead.receive(3, wait=5)
        be_sure(dispatch)
        proxy.lose_next_reply()
        await away(partial(dispatch.sweep, idle=0))
        assert await dispatch.receive(9, wait=5) == taken


async def test_a_read_that_outlives_its_reader_in_the_server_loses_nothing(
    redis_server: RedisServer,
) -> None:
    """The server hands out to a blocked read whose end it has not noticed, after the next read has begun."""
    [one] = ids(1)
    async with (
        open_proxy(redis_server.host, redis_server.port) as proxy,
        opened(redis_server.url_for(proxy.port)) as dispatch,
    ):
        be_sure(dispatch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(away, partial(dispatch.receive, 1, wait=30))
            await blocked(redis_server)
            proxy.half_open("client")
        assert await dispatch.receive(1, wait=0) == []
        await dispatch.offer([one])
        await until(lambda: pending(redis_server) == 1)
        assert tasks(await dispatch.receive(1, wait=5)) == [one]


async def test_what_the_caller_has_in_hand_is_not_given_to_it_again(
    redis_server: RedisServer,
) -> None:
    async with (
        open_proxy(redis_server.host, redis_server.port) as proxy,
        opened(redis_server.url_for(proxy.port)) as dispatch,
    ):
        offered = ids(6)
        await dispatch.offer(offered)
        in_hand = await dispatch.receive(4, wait=5)
        proxy.lose_next_reply()
        await away(partial(dispatch.receive, 1, wait=5))
        found = [await dispatch.receive(1, wait=0) for _ in range(3)]
        assert [tasks(each) for each in found] == [[offered[4]], [offered[5]], []]
        await dispatch.open()
        assert tasks(await dispatch.receive(4, wait=0)) == tasks(in_hand)


@pytest.mark.parametrize("fault", ["cancel", "cut"])
async def test_at_whatever_moment_a_read_ends_every_entry_is_seen(
    redis_server: RedisServer, seed: int, fault: str
) -> None:
    random = Random(seed)
    offered = ids(400)
    seen: set[UUID] = set()

    async def work(dispatch: RedisDispatch) -> None:
        while True:
            try:
                taken = await dispatch.receive(random.randint(1, 5), wait=0.02)
                seen.update(tasks(taken))
                await dispatch.confirm(taken)
            except Unavailable:
                assert fault == "cut"

    async with (
        open_proxy(redis_server.host, redis_server.port, seed=seed) as proxy,
        opened(redis_server.url_for(proxy.port)) as dispatch,
        opened(redis_server.url, "other") as other,
    ):
        be_sure(dispatch)
        for start in range(0, len(offered), 5):
            async with trio.open_nursery() as nursery:
                if fault == "cut":
                    proxy.cut_after(random.randrange(400), "down", times=1)
                nursery.start_soon(other.offer, offered[start : start + 5])
                with trio.move_on_after(random.random() * 0.03):
                    await work(dispatch)
        proxy.heal()
        print(f"seen under faults: {len(seen)} of {len(offered)}")
        while seen != set(offered):  # bounded by `opened`
            taken = await dispatch.receive(50, wait=0.1)
            seen.update(tasks(taken))
        await dispatch.open()
        while await dispatch.confirm(await dispatch.receive(50, wait=0.1)):
            pass
        assert pending(redis_server) == 0


# --- What dead consumers leave ---


async def test_removing_a_consumer_never_drops_what_it_holds(redis_server: RedisServer) -> None:
    async with opened(redis_server.url, "dead") as dead:
        await dead.offer(ids(1200))
        taken = await dead.receive(1200, wait=5)
    async with opened(redis_server.url, "b", forget_after=0) as b:
        first = await b.sweep(idle=0)
        assert len(first) == 1000
        assert consumers(redis_server) == ["b", "dead"]
        assert pending(redis_server) == 1200
        await b.confirm(first)
        assert first + await b.sweep(idle=0) == taken
        assert consumers(redis_server) == ["b"]


async def test_a_consumer_that_asks_now_and_then_stays(redis_server: RedisServer) -> None:
    async with opened(redis_server.url, "a") as a, opened(redis_server.url, "b") as b:
        await a.receive(1, wait=0)
        await b.receive(1, wait=0)
        assert await b.sweep(idle=0) == []
        assert consumers(redis_server) == ["a", "b"]


async def test_entries_that_nobody_holds_any_more_can_be_offered_again(
    redis_server: RedisServer,
) -> None:
    offered = ids(4)
    async with opened(redis_server.url, "a") as a, opened(redis_server.url, "b") as b:
        await a.offer(offered)
        held = await b.receive(1, wait=5)
        await a.receive(2, wait=5)
        redis_server.execute("XGROUP", "DELCONSUMER", STREAM, GROUP, "a")
        assert await b.offer(offered) == 4
        assert await b.sweep(idle=600) == []
        assert redis_server.execute("XLEN", STREAM) == 2
        assert await b.offer(offered) == 4
        rest = await b.receive(9, wait=5)
        assert tasks(rest) == [offered[3], offered[1], offered[2]]
        assert await b.confirm([*held, *rest]) == 0


async def test_an_entry_that_was_deleted_by_hand_is_forgotten(redis_server: RedisServer) -> None:
    async with opened(redis_server.url) as dispatch:
        await dispatch.offer(ids(2))
        gone, kept = await dispatch.receive(2, wait=5)
        redis_server.execute("XDEL", STREAM, gone.entry)
        await dispatch.open()
        assert await dispatch.receive(9, wait=5) == [kept]
        assert pending(redis_server) == 1
