"""SAQ, on Redis and on PostgreSQL."""

from __future__ import annotations

import asyncio
from typing import Any

from saq import Queue, Worker

from benchmarks.peers import queue_asyncio
from benchmarks.peers.queue_desk import Desk

CONCURRENCY = 2
TTL_SECONDS = -1
"""Nothing is kept of a job that has ended."""


async def run(desk: Desk) -> None:
    queue = Queue.from_url(desk.redis_url if desk.variant == "redis" else desk.postgres_url)
    await queue.connect()

    async def noop(_: Any, *, sent: float) -> None:
        desk.run(sent)

    if desk.command == "prepare":
        desk.wait_go()
        desk.tell("ended")
    elif desk.command == "work":
        worker = Worker(queue, [("noop", noop)], concurrency=CONCURRENCY)
        desk.go_to_work()
        await worker.start()
    else:
        await queue_asyncio.enqueue(
            desk, lambda sent: queue.enqueue("noop", ttl=TTL_SECONDS, sent=sent), None
        )
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(run(Desk()))
