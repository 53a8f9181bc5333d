"""From an address to the store behind it; the driver is imported only when it is needed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from lockd._store import LeaseStore

SCHEMES = ("redis://", "rediss://", "postgresql://", "postgres://")


@asynccontextmanager
async def open_store(address: str) -> AsyncGenerator[LeaseStore]:
    """Open the store at *address* for the block; its tables are made where they are missing.

    Raises:
        ImportError: the driver is not installed.
        ValueError: no store has such an address.
    """
    if address.startswith(("redis://", "rediss://")):
        from lockd.redis import open_redis_store

        async with open_redis_store(address) as store:
            yield store
    elif address.startswith(SCHEMES):
        from lockd.postgres import open_postgres_store

        async with open_postgres_store(address, create_tables=True) as store:
            yield store
    else:
        # The address itself is not said: it may hold a password.
        raise ValueError(f"an address of a store begins with {', '.join(SCHEMES)}")
