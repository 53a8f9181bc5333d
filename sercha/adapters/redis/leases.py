"""Leases in Redis, with their fence in PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from lockd.postgres import Lend, open_postgres_fence_on
from lockd.redis import RedisStore, open_redis_store
from sercha.errors import SettingsError

PREFIX = "sercha:lock:"
"""Before the name of a lease: the scheduler's is at ``sercha:lock:scheduler``."""


@asynccontextmanager
async def open_redis_leases(url: str, lend: Lend) -> AsyncGenerator[RedisStore]:
    """Keep leases in the Redis at *url* for the block; their fence is in the database that *lend* connects to.

    Neither server need be there yet.

    Raises:
        SettingsError: *url* cannot be used.
    """
    async with AsyncExitStack() as stack:
        fence = await stack.enter_async_context(open_postgres_fence_on(lend))
        try:
            opening = open_redis_store(url, fence=fence, prefix=PREFIX)
            store = await stack.enter_async_context(opening)
        except ValueError as error:
            raise SettingsError(f"REDIS_URL: {error}") from None
        yield store
