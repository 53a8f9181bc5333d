"""Redis behind Sentinels: each new connection goes to whoever is master now."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import pytest
import trio

import lockd._redis_sentinel as module
from lockd import Granted
from lockd.redis import open_redis_store
from sercha.adapters.redis import open_redis_dispatch
from sercha.errors import Unavailable
from tests.support.connections import until
from tests.support.postgres import free_port
from tests.support.redis import RedisServer, wheel_binary
from tests.support.redis_dispatch import away, ids, opened, tasks
from tests.support.sentinel import SERVICE, Sentinel

Factory = Callable[..., RedisServer]


@pytest.fixture
def watch(redis_factory: Factory) -> Iterator[Callable[..., Sentinel]]:
    """Give a maker of running Sentinels: `watch(master)`."""
    found: list[Sentinel] = []

    def make(master: RedisServer, **conf: object) -> Sentinel:
        binary = wheel_binary()
        assert binary is not None
        found.append(Sentinel(binary, master, **conf))
        found[-1].start()
        return found[-1]

    yield make
    for sentinel in found:
        sentinel.remove()


def url_of(*ports: int, password: str = "hush", options: str = "") -> str:
    places = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"redis+sentinel://:{password}@{places}/{SERVICE}/0{options}"


async def test_after_a_failover_leases_and_tasks_go_to_the_new_master(
    redis_factory: Factory, watch: Callable[..., Sentinel]
) -> None:
    old = redis_factory(requirepass="hush", masterauth="hush")
    new = redis_factory(requirepass="hush", masterauth="hush", replicaof=f"127.0.0.1 {old.port}")
    sentinel = watch(old)
    await until(sentinel.replicas)
    offered = ids(3)
    url = url_of(free_port(), sentinel.port)  # the first of them is away
    async with opened(url) as dispatch, open_redis_store(url) as store:
        await dispatch.offer(offered)
        assert await store.acquire("x", uuid4(), 30, 0) == Granted(None)
        taken = await dispatch.receive(1, wait=5)
        await until(lambda: new.execute("XLEN", "sercha:tasks") == 3)
        await trio.to_thread.run_sync(old.kill)
        await until(lambda: sentinel.master() == new.port)

        async def works() -> bool:
            try:
                return await dispatch.confirm(taken) == 2
            except Unavailable:
                return False

        await until(works)
        assert new.execute("XLEN", "sercha:tasks") == 2
        await dispatch.open()
        assert tasks(await dispatch.receive(9, wait=5)) == offered[1:]
        assert await store.acquire("y", uuid4(), 30, 0) == Granted(None)
        assert new.execute("EXISTS", "lockd:y")


@asynccontextmanager
async def stale_sentinel(*answers: tuple[str, int] | None) -> AsyncGenerator[int]:
    """Listen like a Sentinel that has these answers, one for each question; give its port."""
    left = list(answers)

    async def serve(stream: trio.SocketStream) -> None:
        async for _ in stream:
            answer = left.pop(0) if len(left) > 1 else left[0]
            if answer is None:
                await stream.send_all(b"*-1\r\n")
            else:
                host, port = answer[0].encode(), str(answer[1]).encode()
                reply = b"*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(host), host, len(port), port)
                await stream.send_all(reply)

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_whom_a_sentinel_takes_for_the_master_is_asked_itself(
    redis_factory: Factory,
) -> None:
    master = redis_factory(requirepass="hush")
    replica = redis_factory(
        requirepass="hush", masterauth="hush", replicaof=f"127.0.0.1 {master.port}"
    )
    answers = (("127.0.0.1", replica.port), ("127.0.0.1", master.port))
    async with stale_sentinel(*answers) as port, open_redis_dispatch(url_of(port), "a") as it:
        message = await away(it.open)
        assert "it is no master" in message
        assert str(replica.port) in message
        await it.open()


async def test_sentinels_that_do_not_answer_or_know_nothing_are_passed_over(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ASK_SECONDS", 0.2)
    silent, *_ = await trio.open_tcp_listeners(0, host="127.0.0.1")
    silent_port = silent.socket.getsockname()[1]
    async with (
        silent,
        stale_sentinel(None) as ignorant,
        stale_sentinel(("127.0.0.1", redis_server.port)) as knowing,
    ):
        places = f"127.0.0.1:{silent_port},127.0.0.1:{ignorant}"
        async with opened(f"redis+sentinel://{places},127.0.0.1:{knowing}/{SERVICE}") as dispatch:
            assert await dispatch.offer(ids(1)) == 1
        async with open_redis_dispatch(f"redis+sentinel://{places}/{SERVICE}", "a") as dispatch:
            assert "knows no master of this name" in await away(dispatch.open)
        async with open_redis_dispatch(url_of(silent_port), "a") as dispatch:
            assert "no Sentinel answers" in await away(dispatch.open)


async def test_passwords_of_both_are_used_and_not_told(
    redis_factory: Factory, watch: Callable[..., Sentinel]
) -> None:
    master = redis_factory(requirepass="hush")
    sentinel = watch(master, requirepass="still")
    async with opened(url_of(sentinel.port, options="?sentinel_password=still")) as dispatch:
        assert await dispatch.offer(ids(1)) == 1
        assert "still" not in repr(dispatch)
    async with open_redis_dispatch(url_of(sentinel.port), "a") as dispatch:
        assert "uthentication" in await away(dispatch.open)
    wrong = url_of(sentinel.port, options="?sentinel_password=wr0ng")
    async with open_redis_dispatch(wrong, "a") as dispatch:
        assert "wr0ng" not in await away(dispatch.open)
