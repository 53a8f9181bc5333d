"""PostgreSQL and Redis restarted and cut off under load: it ends by itself, and nothing is lost or done twice."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import trio

from sercha.testing.cluster import ClusterPlan
from tests.support.failover import SHORT, Run, assert_writes_are_right, run_under_load

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


FAULTS = [restart_postgres, kill_postgres, cut_postgres, restart_redis, wipe_redis, cut_redis]


async def disturb(folder: Path, how: object, rounds: int) -> None:
    outages: list[float] = []
    plan = ClusterPlan(folders=(folder,), settings=SHORT)
    async with run_under_load(plan, folder) as run:
        report = run.load.report
        for _ in range(rounds):
            await run.some_requests(50, 150)
            first = len(report.gaps)
            await how(run)  # type: ignore[operator]
            # Served again: many answers in a row, from both APIs.
            succeeded = report.succeeded
            with trio.fail_after(60):
                while report.succeeded < succeeded + 100:
                    await run.load.wait_sent(report.sent + 1)
            outages.append(max(report.gaps[first:]))
    print(
        f"{how.__name__}: {rounds} times; without service p50 "  # type: ignore[attr-defined]
        f"{statistics.median(outages):.2f} s, max {max(outages):.2f} s"
    )
    if "redis" in how.__name__:  # type: ignore[attr-defined]
        assert not report.failed, report.describe()
    assert set(report.failed) <= DOCUMENTED, report.describe()
    assert report.cut == 0
    assert_writes_are_right(run)
    sercha = [*run.cluster.apis, *run.cluster.workers]
    assert [member.started_count for member in sercha] == [1] * len(sercha)


@pytest.mark.parametrize("how", FAULTS, ids=lambda how: how.__name__)
async def test_it_ends_by_itself_and_loses_nothing(how: object, tmp_path: Path) -> None:
    await disturb(tmp_path / "pages", how, 1)


@pytest.mark.proof
@pytest.mark.parametrize("how", FAULTS, ids=lambda how: how.__name__)
async def test_ten_times_it_ends_by_itself_and_loses_nothing(how: object, tmp_path: Path) -> None:
    await disturb(tmp_path / "pages", how, 10)
