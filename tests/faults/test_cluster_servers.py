"""PostgreSQL and Redis restarted and cut off under load: it ends by itself, and nothing is lost or done twice."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Protocol

import pytest
import trio

from sercha.testing.cluster import Cluster, ClusterPlan
from tests.support.failover import (
    SHORT,
    Run,
    assert_writes_are_right,
    open_filled_cluster,
    under_load,
)

pytestmark = pytest.mark.slow

DOCUMENTED = {
    "503 database-unavailable",
    "503 commit-unknown",
    "503 pool-exhausted",
    "503 request-timeout",
    "503 idempotency-in-progress",
    "503 no-api",
    "503 transient",
}
"""What users may be told while PostgreSQL is away: docs/explanation/failure-model.md."""
CUT_SECONDS = 4.0


class Fault(Protocol):
    """Does something to a server of the cluster, and undoes it."""

    __name__: str

    async def __call__(self, run: Run) -> None: ...


async def restart_postgres(run: Run) -> None:
    await run.cluster.postgres.member.restart()


async def kill_postgres(run: Run) -> None:
    await run.cluster.postgres.member.kill()
    await run.cluster.postgres.member.start()


async def cut_postgres(run: Run) -> None:
    for member in (*run.cluster.apis, *run.cluster.workers):
        await run.cluster.network.cut(member.name, "postgres")
    await trio.sleep(CUT_SECONDS)
    await run.cluster.network.heal()


async def restart_redis(run: Run) -> None:
    assert run.cluster.redis is not None
    await run.cluster.redis.member.restart()


async def wipe_redis(run: Run) -> None:
    assert run.cluster.redis is not None
    await run.cluster.redis.wipe()


async def cut_redis(run: Run) -> None:
    for member in (*run.cluster.apis, *run.cluster.workers):
        await run.cluster.network.cut(member.name, "redis")
    await trio.sleep(CUT_SECONDS)
    await run.cluster.network.heal()


FAULTS: list[Fault] = [
    restart_postgres,
    kill_postgres,
    cut_postgres,
    restart_redis,
    wipe_redis,
    cut_redis,
]


async def disturb(cluster: Cluster, how: Fault, rounds: int) -> None:
    """Do it to the cluster under a load of its own, and check what its users and writes came to."""
    outages: list[float] = []
    async with under_load(cluster) as run:
        report = run.load.report
        for _ in range(rounds):
            await run.some_requests(50, 150)
            first = len(report.gaps)
            await how(run)
            # Served again: many answers in a row, from both APIs.
            succeeded = report.succeeded
            with trio.fail_after(60):
                while report.succeeded < succeeded + 100:
                    await run.load.wait_sent(report.sent + 1)
            outages.append(max(report.gaps[first:]))
    name = how.__name__
    print(
        f"{name}: {rounds} times; without service p50 "
        f"{statistics.median(outages):.2f} s, max {max(outages):.2f} s"
    )
    if "redis" in name:
        assert not report.failed, f"{name}: {report.describe()}"
    assert set(report.failed) <= DOCUMENTED, f"{name}: {report.describe()}"
    assert report.cut == 0, name
    assert_writes_are_right(run)
    sercha = [*cluster.apis, *cluster.workers]
    assert [member.started_count for member in sercha] == [1] * len(sercha), name


async def test_it_ends_by_itself_and_loses_nothing(tmp_path: Path) -> None:
    """Each fault once, one after the other on one cluster: to start one takes longer than a fault."""
    folder = tmp_path / "pages"
    plan = ClusterPlan(folders=(folder,), settings=SHORT)
    async with open_filled_cluster(plan, folder) as cluster:
        for how in FAULTS:
            await disturb(cluster, how, 1)


@pytest.mark.proof
@pytest.mark.parametrize("how", FAULTS, ids=lambda how: how.__name__)
async def test_ten_times_it_ends_by_itself_and_loses_nothing(how: Fault, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    plan = ClusterPlan(folders=(folder,), settings=SHORT)
    async with open_filled_cluster(plan, folder) as cluster:
        await disturb(cluster, how, 10)
