"""ARQ on Redis."""

from __future__ import annotations

import asyncio
from typing import Any

from arq import Worker, create_pool, func
from arq.connections import RedisSettings

from benchmarks.peers import queue_asyncio
from benchmarks.peers.queue_desk import Desk

JOBS_MAX = 500
POLL_SECONDS = 0.01


async def run(desk: Desk) -> None:
    settings = RedisSettings.from_dsn(desk.redis_url)

    async def noop(_: Any, sent: float) -> None:
        desk.run(sent)

    if desk.command == "work":
        worker = Worker(
            [func(noop, name="noop", keep_result=0)],
            redis_settings=settings,
            max_jobs=JOBS_MAX,
            poll_delay=POLL_SECONDS,
            log_results=False,
            handle_signals=False,
        )
        desk.go_to_work()
        await worker.async_run()
    pool = await create_pool(settings)
    await queue_asyncio.enqueue(desk, lambda sent: pool.enqueue_job("noop", sent), None)
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(run(Desk()))
