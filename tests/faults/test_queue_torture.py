"""Random kills, stops, and losses of Redis under thousands of tasks: nothing is lost, nothing is done twice."""

from __future__ import annotations

import random
from functools import partial

import pytest
import trio

from tests.support.queue.checks import Verdict
from tests.support.queue.history import History
from tests.support.queue.nemesis import (
    UNSCHEDULE,
    Nemesis,
    Size,
    enqueue_slowly,
    random_tasks,
    schedule_all_kinds,
)
from tests.support.queue.rig import Rig, open_rig
from tests.support.redis import RedisServer

CLAIM_TTL = 2.0
FULL = Size(workers=8, tasks=20_000, signals=200, restarts=20, others=10)
TENTH = Size(workers=4, tasks=2_000, signals=20, restarts=2, others=1)
DRAIN_SECONDS = 180


async def _torture(postgres_url: str, redis: RedisServer, seed: int, size: Size) -> Verdict:
    """Enqueue, break, heal, drain, check.

    Cause: SIGKILL and SIGSTOP of workers, also by their tasks; SIGKILL of Redis with and without loss; FLUSHALL;
    XGROUP DESTROY. Invariants: I7 to I11 by the history, I12 by what is left in the servers.
    """
    rng = random.Random(seed)
    tasks = random_tasks(rng, size.tasks)
    more = {"SCHEDULER_ENABLED": "true", "SCHEDULER_LOCK_TTL": f"{CLAIM_TTL}s"}
    async with open_rig(postgres_url, redis, ttl=CLAIM_TTL, **more) as rig:
        await schedule_all_kinds(rig)
        nemesis = Nemesis(rig, rng, size, CLAIM_TTL)
        for _ in range(size.workers):
            await rig.spawn()
        rig.replaces = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nemesis.run)
            enqueueing = random.Random(seed + 1)
            nursery.start_soon(
                partial(enqueue_slowly, rig, tasks, enqueueing, seconds=nemesis.seconds)
            )
        await rig.rows(UNSCHEDULE)
        await rig.drained(DRAIN_SECONDS)
        await _no_entries(rig)
        history = await rig.finish()
        print(f"{dict(nemesis.done)}, {len(rig.nodes)} lives of {size.workers} workers")
        verdict = rig.judge(history)
        assert _dead_by_others(history) == []
    await _no_connections(rig)
    assert verdict.counts["completed"] > 0.9 * size.tasks
    return verdict


def _dead_by_others(history: History) -> list[str]:
    """Return the tasks that died although nothing is wrong with them: their workers were killed too often."""
    kinds = {enqueue.n: enqueue.kind for enqueue in history.enqueues}
    return [
        f"{row.task} {kinds.get(row.n or 0)}"
        for row in history.rows
        if row.state == "dead" and kinds.get(row.n or 0) not in ("poison", "rejected")
    ]


async def _no_entries(rig: Rig) -> None:
    """Wait until the stream is empty: an entry of a task that has ended is taken by somebody, and dropped."""
    with trio.fail_after(60):
        while await rig.entries():
            await trio.sleep(0.1)


async def _no_connections(rig: Rig) -> None:
    """Wait until PostgreSQL has ended the sessions of all workers."""
    others = """SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()"""
    with trio.fail_after(30):
        while await rig.number(others):
            await trio.sleep(0.1)


@pytest.mark.slow
async def test_two_thousand_tasks_survive_twenty_kills_and_stops(
    postgres_url: str, redis_server: RedisServer, seed: int
) -> None:
    await _torture(postgres_url, redis_server, seed, TENTH)


@pytest.mark.proof
async def test_twenty_thousand_tasks_survive_two_hundred_kills_and_stops(
    postgres_url: str, redis_server: RedisServer, seed: int
) -> None:
    await _torture(postgres_url, redis_server, seed, FULL)
