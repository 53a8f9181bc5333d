"""The block in which a client of Redis works."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from lockd._redis_address import parse_address
from lockd._redis_client import RedisClient


@asynccontextmanager
async def running(
    client: RedisClient, *tasks: Callable[[], Awaitable[object]]
) -> AsyncGenerator[None]:
    """Run *client*, and *tasks* beside it, for the block; errors of the block leave it as themselves."""
    error: BaseException | None = None
    shield = trio.CancelScope(shield=True)

    async def serve() -> None:
        with shield:
            await client.run(*tasks)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        try:
            await client.ready.wait()
            yield
        except BaseException as caught:  # noqa: ASYNC103, BLE001  # raised again below, outside
            error = caught
        shield.cancel(reason="the client's block has ended")
    if error is not None:
        raise error


@asynccontextmanager
async def open_redis_client(
    url: str, *, connections_max: int, ssl_context: ssl.SSLContext | None = None
) -> AsyncGenerator[RedisClient]:
    """Send requests to the Redis at *url* within the block, for other uses than leases.

    The address is that of `open_redis_store`. Redis need not be there: nothing is connected before the first
    request, and each one raises `StoreUnreachable` when there is no usable answer. Leaving the block closes
    all connections; cancelled, the client goes on working until the block has ended.

    Raises:
        ValueError: *url* cannot be used, or a file that it names; *connections_max* is below 1.
    """
    client = RedisClient(parse_address(url, ssl_context), connections_max)
    async with running(client):
        yield client
