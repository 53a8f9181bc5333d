"""Redis that is away, refuses, stands still, forgets, or is set to forget."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import pytest
import trio
import trio.testing

import lockd._redis_client as module
from lockd import (
    Busy,
    EventKind,
    Granted,
    Lease,
    LeaseLost,
    LossReason,
    StoreUnreachable,
    hold,
    lead,
)
from lockd.redis import RedisStore, open_redis_store
from sercha.testing import open_proxy
from tests.support.connections import until
from tests.support.leases import Diary
from tests.support.redis import RedisServer
from tests.support.redis_leases import leave_unadvised

Factory = Callable[..., RedisServer]


async def unreachable(store: RedisStore) -> str:
    """Ask, and return the reason why there is no answer."""
    with trio.fail_after(10), pytest.raises(StoreUnreachable) as caught:
        await store.acquire("x", uuid4(), 30, 0)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.__cause__ is None
    return message


# --- Away ---


async def test_server_that_is_away_is_unreachable_and_lead_recovers(redis_factory: Factory) -> None:
    server = redis_factory(requirepass="hush")
    server.stop()
    diary = Diary()
    terms: list[int] = []

    async def act(lease: Lease) -> None:
        terms.append(lease.token)
        await trio.sleep_forever()

    async with open_redis_store(server.url) as store, trio.open_nursery() as nursery:
        message = await unreachable(store)
        assert f"redis://127.0.0.1:{server.port}/0: " in message
        assert "Connection refused" in message
        assert "hush" not in message

        nursery.start_soon(partial(lead, store, "x", act, ttl=1, observe=diary))
        await diary.wait_for(EventKind.STORE_FAILED, times=3)
        await trio.to_thread.run_sync(server.start)
        await diary.wait_for(EventKind.ACQUIRED)
        await trio.to_thread.run_sync(server.stop)
        await diary.wait_for(EventKind.LOST)
        await trio.to_thread.run_sync(server.start)
        await diary.wait_for(EventKind.ACQUIRED, times=2)
        nursery.cancel_scope.cancel()
    assert len(terms) == 2
    assert terms[0] < terms[1]


@pytest.mark.parametrize("kill", [False, True])
async def test_restart_within_the_ttl_loses_nothing(redis_factory: Factory, kill: bool) -> None:
    server = redis_factory(appendonly="yes")
    diary = Diary()
    async with (
        open_redis_store(server.url) as store,
        hold(store, "x", ttl=3, observe=diary) as lease,
    ):
        for times in (1, 2):
            await trio.to_thread.run_sync(partial(server.restart, kill=kill))
            await diary.wait_for(EventKind.RENEWED, times=times)
        lease.check()
        assert server.execute("GET", "lockd:x") == str(lease.holder)
    assert (
        diary.count(EventKind.RENEW_FAILED) == 0
    )  # ended connections are seen before they are used


async def test_restart_without_data_is_a_loss(redis_factory: Factory) -> None:
    server = redis_factory(appendonly="no")
    async with open_redis_store(server.url) as store:
        with trio.fail_after(10), pytest.raises(LeaseLost) as caught:
            async with hold(store, "x", ttl=2):
                await trio.to_thread.run_sync(server.restart)
                await trio.sleep_forever()
    assert caught.value.reason is LossReason.GONE


async def test_server_that_stands_still_costs_the_lease_before_its_ttl(
    redis_factory: Factory,
) -> None:
    server = redis_factory()
    async with open_redis_store(server.url) as store:
        with trio.fail_after(10), pytest.raises(LeaseLost) as caught:
            async with hold(store, "x", ttl=1) as lease:
                server.pause()
                began = trio.current_time()
                try:
                    await lease.lost.wait()
                finally:
                    assert trio.current_time() - began < 1
                    server.resume()  # and the release finds a way at once
        assert caught.value.reason is LossReason.EXPIRED
        await until(lambda: server.execute("EXISTS", "lockd:x") == 0)


async def test_request_without_an_answer_ends_by_itself(
    redis_factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.2)
    server = redis_factory()
    async with open_redis_store(server.url) as store:
        assert await store.inspect("x")
        server.pause()
        began = trio.current_time()
        assert "no answer within 0.2 s" in await unreachable(store)
        assert trio.current_time() - began < 1
        server.resume()
        assert (await store.inspect("y")).holder is None


async def test_cut_in_the_middle_of_a_reply_is_unreachable(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_unadvised(monkeypatch)
    async with (
        open_proxy(redis_server.host, redis_server.port) as proxy,
        open_redis_store(redis_server.url_for(proxy.port)) as store,
    ):
        holder = uuid4()
        assert await store.acquire("x", holder, 30, 0) == Granted(None)
        for n in range(1, 5):
            for is_reset in (False, True):
                proxy.cut_after(n, "down", reset=is_reset, times=1)
                with pytest.raises(StoreUnreachable):
                    await store.acquire("x", uuid4(), 30, 0)
                proxy.heal()
                found = await store.acquire("x", uuid4(), 30, 0)
                assert isinstance(found, Busy)
                assert found.holder == holder


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_server_that_closes_at_once_is_refused_at_once(scheme: str) -> None:
    async with open_proxy("127.0.0.1", 1) as proxy:
        proxy.refuse_new()
        async with open_redis_store(f"{scheme}://:hush@127.0.0.1:{proxy.port}") as store:
            for _ in range(40):
                with trio.fail_after(1):
                    await unreachable(store)


async def test_idle_connections_that_the_server_closed_cost_nothing(
    redis_server: RedisServer,
) -> None:
    async with open_redis_store(redis_server.url) as store:
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(store.seen, "x")
            redis_server.execute("CLIENT", "KILL", "TYPE", "normal")
            await until(lambda: redis_server.clients() == [])
            await trio.testing.wait_all_tasks_blocked()


async def test_idle_connection_that_was_reset_costs_nothing(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_unadvised(monkeypatch)
    async with (
        open_proxy(redis_server.host, redis_server.port) as proxy,
        open_redis_store(redis_server.url_for(proxy.port)) as store,
    ):
        for _ in range(5):
            await store.seen("x")
            [link] = store._client._links
            transport = link._transport
            assert transport is not None
            proxy.reset()
            await until(transport.is_closing)


async def test_connection_that_ended_never_connects_again(redis_server: RedisServer) -> None:
    """redis-py would connect anew, and send a request a second time whose first fate nobody knows."""
    async with open_redis_store(redis_server.url) as store:
        client = store._client
        await client.ready.wait()
        link = await client.open_link()
        assert await client.call(link.exchange([("PING",)])) == [b"PONG"]
        redis_server.execute("CLIENT", "KILL", "TYPE", "normal")
        await until(lambda: redis_server.clients() == [])
        for _ in range(2):
            with pytest.raises(StoreUnreachable):
                await client.call(link.receive())
            with pytest.raises(StoreUnreachable):
                await client.call(link.send([("PING",)]))
            assert await client.call(link.exchange([("PING",)])) is None
            client.drop(link)
        assert redis_server.clients() == []


# --- Refused ---


async def test_password_is_needed_and_never_told(redis_factory: Factory) -> None:
    server = redis_factory(requirepass="right:p@ss/w%rd#1")
    async with open_redis_store(server.url) as store:
        assert await store.acquire("x", uuid4(), 30, 0) == Granted(None)
        assert "right" not in repr(store) + str(store)
    async with open_redis_store(f"redis://127.0.0.1:{server.port}") as store:
        assert "Authentication required" in await unreachable(store)
    async with open_redis_store(f"redis://:wr0ng@127.0.0.1:{server.port}") as store:
        message = await unreachable(store)
        assert "invalid username-password pair" in message
        assert "wr0ng" not in message
    async with open_redis_store(f"{server.url[:-2]}/99") as store:
        assert "out of range" in await unreachable(store)


async def test_replica_is_no_place_for_a_lease(redis_factory: Factory) -> None:
    primary = redis_factory()
    replica = redis_factory(replicaof=f"127.0.0.1 {primary.port}")
    async with open_redis_store(replica.url) as store:
        assert "read only replica" in await unreachable(store)
        with pytest.raises(StoreUnreachable):
            await store.fence("x", uuid4(), 0)
        with pytest.raises(StoreUnreachable):
            await hold_for_a_moment(store)
        replica.execute("REPLICAOF", "NO", "ONE")
        assert await store.acquire("x", uuid4(), 30, 0) == Granted(None)


async def hold_for_a_moment(store: RedisStore) -> None:
    async with hold(store, "x", ttl=1):
        raise AssertionError("a replica gave a lease")


@asynccontextmanager
async def answering(reply: bytes) -> AsyncGenerator[str]:
    """Listen like a server that has one answer to everything; give its address."""

    async def serve(stream: trio.SocketStream) -> None:
        async for _ in stream:
            await stream.send_all(reply)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        yield f"redis://:hush@127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "reply",
    [
        "-MOVED 3999 127.0.0.1:6381",
        "-ASK 3999 127.0.0.1:6381",
        "-CLUSTERDOWN The cluster is down",
        "-LOADING Redis is loading the dataset in memory",
        "-MASTERDOWN Link with MASTER is down",
        "-NOAUTH Authentication required.",
        "-NOPERM this user has no permissions",
        "-OOM command not allowed when used memory > 'maxmemory'.",
        "-BUSY Redis is busy running a script",
        "-MISCONF Errors writing to the AOF file",
        "-ERR max number of clients reached",
        "-ERR unknown command 'AUTH', with args beginning with: 'hush'",
        "HTTP/1.1 400 Bad Request",
        "$-2",
        "",
    ],
)
async def test_whatever_a_server_says_is_one_line_without_the_password(reply: str) -> None:
    async with answering(f"{reply}\r\n".encode()) as url, open_redis_store(url) as store:
        message = await unreachable(store)
        assert "hush" not in message
        with pytest.raises(StoreUnreachable):
            await store.release("x", uuid4())


@pytest.mark.parametrize("reply", ["-MOVED 3999 127.0.0.1:6381", "-READONLY no", "$-1", "+OK"])
async def test_odd_answers_to_scripts_are_no_answers(reply: str) -> None:
    async with (
        answering(f"{reply}\r\n".encode()) as url,
        open_redis_store(url[:8] + url[14:]) as it,
    ):
        with pytest.raises(StoreUnreachable):
            await it.renew("x", uuid4(), 30)


# --- The server's settings ---


async def warnings_of(
    url: str, is_asked: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> list[str]:
    """Use the server three times; return what was logged once it has been asked for its settings."""
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="lockd"):
        async with open_redis_store(url) as store:
            for _ in range(3):
                await store.seen("x")
            await until(is_asked)
            await trio.testing.wait_all_tasks_blocked(0.05)
    return [record.message for record in caplog.records if record.name == "lockd"]


async def test_server_that_may_forget_is_warned_of_once(
    redis_factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    server = redis_factory(appendonly="no", maxmemory_policy="allkeys-lru", requirepass="hush")
    server.flush()
    [warning] = await warnings_of(server.url, lambda: server.calls("config|get") == 2, caplog)
    assert "maxmemory-policy is not noeviction" in warning
    assert "appendonly is off" in warning
    assert "hush" not in warning

    server.execute("CONFIG", "SET", "appendonly", "yes")
    server.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.flush()
    assert await warnings_of(server.url, lambda: server.calls("config|get") == 2, caplog) == []

    server.execute("CONFIG", "SET", "appendonly", "no")
    server.execute("ACL", "SETUSER", "clerk", "on", ">pw", "~*", "&*", "+@all", "-config")
    url = f"redis://clerk:pw@127.0.0.1:{server.port}"
    assert await warnings_of(url, lambda: server.execute("ACL", "LOG"), caplog) == []
