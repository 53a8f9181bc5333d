"""Sercha's own queue through its public names, dispatched by Redis or by PostgreSQL alone.

With ``QUEUE_PROFILE`` naming a folder a worker writes there what its time went to (which makes it slower).
"""

from __future__ import annotations

import cProfile
import io
import logging
import os
import pstats
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path

import structlog
import trio

import sercha
from benchmarks.peers.queue_desk import BATCH, WARM_UP, Desk
from sercha.services.ports import TaskQueue
from sercha.settings import Role

CONCURRENCY = 10
PROFILE_VARIABLE = "QUEUE_PROFILE"
PROFILE_LINES = 60


def environment(desk: Desk) -> dict[str, str]:
    """Return all that is set; the rest is as it comes."""
    found = {
        "DATABASE_URL": desk.postgres_url,
        "MASTER_KEY": sha256(b"benchmarks.queues").hexdigest(),
        "LOG_LEVEL": "warning",
        "WORKER_CONCURRENCY": str(CONCURRENCY),
    }
    return found | ({"REDIS_URL": desk.redis_url} if desk.variant == "redis" else {})


async def work(desk: Desk, settings: sercha.Settings) -> None:
    """Run tasks until told to stop, then drain."""
    drain, token = trio.Event(), trio.lowlevel.current_trio_token()

    async def noop(attempt: sercha.Attempt) -> None:
        sent = attempt.claim.payload["sent"]
        assert isinstance(sent, float)
        desk.run(sent)

    desk.go_to_work(partial(trio.from_thread.run_sync, drain.set, trio_token=token))
    with profiled(desk):
        await sercha.run_worker(settings, handlers={"noop": noop}, drain=drain)
    desk.end_work()


@contextmanager
def profiled(desk: Desk) -> Generator[None]:
    """Write what the block's time goes to, if that is asked for."""
    folder = os.environ.get(PROFILE_VARIABLE)
    if folder is None:
        yield
        return
    with cProfile.Profile() as profile:
        yield
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(PROFILE_LINES)
    Path(folder, f"{desk.variant}-{os.getpid()}.txt").write_text(text.getvalue())


async def enqueue(desk: Desk, queue: TaskQueue) -> None:
    """Carry out ``fill``, ``enqueue`` or ``produce``."""

    async def add_many(batch: Sequence[float]) -> None:
        await queue.add([sercha.NewTask("noop", {"sent": sent}) for sent in batch])

    if desk.command == "fill":
        desk.wait_go()
        for batch in desk.batches():
            await add_many(batch)
        desk.tell("ended", count=desk.count)
        return
    for _ in range(WARM_UP if desk.command == "enqueue" else 0):
        await add_many([0.0])
    desk.wait_go()
    if desk.command == "produce":
        for _ in range(desk.count):
            await trio.sleep(desk.gap())
            await add_many([time.monotonic()])
        desk.tell("ended", count=desk.count)
        # It goes on living, as what enqueues does; what is announced to Redis is so after the enqueuing.
        await trio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
        return
    begun, count = time.monotonic(), 0
    end = begun + desk.seconds
    batch = [0.0] * (BATCH if desk.mode == "batched" else 1)

    async def call() -> None:
        nonlocal count
        while time.monotonic() < end:
            await add_many(batch)
            count += len(batch)

    async with trio.open_nursery() as callers:
        for _ in range(BATCH if desk.mode == "callers" else 1):
            callers.start_soon(call)
    desk.tell("ended", count=count, seconds=time.monotonic() - begun)


def prepare(desk: Desk) -> None:
    """Make the tables as an operator does."""
    desk.wait_go()
    command = [sys.executable, "-m", "sercha", "migrate"]
    done = subprocess.run(
        command, env={**os.environ, **environment(desk)}, capture_output=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit((done.stdout + done.stderr).decode(errors="replace"))
    desk.tell("ended")


async def run(desk: Desk) -> None:
    settings = sercha.load_settings(environment(desk), role=Role.WORKER)
    if desk.command == "work":
        await work(desk, settings)
    else:
        async with sercha.open_queue(settings) as queue:
            await enqueue(desk, queue)


def main() -> None:
    desk = Desk()
    # A program that embeds the worker configures its log itself.
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    if desk.command == "prepare":
        prepare(desk)
    else:
        trio.run(run, desk)


if __name__ == "__main__":
    main()
