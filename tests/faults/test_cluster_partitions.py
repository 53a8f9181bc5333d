"""Hosts that are cut off from each other, one way and both ways, for longer than the lock's time to live.

As root, with a network namespace for each host. What each pair does is the table of docs/explanation/partitions.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import trio

from sercha.testing.cluster import ClusterPlan
from tests.support.failover import (
    SHORT,
    Run,
    add_schedules,
    assert_slots_are_complete,
    assert_writes_are_right,
    run_under_load,
)

pytestmark = pytest.mark.slow

CUT_SECONDS = 12.0
"""Longer than SCHEDULER_LOCK_TTL and WORKER_CLAIM_TTL, which are 10 s and 5 s here."""
WAYS = ("both", "there", "back")


@dataclass(frozen=True)
class Pair:
    """Two hosts."""

    one: str
    other: str


PAIRS = [
    Pair("nginx", "api-1"),
    Pair("api-1", "postgres"),
    Pair("api-1", "redis"),
    Pair("worker-1", "postgres"),
    Pair("worker-1", "redis"),
]


async def cut(run: Run, pair: Pair, way: str) -> None:
    network = run.cluster.network
    if way == "both":
        await network.cut(pair.one, pair.other)
    elif way == "there":
        await network.cut_one_way(pair.one, pair.other)
    else:
        await network.cut_one_way(pair.other, pair.one)


async def cut_and_heal(pair: Pair, ways: tuple[str, ...], folder: Path) -> None:
    plan = ClusterPlan(folders=(folder,), settings=SHORT, namespaces=True)
    async with run_under_load(plan, folder, readers=3, writers=2) as run:
        await add_schedules(run.cluster, 3)
        report = run.load.report
        for way in ways:
            await run.some_requests(50, 100)
            succeeded, failed = report.succeeded, report.failed.total()
            await cut(run, pair, way)
            await trio.sleep(CUT_SECONDS)
            during = report.succeeded - succeeded
            await run.cluster.network.heal()
            with trio.fail_after(90):
                await run.load.wait_sent(report.sent + 100)
                await assert_slots_are_complete(run.cluster)
            longest = max(report.seconds)
            print(
                f"{pair.one} and {pair.other}, {way}: {during} answers in {CUT_SECONDS:g} s, "
                f"{report.failed.total() - failed} failed, longest {longest:.1f} s"
            )
        await assert_slots_are_complete(run.cluster)
    assert not report.failed, report.describe()
    assert report.cut == 0
    assert_writes_are_right(run)
    sercha = [*run.cluster.apis, *run.cluster.workers]
    assert [member.started_count for member in sercha] == [1] * len(sercha)


@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.one}-{pair.other}")
async def test_a_pair_that_is_cut_fails_no_request(pair: Pair, tmp_path: Path) -> None:
    await cut_and_heal(pair, WAYS[:1], tmp_path / "pages")


@pytest.mark.proof
@pytest.mark.usefixtures("namespaces")
@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair.one}-{pair.other}")
async def test_a_pair_that_is_cut_each_way_fails_no_request(pair: Pair, tmp_path: Path) -> None:
    await cut_and_heal(pair, WAYS, tmp_path / "pages")
