"""A cluster under load, and what is done to it meanwhile: the runs behind the table of failures."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from sercha.testing.cluster import (
    Cluster,
    ClusterPlan,
    Load,
    LoadReport,
    Member,
    Target,
    open_cluster,
)

POLL = 0.05
SHORT = {"WORKER_CLAIM_TTL": "5", "SCHEDULER_LOCK_TTL": "10", "SCHEDULER_POLL_INTERVAL": "1"}
"""Times that let a takeover be seen within a test; the leader of 10 s has 0.8 s to end what it does."""
ADD_SCHEDULES = """
INSERT INTO schedule (id, name, kind, spec, anchor, task_kind, payload, catch_up, next_slot)
SELECT gen_random_uuid(), 'each-second-' || number, 'interval', '1s', anchor, 'prune', '{}', 'all',
       anchor + interval '1 s'
FROM generate_series(1, %s) AS number, date_trunc('second', clock_timestamp()) AS anchor
"""
SLOTS = """
SELECT name, next_slot > clock_timestamp() - interval '3 s' AS is_caught_up,
       range_agg(tstzrange(slot, slot_last + interval '1 s'))
           = tstzmultirange(tstzrange(anchor + interval '1 s', next_slot)) AS is_complete,
       sum(extract(epoch FROM slot_last - slot) + 1) - extract(epoch FROM next_slot - anchor) + 1 AS twice
FROM schedule JOIN schedule_slot ON schedule_id = id WHERE name LIKE 'each-second-%'
GROUP BY id
"""
"""Every second has its outcome, and none has two."""


def seeded() -> random.Random:
    """Return a source of chance, and print its seed; ``SERCHA_TEST_SEED`` takes one back."""
    seed = int(os.environ.get("SERCHA_TEST_SEED") or random.randrange(2**32))
    print(f"SERCHA_TEST_SEED={seed}")
    return random.Random(seed)


@dataclass
class Run:
    """A cluster with its load."""

    cluster: Cluster
    load: Load
    chance: random.Random
    lost: list[str] = field(default_factory=list[str])
    """Acknowledged writes that are not there at the end."""
    doubled: list[str] = field(default_factory=list[str])

    async def some_requests(self, low: int = 10, high: int = 60) -> None:
        """Wait until a random number of requests more were sent."""
        await self.load.wait_sent(self.load.report.sent + self.chance.randint(low, high))

    async def until_it_serves(self, api: Member) -> None:
        """Wait until nginx has had an answer of *api* since its last start."""
        await until(lambda: api.has_said('"event": ?"request.finished"'))


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for what another process does."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(POLL)


async def add_documents(folder: Path, first: int, count: int) -> None:
    """Write more of them, off the loop: in it live the proxies of the cluster."""
    await trio.to_thread.run_sync(make_documents, folder, count, first)


def make_documents(folder: Path, count: int, first: int = 0) -> None:
    """Write small files, from number *first* on; each holds the word ``handbook`` and a word of its own."""
    for number in range(first, count):
        place = folder / f"part-{number // 100}"
        place.mkdir(exist_ok=True, parents=True)
        text = (
            f"The handbook, page {number}.\n\nIts own word is onlyword{number}.\n" + "filling " * 40
        )
        (place / f"page-{number}.md").write_text(text)


async def add_source(cluster: Cluster, folder: Path) -> str:
    """Add a folder as a source and return its id."""
    async with cluster.client() as client:
        answer = await client.post(
            "/api/v1/sources",
            json={"name": "pages", "provider_type": "localfs", "config": {"paths": [str(folder)]}},
        )
        return answer.raise_for_status().json()["id"]


async def sync(cluster: Cluster, source_id: str) -> str:
    """Ask for a sync and return the task's id."""
    async with cluster.client() as client:
        answer = await client.post(f"/api/v1/sources/{source_id}/sync")
        return answer.raise_for_status().json()["task_id"]


async def wait_task(cluster: Cluster, task_id: str, seconds: float = 120.0) -> None:
    """Wait until a task is completed."""
    with trio.fail_after(seconds):
        while True:
            [[state, error]] = await cluster.query(
                "SELECT state, last_error FROM task WHERE id = %s", task_id
            )
            if state == "completed":
                return
            assert state in ("queued", "running"), (state, error)
            await trio.sleep(POLL)


@asynccontextmanager
async def run_under_load(plan: ClusterPlan, folder: Path, **load: int) -> AsyncGenerator[Run]:
    """Open a cluster with a few documents and a load for the block; at its end the load has stopped."""
    async with open_filled_cluster(plan, folder) as cluster, under_load(cluster, **load) as run:
        yield run


@asynccontextmanager
async def open_filled_cluster(plan: ClusterPlan, folder: Path) -> AsyncGenerator[Cluster]:
    """Open a cluster with a few documents in it for the block."""
    make_documents(folder, 60)
    async with open_cluster(plan) as cluster:
        await cluster.set_up()
        await wait_task(cluster, await sync(cluster, await add_source(cluster, folder)))
        yield cluster


@asynccontextmanager
async def under_load(cluster: Cluster, **load: int) -> AsyncGenerator[Run]:
    """Put a load of its own on a cluster for the block; at its end it has stopped, and its writes were counted."""
    chance = seeded()
    run = Run(cluster, Load(cluster, queries=("handbook", "onlyword7", "page 12"), **load), chance)
    async with trio.open_nursery() as nursery:
        await nursery.start(run.load.run)
        yield run
        run.load.stop()
    run.lost, run.doubled = await run.load.lost_and_doubled()
    print(run.load.report.describe())
    print("\n".join(run.load.report.samples))


def assert_nobody_noticed(run: Run, *, at_least: int) -> LoadReport:
    """Check that no request failed, no answer was cut, and each write was done once."""
    report = run.load.report
    assert report.sent >= at_least
    assert not report.failed, report.describe()
    assert not report.cut, report.describe()
    assert_writes_are_right(run)
    return report


def assert_writes_are_right(run: Run) -> None:
    """Check that acknowledged writes are there, and none twice."""
    assert run.lost == []
    assert run.doubled == []
    assert run.load.report.written, "something was written"


async def add_schedules(target: Target, count: int) -> None:
    """Add schedules with a slot in each second."""
    await target.query(ADD_SCHEDULES, count)


async def assert_slots_are_complete(target: Target, seconds: float = 60.0) -> None:
    """Wait until the scheduler has caught up, and check that each slot has exactly one outcome."""
    rows: list[tuple[object, ...]] = []
    with trio.fail_after(seconds):
        while not rows or not all(row[1] for row in rows):
            await trio.sleep(POLL)
            rows = await target.query(SLOTS)
    for name, _, is_complete, twice in rows:
        assert is_complete, name
        assert twice == 0, name
