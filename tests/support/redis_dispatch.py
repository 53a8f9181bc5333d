"""What several tests of the dispatch in Redis need."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
import trio

from sercha.adapters.redis import RedisDispatch, open_redis_dispatch
from sercha.adapters.redis.dispatch import GROUP, STREAM
from sercha.errors import Unavailable
from sercha.services.ports import Delivery
from tests.support.connections import until
from tests.support.redis import RedisServer


@asynccontextmanager
async def opened(url: str, consumer: str = "a", **options: float) -> AsyncGenerator[RedisDispatch]:
    with trio.fail_after(60):
        async with open_redis_dispatch(url, consumer, **options) as dispatch:
            await dispatch.open()
            yield dispatch


def ids(count: int) -> list[UUID]:
    return [uuid4() for _ in range(count)]


def tasks(deliveries: list[Delivery]) -> list[UUID]:
    return [each.task_id for each in deliveries]


async def away(step: Callable[[], object]) -> str:
    """Take a step that must fail; return the reason."""
    with trio.fail_after(10), pytest.raises(Unavailable) as caught:
        await step()  # type: ignore[misc]
    assert caught.value.error_code == "redis-away"
    assert caught.value.__cause__ is None
    assert "\n" not in caught.value.message
    return caught.value.message


def consumers(server: RedisServer) -> list[str]:
    return [flat[1] for flat in server.execute("XINFO", "CONSUMERS", STREAM, GROUP)]


def pending(server: RedisServer) -> int:
    return server.execute("XPENDING", STREAM, GROUP)[0]


async def blocked(server: RedisServer, count: int = 1) -> None:
    """Wait until so many reads block in the server."""
    await until(lambda: sum("cmd=xreadgroup" in each for each in server.clients()) == count)


def be_sure(dispatch: RedisDispatch) -> None:
    """Let the next read not begin with what was taken before."""
    dispatch._is_unsure = False
