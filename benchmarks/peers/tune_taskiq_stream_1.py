"""Taskiq on a Redis stream: what `taskiq worker` runs in one worker process."""

from __future__ import annotations

import asyncio

from taskiq import InMemoryBroker  # noqa: F401  (its import registers what the receiver needs)
from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

from benchmarks.peers import queue_asyncio
from benchmarks.peers.queue_desk import Desk

CONNECTIONS_MAX = 50
PREFETCH = 0


async def run(desk: Desk) -> None:
    broker = RedisStreamBroker(
        desk.redis_url, max_connection_pool_size=CONNECTIONS_MAX, timeout=None
    )

    @broker.task
    async def noop(sent: float) -> None:
        desk.run(sent)

    await broker.startup()
    if desk.command == "work":
        desk.go_to_work()
        await run_receiver_task(broker, validate_params=False, max_prefetch=PREFETCH)
    await queue_asyncio.enqueue(desk, noop.kiq, None)


if __name__ == "__main__":
    asyncio.run(run(Desk()))
