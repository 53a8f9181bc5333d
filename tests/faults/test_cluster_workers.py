"""Both workers replaced one after the other, in the middle of syncs and of scheduling."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import trio

from sercha.testing.cluster import Cluster, ClusterPlan, Member, open_cluster
from sercha.testing.cluster.balancer import API_PORT
from tests.support.failover import (
    POLL,
    SHORT,
    add_schedules,
    add_source,
    assert_slots_are_complete,
    make_documents,
    seeded,
    sync,
    wait_task,
)

pytestmark = pytest.mark.slow


async def documents(cluster: Cluster) -> int:
    [[count]] = await cluster.query("SELECT count(*) FROM document")
    return int(str(count))


async def wait_documents(cluster: Cluster, count: int) -> None:
    with trio.fail_after(60):
        while await documents(cluster) < count:
            await trio.sleep(POLL)


async def differences(cluster: Cluster, api: Member) -> int:
    """Ask one API to compare its copy with PostgreSQL."""
    headers = {"Authorization": f"Bearer {cluster.token}"}
    url = f"http://{api.address}:{API_PORT}/api/v1/admin/index/verify"
    async with httpx.AsyncClient(headers=headers, timeout=120, trust_env=False) as client:
        return (await client.post(url)).raise_for_status().json()["differences"]


async def replace_workers(folder: Path, count: int, rounds: int) -> None:
    chance = seeded()
    make_documents(folder, count)
    async with open_cluster(ClusterPlan(folders=(folder,), settings=SHORT)) as cluster:
        await cluster.set_up()
        await add_schedules(cluster, 3)
        source = await add_source(cluster, folder)
        task = await sync(cluster, source)
        for number in range(rounds):
            # In the middle of the sync, wherever it runs by now.
            await wait_documents(cluster, chance.randrange(count * (number + 1) // (rounds + 1)))
            worker = cluster.workers[number % 2]
            assert await worker.stop() == 0
            await worker.start()
        await wait_task(cluster, task)
        assert await documents(cluster) == count
        await assert_slots_are_complete(cluster)
        for api in cluster.apis:
            assert await differences(cluster, api) == 0
        [[runs]] = await cluster.query("SELECT attempt FROM task WHERE id = %s", task)
        print(f"{rounds} stops, the sync ran {runs} times, charged or not")


async def test_a_rolling_restart_of_workers_leaves_no_gap(tmp_path: Path) -> None:
    await replace_workers(tmp_path / "pages", 1_500, 4)


@pytest.mark.proof
async def test_twenty_stops_of_workers_leave_no_gap(tmp_path: Path) -> None:
    await replace_workers(tmp_path / "pages", 10_000, 20)
