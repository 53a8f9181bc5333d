"""Fault 29 on real servers: cancelled after each single step of acquiring, renewing, releasing and waiting."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

import lockd
from lockd.postgres import TrioConnection, open_postgres_fence, open_postgres_store
from lockd.redis import open_redis_store
from tests.support.leases import cancelled_at_every_step
from tests.support.redis import RedisServer

TTL = 30.0
CONNECTIONS_MAX = 8


class Ground:
    """A store, and a look at its server from outside."""

    def __init__(self, store: lockd.LeaseStore, postgres: str, redis: RedisServer | None) -> None:
        self.store = store
        self._postgres = postgres
        self._redis = redis

    async def assert_nothing_stays(self) -> None:
        """The lease is free, or was asked for by a request that arrived after its giver-up: for one TTL at most."""
        found = await self.store.inspect("x")
        assert found.remaining is None or 0 < found.remaining <= TTL
        if found.holder is not None:
            await self.store.evict("x")

    async def connections(self) -> tuple[int, int]:
        """Count the store's connections, and those that are in a transaction."""
        connection = await TrioConnection[Any].connect(self._postgres, autocommit=True)
        try:
            cursor = await connection.execute(
                """SELECT count(*), count(*) FILTER (WHERE state LIKE 'idle in transaction%')
                   FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid()"""
            )
            row = await cursor.fetchone()
        finally:
            connection.finish()
        assert row is not None
        count, in_transaction = row
        if self._redis is not None:
            count += len(await trio.to_thread.run_sync(self._redis.clients))
        return count, in_transaction


@pytest.fixture(params=["postgres", "redis"])
def redis_or_none(request: pytest.FixtureRequest) -> RedisServer | None:
    return None if request.param == "postgres" else request.getfixturevalue("redis_server")


@asynccontextmanager
async def ground_on(postgres: str, redis: RedisServer | None) -> AsyncIterator[Ground]:
    if redis is None:
        async with open_postgres_store(postgres, create_tables=True) as store:
            yield Ground(store, postgres, None)
        return
    async with (
        open_postgres_fence(postgres, create_tables=True) as fence,
        open_redis_store(redis.url, fence=fence) as store,
    ):
        yield Ground(store, postgres, redis)


@pytest.mark.parametrize("part", ["acquire", "renew", "release", "wait"])
async def test_cancelled_after_any_step_nothing_stays_and_nothing_leaks(
    postgres_url: str, redis_or_none: RedisServer | None, part: str
) -> None:
    tasks_before = trio.lowlevel.current_statistics().tasks_living
    steps = 0
    async with ground_on(postgres_url, redis_or_none) as ground:
        store = ground.store

        async def act() -> None:
            try:
                async with lockd.hold(store, "x", ttl=TTL) as lease:
                    if part == "renew":
                        await store.renew("x", lease.holder, TTL)
                    lease.check()
            finally:
                with trio.CancelScope(shield=True), trio.fail_after(20):
                    await ground.assert_nothing_stays()

        async def wait() -> None:
            async with lockd.hold(store, "x", ttl=TTL) as holder:
                with trio.move_on_after(0.05):
                    async with lockd.hold(store, "x", ttl=TTL):
                        raise AssertionError("two of us")
                assert (await store.inspect("x")).holder == holder.holder

        with trio.fail_after(100):
            steps = await cancelled_at_every_step(wait if part == "wait" else act)
            await ground.assert_nothing_stays()
        count, in_transaction = await ground.connections()
        async with lockd.hold(store, "x", ttl=TTL, on_busy="raise") as lease:
            lease.check()  # and the store is as good as new

    print(f"{part}: {steps} steps, {count} connections at the end")
    assert steps >= 5
    assert count <= CONNECTIONS_MAX
    assert in_transaction == 0
    assert trio.lowlevel.current_statistics().tasks_living == tasks_before
