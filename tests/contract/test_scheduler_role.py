"""The role of the scheduler under a lease, kept in PostgreSQL or in Redis: who works, hand-over, loss, outage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import trio

from lockd import LeaseStore
from sercha.adapters.postgres.leases import lend_from, open_postgres_leases
from sercha.adapters.postgres.notices import open_notices
from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from sercha.adapters.redis.leases import open_redis_leases
from sercha.roles.scheduler import (
    CHANNEL,
    LEASE,
    Scheduler,
    SchedulerSettings,
    SchedulerState,
)
from sercha.services.scheduler import Ticker
from tests.support.redis import RedisServer
from tests.support.schedules import Lab, lab_on, open_lab, whole_seconds_ago

LEADING, FOLLOWING = SchedulerState.LEADING, SchedulerState.FOLLOWING
PAUSED, UNLOCKED = SchedulerState.PAUSED, SchedulerState.UNLOCKED


@dataclass
class Node:
    """One process with a scheduler."""

    scheduler: Scheduler
    leases: LeaseStore
    drain: trio.Event
    ended: trio.Event = field(default_factory=trio.Event)

    async def until(self, *states: SchedulerState) -> None:
        await until(lambda: self.scheduler.statistics().state in states)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(30):
        while not condition():
            await trio.sleep(0.005)


@dataclass
class Cluster:
    """Nodes on one database, with their leases there or in Redis."""

    lab: Lab
    url: str
    redis: RedisServer | None
    nursery: trio.Nursery

    async def node(self, **options: Any) -> Node:
        """Start a node, which runs until it is drained or the cluster ends."""
        return await self.nursery.start(partial(self._run, **options))

    @asynccontextmanager
    async def leases(self, pool: ConnectionPool) -> AsyncGenerator[LeaseStore]:
        if self.redis is None:
            async with open_postgres_leases(pool, max_open=10) as store:
                yield store
        else:
            async with open_redis_leases(self.redis.url, lend_from(pool)) as store:
                yield store

    async def _run(
        self,
        *,
        ttl: float = 2.0,
        required: bool = True,
        poll: float = 30.0,
        ticker: Callable[[Ticker], Any] = lambda ticker: ticker,
        task_status: trio.TaskStatus[Node],
    ) -> None:
        settings = SchedulerSettings(lock_required=required, lock_ttl=ttl, poll_interval=poll)
        async with (
            open_pool(self.url) as pool,
            open_notices(pool, [CHANNEL]) as notices,
            self.leases(pool) as leases,
        ):
            lab = lab_on(self.lab.truth, pool)
            scheduler = Scheduler(ticker(lab.ticker), pool, leases, notices, settings)
            node = Node(scheduler, leases, trio.Event())
            task_status.started(node)
            await scheduler.run(drain=node.drain)
        node.ended.set()

    async def enqueued(self, count: int) -> None:
        """Wait until there are so many tasks."""
        with trio.fail_after(30):
            while await self.lab.tasks() < count:
                await trio.sleep(0.01)


@asynccontextmanager
async def open_cluster(url: str, redis: RedisServer | None) -> AsyncGenerator[Cluster]:
    async with open_lab(url) as lab, trio.open_nursery() as nursery:
        yield Cluster(lab, url, redis, nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["postgres", "redis"])
async def cluster(request: pytest.FixtureRequest, postgres_url: str, redis_server: RedisServer):
    async with open_cluster(
        postgres_url, redis_server if request.param == "redis" else None
    ) as cluster:
        yield cluster


async def test_of_two_schedulers_one_works_and_the_other_follows(cluster: Cluster) -> None:
    first = await cluster.node()
    await first.until(LEADING)
    second = await cluster.node()
    await second.until(FOLLOWING)
    await cluster.lab.add_many(20)

    await cluster.enqueued(20)

    assert first.scheduler.statistics().state is LEADING
    assert first.scheduler.statistics().token is not None
    assert second.scheduler.statistics().ticked_at is None
    tokens = await cluster.lab.truth.value("SELECT array_agg(DISTINCT token) FROM schedule_slot")
    assert tokens == [first.scheduler.statistics().token]
    assert (await first.scheduler.probe()).is_healthy
    assert (await second.scheduler.probe()).is_healthy


async def test_a_drain_hands_over_long_before_the_lease_would_expire(cluster: Cluster) -> None:
    first = await cluster.node(ttl=60)
    await first.until(LEADING)
    second = await cluster.node(ttl=60)
    await second.until(FOLLOWING)

    first.drain.set()

    await first.ended.wait()
    assert first.scheduler.statistics().state is SchedulerState.STOPPED
    await second.until(LEADING)
    await cluster.lab.add_many(5)
    await cluster.enqueued(5)


async def test_a_changed_schedule_wakes_the_scheduler(cluster: Cluster) -> None:
    """It waits for the poll interval else, half a minute."""
    node = await cluster.node()
    await node.until(LEADING)
    await until(lambda: node.scheduler.statistics().ticked_at is not None)

    with trio.fail_after(10):
        schedule = await cluster.lab.add(spec="1s")
        while not await cluster.lab.slots(schedule):
            await trio.sleep(0.02)


class StandsStill:
    """A step that stands still inside of its transaction, once."""

    def __init__(self, ticker: Ticker) -> None:
        self._ticker = ticker
        self.inside = trio.Event()
        self.cancelled = trio.Event()

    async def tick(self, open_transaction: Any, *, token: int | None = None) -> Any:
        if self.inside.is_set():
            return await self._ticker.tick(open_transaction, token=token)

        @asynccontextmanager
        async def still() -> AsyncGenerator[Any]:
            async with open_transaction() as tx:
                yield tx
                self.inside.set()
                try:
                    await trio.sleep_forever()
                finally:
                    self.cancelled.set()

        return await self._ticker.tick(still, token=token)

    async def forget(self) -> int:
        return await self._ticker.forget()


async def test_a_lost_lease_cancels_the_step_and_nothing_of_it_stays(cluster: Cluster) -> None:
    await cluster.lab.add_many(10)
    still: list[StandsStill] = []

    def freeze(ticker: Ticker) -> StandsStill:
        still.append(StandsStill(ticker))
        return still[0]

    first = await cluster.node(ttl=1.0, ticker=freeze)
    await still[0].inside.wait()
    second = await cluster.node(ttl=1.0)

    await second.leases.evict(LEASE)

    await still[0].cancelled.wait()
    await cluster.enqueued(10)
    await second.until(LEADING, FOLLOWING)
    assert await cluster.lab.tasks() == 10
    assert await cluster.lab.truth.value("SELECT count(*) FROM schedule_slot") == 10
    assert await cluster.lab.tasks_without_slot() == 0
    assert first.scheduler.statistics().state is not SchedulerState.STOPPED


async def test_a_holder_who_does_not_know_of_his_loss_is_refused_by_the_fence(
    cluster: Cluster,
) -> None:
    """It would renew, and so notice, after twenty seconds only."""
    node = await cluster.node(ttl=60)
    await node.until(LEADING)
    stale = node.scheduler.statistics().token
    assert stale is not None
    async with open_pool(cluster.url) as pool, cluster.leases(pool) as store:
        await store.evict(LEASE)

    await cluster.lab.add_many(5)
    await cluster.enqueued(5)

    tokens = await cluster.lab.truth.value("SELECT array_agg(DISTINCT token) FROM schedule_slot")
    assert tokens == [node.scheduler.statistics().token]
    assert tokens != [stale]


async def test_a_holder_that_fell_silent_is_followed_when_its_time_is_over(
    cluster: Cluster,
) -> None:
    """Nobody releases its lease, as after `kill -9`."""
    async with open_pool(cluster.url) as pool, cluster.leases(pool) as store:
        holder, seen = uuid4(), (await store.seen(LEASE)).token
        await store.acquire(LEASE, holder, 1.5, seen)
        await store.fence(LEASE, holder, seen)
    since = whole_seconds_ago(3 * 3600 + 1)
    schedule = await cluster.lab.away_since(await cluster.lab.add(), since)

    node = await cluster.node()
    await node.until(LEADING)
    await cluster.enqueued(1)

    assert len(await cluster.lab.slots(schedule)) == 2


async def test_required_and_redis_away_pauses_visibly_and_catches_up(
    postgres_url: str, redis_server: RedisServer
) -> None:
    async with open_cluster(postgres_url, redis_server) as cluster:
        node = await cluster.node(ttl=1.0)
        await node.until(LEADING)
        redis_server.stop()
        await node.until(PAUSED)
        await cluster.lab.add_many(7)

        health = await node.scheduler.probe()
        assert not health.is_healthy
        assert not health.is_vital
        assert "the lease cannot be taken" in health.message
        assert await cluster.lab.tasks() == 0

        redis_server.start()
        await node.until(LEADING)
        await cluster.enqueued(7)
        assert (await node.scheduler.probe()).is_healthy
        assert await cluster.lab.truth.value("SELECT count(*) FROM schedule_slot") == 7


async def test_not_required_and_redis_away_goes_on_and_comes_back_to_the_lease(
    postgres_url: str, redis_server: RedisServer
) -> None:
    async with open_cluster(postgres_url, redis_server) as cluster:
        nodes = [await cluster.node(ttl=1.0, required=False, poll=1.0) for _ in range(3)]
        await until(lambda: any(node.scheduler.statistics().state is LEADING for node in nodes))
        redis_server.stop()
        for node in nodes:
            await node.until(UNLOCKED)
        await cluster.lab.add_many(300)

        await cluster.enqueued(300)
        assert not (await nodes[0].scheduler.probe()).is_healthy
        assert await cluster.lab.tasks() == 300
        assert await cluster.lab.truth.value("SELECT count(token) FROM schedule_slot") == 0

        redis_server.start()
        await until(lambda: any(node.scheduler.statistics().state is LEADING for node in nodes))
        for node in nodes:
            await node.until(LEADING, FOLLOWING)
        # The tasks of the first slots wait still, and do the work of these as well.
        await cluster.lab.truth.value("UPDATE schedule SET next_slot = now(), version = version")
        tokens = "SELECT count(token) FROM schedule_slot"
        with trio.fail_after(30):
            while await cluster.lab.truth.value(tokens) != 300:
                await trio.sleep(0.01)
        assert await cluster.lab.truth.value("SELECT count(*) FROM schedule_slot") == 600
        assert await cluster.lab.tasks() == 300


@pytest.mark.parametrize("required", [True, False])
async def test_a_database_that_restarts_is_lived_through(
    postgres_factory: Any, redis_server: RedisServer, required: bool
) -> None:
    server = postgres_factory()
    url = server.url_for(server.create_database())
    async with open_cluster(url, None) as cluster:
        node = await cluster.node(ttl=1.0, required=required, poll=0.2)
        await node.until(LEADING)
        server.stop("immediate")
        await until(lambda: node.scheduler.statistics().error is not None)
        assert not (await node.scheduler.probe()).is_healthy
        server.start()
        await node.until(LEADING)
        await cluster.lab.add_many(5)
        await cluster.enqueued(5)
        await until(lambda: node.scheduler.statistics().error is None)
