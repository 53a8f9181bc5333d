"""The worker that feeds Vespa, killed in the middle: everything is there in the end, in its last version."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from sercha.testing.cluster import Cluster, ClusterPlan, open_cluster
from tests.support.failover import (
    POLL,
    SHORT,
    add_source,
    make_documents,
    seeded,
    sync,
    wait_task,
)
from tests.support.vespa_program import open_vespa_program

pytestmark = pytest.mark.slow

PAGES = 600
CHANGE = "UPDATE document SET title = title || '.' WHERE id IN (SELECT id FROM document ORDER BY random() LIMIT %s)"
REVIVE = "UPDATE document SET deleted_at = NULL WHERE deleted_at IS NOT NULL"
DELETE = """
UPDATE document SET deleted_at = clock_timestamp()
WHERE id IN (SELECT id FROM document WHERE deleted_at IS NULL ORDER BY random() LIMIT %s)"""
BEGUN = "SELECT seen_at > clock_timestamp() - interval '1 s' FROM consumer WHERE id = 'vespa'"


async def verified(cluster: Cluster) -> dict[str, object]:
    async with cluster.client() as client:
        answer = await client.post("/api/v1/admin/index/verify", timeout=300)
        return answer.raise_for_status().json()


async def wait_fed(cluster: Cluster) -> None:
    """Wait until somebody has announced a position just now: the next batch is under way."""
    with trio.fail_after(60):
        while not any(row[0] for row in await cluster.query(BEGUN)):
            await trio.sleep(POLL)


async def kill_while_feeding(folder: Path, kills: int) -> None:
    chance = seeded()
    make_documents(folder, PAGES)
    async with open_vespa_program() as vespa:
        settings = {**SHORT, **vespa.settings}
        plan = ClusterPlan(apis=1, workers=2, folders=(folder,), settings=settings)
        async with open_cluster(plan) as cluster:
            await cluster.set_up()
            await wait_task(cluster, await sync(cluster, await add_source(cluster, folder)))
            for number in range(kills):
                await cluster.query(CHANGE, chance.randint(1, PAGES))
                await cluster.query(REVIVE)
                await cluster.query(DELETE, chance.randint(0, 30))
                await wait_fed(cluster)
                await trio.sleep(chance.uniform(0, 1.0))
                # Whichever feeds: the other one takes over when the lease has expired.
                for worker in cluster.workers:
                    await worker.kill()
                    await worker.start()
                if number % 10 == 9:
                    assert (await verified(cluster))["differences"] == 0
            report = await verified(cluster)
            [[live]] = await cluster.query("SELECT count(*) FROM document WHERE deleted_at IS NULL")
    print(f"{kills} kills of each worker, {report}")
    assert report["differences"] == 0, report
    assert report["checked"] == live


async def test_killed_feeders_leave_no_difference(tmp_path: Path) -> None:
    await kill_while_feeding(tmp_path / "pages", 2)


@pytest.mark.proof
async def test_fifty_killed_feeders_leave_no_difference(tmp_path: Path) -> None:
    await kill_while_feeding(tmp_path / "pages", 50)
