"""APIs behind nginx, restarted, killed and moved under load: no user notices."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from sercha.testing.cluster import ClusterPlan, Member
from tests.support.failover import Run, assert_nobody_noticed, run_under_load

pytestmark = pytest.mark.slow


async def restart(run: Run, api: Member) -> None:
    assert await api.stop() == 0
    await api.start()


async def kill(run: Run, api: Member) -> None:
    await api.kill()
    await api.start()


async def move(run: Run, api: Member) -> None:
    await run.cluster.move(api)


Disturbance = Callable[[Run, Member], Awaitable[None]]


async def disturb(folder: Path, what: Sequence[Disturbance], rounds: int, at_least: int) -> None:
    """Do each of *what* so many times to the APIs in turn."""
    async with run_under_load(ClusterPlan(workers=1, folders=(folder,)), folder) as run:
        for how in what:
            for number in range(rounds):
                api = run.cluster.apis[number % 2]
                await run.some_requests()
                await how(run, api)
                await run.until_it_serves(api)
        await run.load.wait_sent(at_least)
    report = assert_nobody_noticed(run, at_least=at_least)
    print(f"{rounds} rounds, {len(report.written)} writes")


async def test_three_rounds_under_load_fail_no_request(tmp_path: Path) -> None:
    await disturb(tmp_path / "pages", [restart, kill, move], 3, 3_000)


@pytest.mark.proof
@pytest.mark.parametrize("how", [restart, kill, move])
async def test_thirty_rounds_under_load_fail_no_request(how: Disturbance, tmp_path: Path) -> None:
    await disturb(tmp_path / "pages", [how], 30, 15_000)
