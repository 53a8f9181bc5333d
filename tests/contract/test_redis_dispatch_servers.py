"""The dispatch in Redis among strange entries and strange servers: all of it is `Unavailable`, or does not matter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from sercha.adapters.redis import dispatch as module
from sercha.adapters.redis import open_redis_dispatch
from sercha.adapters.redis.dispatch import ENTRIES_MAX, STREAM
from sercha.errors import SettingsError
from tests.contract.test_lease_redis_faults import answering
from tests.contract.test_lease_redis_tls import Secured
from tests.support.connections import until
from tests.support.redis import RedisServer, tls_binary, wheel_binary
from tests.support.redis_dispatch import (
    away,
    ids,
    opened,
    tasks,
)

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-your-own-redis.md"
Factory = Callable[..., RedisServer]


# --- Strange entries, strange servers ---


async def test_entries_that_are_no_tasks_are_removed(redis_server: RedisServer) -> None:
    [one] = ids(1)
    async with opened(redis_server.url) as dispatch:
        redis_server.execute("XADD", STREAM, "*", "task", "hello")
        redis_server.execute("XADD", STREAM, "*", "a", "1", "b", "2")
        assert await dispatch.receive(1, wait=0) == []
        await dispatch.offer([one])
        assert tasks(await dispatch.receive(9, wait=5)) == [one]
        assert redis_server.execute("XLEN", STREAM) == 1


async def test_offers_at_the_same_time_give_each_id_one_entry(redis_server: RedisServer) -> None:
    offered = ids(200)
    async with opened(redis_server.url) as a, opened(redis_server.url, "b") as b:
        async with trio.open_nursery() as nursery:
            for dispatch in (a, b) * 4:
                nursery.start_soon(dispatch.offer, offered)
        assert tasks(await a.receive(1000, wait=5)) == offered


async def test_the_stream_has_an_end(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ENTRIES_MAX == 10_000
    monkeypatch.setattr(module, "ENTRIES_MAX", 5)
    async with opened(redis_server.url) as dispatch:
        assert await dispatch.offer(ids(4)) == 4
        assert await dispatch.offer(ids(4)) == 5
        await dispatch.announce(ids(4), at_most=100)
        assert await dispatch.offer(ids(4)) == 5


async def test_many_ids_at_once_are_no_trouble(redis_server: RedisServer) -> None:
    offered = ids(9_000)
    async with opened(redis_server.url) as dispatch:
        assert await dispatch.offer(offered) == 9_000
        taken = await dispatch.receive(9_000, wait=5)
        assert tasks(taken) == offered
        assert await dispatch.confirm(taken) == 0


async def test_what_an_operator_has_to_mend_is_said(redis_factory: Factory) -> None:
    server = redis_factory(requirepass="hush")
    async with opened(server.url) as dispatch:
        await dispatch.offer(ids(2))
        replica = redis_factory(replicaof=f"127.0.0.1 {server.port}", masterauth="hush")
        async with open_redis_dispatch(replica.url, "r") as other:
            assert "read only replica" in await away(partial(other.offer, ids(1)))
        server.execute("CONFIG", "SET", "maxmemory", "1")
        assert "maxmemory" in await away(partial(dispatch.offer, ids(1)))
        server.execute("CONFIG", "SET", "maxmemory", "0")
        server.execute("DEL", STREAM)
        server.execute("SET", STREAM, "x")
        for step in (
            dispatch.open,
            partial(dispatch.receive, 1, wait=0),
            partial(dispatch.offer, ids(1)),
            partial(dispatch.sweep, idle=0),
        ):
            assert "WRONGTYPE" in await away(step)
    async with open_redis_dispatch(f"redis://127.0.0.1:{server.port}", "a") as dispatch:
        assert "Authentication required" in await away(dispatch.open)
    async with open_redis_dispatch(f"redis://:wr0ng@127.0.0.1:{server.port}", "a") as dispatch:
        assert "wr0ng" not in await away(dispatch.open)


@pytest.mark.parametrize(
    "reply",
    [
        "-MOVED 3999 127.0.0.1:6381",
        "-LOADING Redis is loading the dataset in memory",
        "-BUSY Redis is busy running a script",
        "-MISCONF Errors writing to the AOF file",
        "-NOPERM this user has no permissions",
        "-NOGROUP No such key",
        "-UNBLOCKED the stream key no longer exists",
        "$-2",
        "$5\r\nhello",
        "*1\r\n*2\r\n:1\r\n:2",
        "*1\r\n*2\r\n+a\r\n*1\r\n*2\r\n:1\r\n:2",
        "HTTP/1.1 400 Bad Request",
    ],
)
async def test_whatever_a_server_says_it_is_unavailable(reply: str) -> None:
    async with answering(f"{reply}\r\n".encode()) as url:
        bare = url[:8] + url.partition("@")[2]  # no AUTH: the answer goes to our own command
        async with open_redis_dispatch(bare, "a") as dispatch:
            await away(partial(dispatch.receive, 1, wait=0.01))
            await away(partial(dispatch.offer, ids(1)))
            await away(partial(dispatch.sweep, idle=1))
            await away(dispatch.open)


async def test_the_rights_that_the_page_grants_are_enough(redis_factory: Factory) -> None:
    [line] = [each for each in PAGE.read_text().splitlines() if each.startswith("ACL SETUSER")]
    for binary in (wheel_binary(), tls_binary() or wheel_binary()):
        server = redis_factory(binary=binary)
        server.execute(*line.split())
        async with opened(f"redis://sercha:secret@127.0.0.1:{server.port}/0") as dispatch:
            await dispatch.announce(ids(1), at_most=5)
            await dispatch.offer(ids(1))
            assert await dispatch.confirm(await dispatch.receive(5, wait=5)) == 0
            assert await dispatch.sweep(idle=0) == []
            assert await dispatch.receive(5, wait=0.01) == []


async def test_an_address_that_cannot_be_used_names_the_setting() -> None:
    for url in ("redis://:hush@box/hush", "rediss://box?ssl_ca_certs=/nowhere/ca.pem"):
        with pytest.raises(SettingsError, match=r"^REDIS_URL: ") as caught:
            async with open_redis_dispatch(url, "a"):
                raise AssertionError("it was opened")
        assert "hush" not in caught.value.message


async def test_errors_of_the_block_leave_it_as_themselves(redis_server: RedisServer) -> None:
    with pytest.raises(ZeroDivisionError):
        async with open_redis_dispatch(redis_server.url, "a"):
            raise ZeroDivisionError
    await until(lambda: redis_server.clients() == [])


async def test_over_tls_with_a_password(
    redis_factory: Factory, tmp_path: Path, require: Callable[[str, object, str], None]
) -> None:
    require("redis-tls", tls_binary(), "no redis-server with TLS is installed on this system")
    secured = Secured(redis_factory, tmp_path)
    [one] = ids(1)
    async with opened(secured.url()) as dispatch:
        await dispatch.offer([one])
        assert tasks(await dispatch.receive(1, wait=5)) == [one]
    async with open_redis_dispatch(secured.url(host="127.0.0.1"), "a") as dispatch:
        assert "hush" not in await away(dispatch.open)
