"""The commands of `queue_desk` for peers on asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from benchmarks.peers.queue_desk import BATCH, WARM_UP, Desk

AddSoon = Callable[[float], Awaitable[object]]
AddManySoon = Callable[[Sequence[float]], Awaitable[object]]


async def enqueue(desk: Desk, add: AddSoon, add_many: AddManySoon | None) -> None:
    """Carry out ``fill``, ``enqueue`` or ``produce``; what has no call for many is filled by many calls at once."""

    async def gathered(batch: Sequence[float]) -> None:
        await asyncio.gather(*(add(sent) for sent in batch))

    many = add_many or gathered
    if desk.command == "fill":
        desk.wait_go()
        for batch in desk.batches():
            await many(batch)
        desk.tell("ended", count=desk.count)
        return
    for _ in range(WARM_UP if desk.command == "enqueue" else 0):
        await add(0.0)
    desk.wait_go()
    if desk.command == "produce":
        for _ in range(desk.count):
            await asyncio.sleep(desk.gap())
            await add(time.monotonic())
        desk.tell("ended", count=desk.count)
    else:
        begun = time.monotonic()
        count = await _enqueue_for(desk, add, many)
        desk.tell("ended", count=count, seconds=time.monotonic() - begun)


async def _enqueue_for(desk: Desk, add: AddSoon, add_many: AddManySoon) -> int:
    end = time.monotonic() + desk.seconds
    batch = [0.0] * BATCH

    async def call() -> int:
        count = 0
        while time.monotonic() < end:
            if desk.mode == "batched":
                await add_many(batch)
                count += BATCH
            else:
                await add(0.0)
                count += 1
        return count

    if desk.mode != "callers":
        return await call()
    return sum(await asyncio.gather(*(call() for _ in range(BATCH))))
