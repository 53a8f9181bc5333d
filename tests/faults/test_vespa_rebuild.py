"""A rebuild of Vespa's index while searches run: none fails, none misses its document, the old one goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx
import pytest
import trio

from sercha.testing.cluster import Cluster, ClusterPlan, Member, open_cluster
from sercha.testing.cluster.balancer import API_PORT
from tests.support.failover import POLL, SHORT, add_source, seeded
from tests.support.vespa_program import open_vespa_program

pytestmark = pytest.mark.slow

SWAP_TIME = 2.0
"""Seconds within which all APIs answer from the new generation."""
ADD = """
WITH added AS (
    INSERT INTO document (source_id, external_id, path, title, mime_type, text, chunk_count)
    SELECT %s::uuid, 'page-' || n, 'pages/page-' || n, 'page ' || n, 'text/plain',
           'the handbook and its own word onlyword' || n, 1
    FROM generate_series(1, %s) AS n RETURNING id, text)
INSERT INTO chunk (document_id, position, start_char, end_char, content_hash)
SELECT id, 0, 0, length(text), sha256(convert_to(E'\\n' || text, 'UTF8')) FROM added"""
CURRENT = "SELECT id FROM generation WHERE state = 'current'"
LEFT = "SELECT count(*) FROM generation WHERE state <> 'current'"


@dataclass
class Searches:
    """Searches for documents that are there all the time, one after the other, on one API."""

    api: Member
    token: str
    documents: int
    random: Random
    sent: int = 0
    failed: list[str] = field(default_factory=list[str])
    missed: list[str] = field(default_factory=list[str])

    def client(self) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {self.token}"}
        url = f"http://{self.api.address}:{API_PORT}/api/v1"
        return httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False)

    async def run(self) -> None:
        async with self.client() as client:
            while True:
                word = f"onlyword{self.random.randint(1, self.documents)}"
                answer = await client.post("/search", json={"query": word})
                self.sent += 1
                if answer.status_code != 200:
                    self.failed.append(f"{answer.status_code} {answer.text}")
                elif answer.json()["total_count"] != 1:
                    self.missed.append(word)


async def generation(searches: Searches) -> str:
    async with searches.client() as client:
        return (await client.get("/index")).raise_for_status().json()["generation"]


async def wait_swapped(cluster: Cluster, searches: Sequence[Searches], before: str) -> float:
    """Wait until another generation answers; return how long the last API took to follow."""
    with trio.fail_after(1_800):
        while [row[0] for row in await cluster.query(CURRENT)] == [before]:
            await trio.sleep(POLL)
    swapped_at = trio.current_time()
    with trio.fail_after(30):
        for each in searches:
            while await generation(each) == before:
                await trio.sleep(POLL)
    return trio.current_time() - swapped_at


async def rebuild_under_searches(folder: Path, documents: int) -> None:
    chance = seeded()
    await trio.Path(folder).mkdir()
    async with open_vespa_program() as vespa:
        settings = {**SHORT, **vespa.settings}
        plan = ClusterPlan(workers=1, folders=(folder,), settings=settings)
        async with open_cluster(plan) as cluster:
            await cluster.set_up()
            await cluster.query(ADD, await add_source(cluster, folder), documents)
            searches = [
                Searches(api, cluster.token, documents, Random(chance.random()))
                for api in cluster.apis
            ]
            async with searches[0].client() as client:
                with trio.fail_after(1_800):
                    # 503 while it is behind: each wait is bounded.
                    while (await client.get("/index", params={"wait": 10})).status_code != 200:
                        await trio.sleep(POLL)
            [[before]] = await cluster.query(CURRENT)
            async with trio.open_nursery() as nursery:
                for each in searches:
                    nursery.start_soon(each.run)
                async with cluster.client() as client:
                    nursery.start_soon(wait_rebuilt, client)
                    took = await wait_swapped(cluster, searches, str(before))
                    with trio.fail_after(120):
                        while await cluster.query(LEFT) != [(0,)]:
                            await trio.sleep(POLL)
                nursery.cancel_scope.cancel()
            async with cluster.client() as client:
                answer = await client.post("/api/v1/admin/index/verify", timeout=300)
                report = answer.raise_for_status().json()
    sent = sum(each.sent for each in searches)
    print(
        f"{documents} documents, {sent} searches, the last API followed after {took:.2f} s, {report}"
    )
    assert [each.failed for each in searches] == [[], []]
    assert [each.missed for each in searches] == [[], []]
    assert all(each.sent > 20 for each in searches)
    assert took < SWAP_TIME
    assert (report["differences"], report["checked"]) == (0, documents)


async def wait_rebuilt(client: httpx.AsyncClient) -> None:
    """Ask for it. An API gives the request up after ten minutes; the rebuild goes on, and is waited for elsewhere."""
    answer = await client.post("/api/v1/admin/index/rebuild", timeout=900)
    assert answer.status_code in (200, 503), answer.text


async def test_a_rebuild_is_noticed_by_no_search(tmp_path: Path) -> None:
    await rebuild_under_searches(tmp_path / "pages", 400)


@pytest.mark.proof
async def test_a_rebuild_of_fifty_thousand_is_noticed_by_no_search(tmp_path: Path) -> None:
    await rebuild_under_searches(tmp_path / "pages", 50_000)
