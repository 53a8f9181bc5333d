"""Procrastinate on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from procrastinate import App, PsycopgConnector

from benchmarks.peers import queue_asyncio
from benchmarks.peers.queue_desk import Desk

CONCURRENCY = 10
CONNECTIONS_MAX = 10


async def run(desk: Desk) -> None:
    connector = PsycopgConnector(conninfo=desk.postgres_url, min_size=1, max_size=CONNECTIONS_MAX)
    app = App(connector=connector)

    @app.task(name="noop")
    async def noop(sent: float) -> None:
        desk.run(sent)

    async def add_many(batch: Sequence[float]) -> None:
        await noop.batch_defer_async(*({"sent": sent} for sent in batch))

    async with app.open_async():
        if desk.command == "prepare":
            desk.wait_go()
            await app.schema_manager.apply_schema_async()
            desk.tell("ended")
        elif desk.command == "work":
            desk.go_to_work()
            await app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False)
        else:
            await queue_asyncio.enqueue(desk, lambda sent: noop.defer_async(sent=sent), add_many)


if __name__ == "__main__":
    asyncio.run(run(Desk()))
