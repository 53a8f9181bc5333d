"""The reference deployment with Vespa: two containers, of which one goes away, beside what happens to APIs and workers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import trio

from sercha.testing.cluster import ClusterPlan, Member
from tests.support.failover import (
    POLL,
    SHORT,
    Run,
    add_documents,
    assert_nobody_noticed,
    run_under_load,
    sync,
    wait_task,
)
from tests.support.vespa_program import VespaProgram, open_vespa_program

pytestmark = pytest.mark.slow


async def verified(run: Run) -> dict[str, object]:
    """Ask an API to compare Vespa with PostgreSQL."""
    async with run.cluster.client() as client:
        answer = await client.post("/api/v1/admin/index/verify", timeout=120)
        return answer.raise_for_status().json()


async def searchable(run: Run, word: str, seconds: float = 90.0) -> None:
    """Wait until a search finds exactly one document."""
    with trio.fail_after(seconds):
        async with run.cluster.client() as client:
            while True:
                with suppress(KeyError):
                    answer = await client.post("/api/v1/search", json={"query": word})
                    if answer.json()["total_count"] == 1:
                        return
                await trio.sleep(POLL)


async def rounds_under_load(folder: Path, rounds: int, at_least: int) -> None:
    async with open_vespa_program() as vespa:
        settings = {**SHORT, **vespa.settings}
        plan = ClusterPlan(folders=(folder,), settings=settings)
        async with run_under_load(plan, folder) as run:
            [[source]] = await run.cluster.query("SELECT id::text FROM source")
            for number in range(rounds):
                await disturb(run, vespa, number)
                await add_documents(folder, 60 + 20 * number, 60 + 20 * (number + 1))
                await wait_task(run.cluster, await sync(run.cluster, str(source)))
                await searchable(run, f"onlyword{60 + 20 * (number + 1) - 1}")
            await run.load.wait_sent(at_least)
            report = await verified(run)
    assert report["differences"] == 0, report
    assert report["checked"] == 60 + 20 * rounds
    assert_nobody_noticed(run, at_least=at_least)


async def disturb(run: Run, vespa: VespaProgram, number: int) -> None:
    """In turn: a container goes, an API is killed, a worker is killed, an API is restarted."""
    container = number // 4 % 2
    match number % 4:
        case 0:
            await vespa.stop_container(container)
            await run.some_requests()
        case 1:
            await vespa.start_container(container)
            await replace(run, run.cluster.apis[container])
        case 2:
            worker = run.cluster.workers[run.chance.randrange(2)]
            await worker.kill()
            await run.some_requests()
            await worker.start()
        case _:
            api = run.cluster.apis[run.chance.randrange(2)]
            assert await api.stop() == 0
            await api.start()
            await run.until_it_serves(api)


async def replace(run: Run, api: Member) -> None:
    await api.kill()
    await api.start()
    await run.until_it_serves(api)


async def test_four_rounds_with_vespa_fail_no_request(tmp_path: Path) -> None:
    await rounds_under_load(tmp_path / "pages", 4, 800)


@pytest.mark.proof
async def test_twelve_rounds_with_vespa_fail_no_request(tmp_path: Path) -> None:
    await rounds_under_load(tmp_path / "pages", 12, 3_000)
