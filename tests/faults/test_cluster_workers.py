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
    add_documents,
    add_schedules,
    add_source,
    assert_slots_are_complete,
    make_documents,
    seeded,
    sync,
    wait_task,
)

pytestmark = pytest.mark.slow

PAGES = 1_000
"""New documents for each sync."""
RUNNER = """
SELECT node.pid FROM task JOIN heartbeat ON heartbeat.owner = task.owner
JOIN node ON node.id = heartbeat.node_id WHERE task.id = %s AND task.state = 'running'
"""


async def documents(cluster: Cluster) -> int:
    [[count]] = await cluster.query("SELECT count(*) FROM document")
    return int(str(count))


async def runner(cluster: Cluster, task: str) -> Member:
    """Wait until a sync runs, and return the worker that runs it."""
    with trio.fail_after(60):
        while not (rows := await cluster.query(RUNNER, task)):
            await trio.sleep(POLL)
    return next(worker for worker in cluster.workers if worker.pid == rows[0][0])


async def differences(cluster: Cluster, api: Member) -> int:
    """Ask one API to compare its copy with PostgreSQL."""
    headers = {"Authorization": f"Bearer {cluster.token}"}
    url = f"http://{api.address}:{API_PORT}/api/v1/admin/index/verify"
    async with httpx.AsyncClient(headers=headers, timeout=120, trust_env=False) as client:
        return (await client.post(url)).raise_for_status().json()["differences"]


async def replace_workers(folder: Path, rounds: int) -> None:
    chance = seeded()
    settings = {**SHORT, "WORKER_CONCURRENCY": "1"}
    async with open_cluster(ClusterPlan(folders=(folder,), settings=settings)) as cluster:
        await cluster.set_up()
        await add_schedules(cluster, 3)
        make_documents(folder, 1)
        source = await add_source(cluster, folder)
        begun = 0
        for number in range(1, rounds + 1):
            await add_documents(folder, PAGES * (number - 1), PAGES * number)
            task = await sync(cluster, source)
            worker = await runner(cluster, task)
            await trio.sleep(chance.uniform(0, 1.0))
            begun += await documents(cluster) < PAGES * number
            assert await worker.stop() == 0
            await worker.start()
            await wait_task(cluster, task)
        assert await documents(cluster) == PAGES * rounds
        await assert_slots_are_complete(cluster)
        for api in cluster.apis:
            assert await differences(cluster, api) == 0
    print(f"{rounds} stops, {begun} of them in the middle of a sync, {PAGES * rounds} documents")
    assert begun >= rounds // 3, "the stops hit nothing"


async def test_a_rolling_restart_of_workers_leaves_no_gap(tmp_path: Path) -> None:
    await replace_workers(tmp_path / "pages", 4)


@pytest.mark.proof
async def test_twenty_stops_of_workers_leave_no_gap(tmp_path: Path) -> None:
    await replace_workers(tmp_path / "pages", 20)
