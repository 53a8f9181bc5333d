"""What 1, 2 and 4 APIs and workers do: ``python benchmarks/scaling.py [--quick]``.

A whole cluster each time (nginx, PostgreSQL with flushed commits, Valkey, the processes), on this machine, the load
beside it. Answers per second of searches through nginx, and documents per second of syncs of several sources at
once, as ratios to one process; with the share of the machine's processors that was busy, which says where it ends.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sercha.testing.cluster import Cluster, ClusterPlan, Load, open_cluster
from tests.support.failover import make_documents, sync, wait_task

COUNTS = (1, 2, 4)
SOURCES = 8
CLIENTS = 16


class Busy:
    """The share of all processors that was not idle, once the block has ended."""

    share = 0.0


@contextmanager
def busy() -> Generator[Busy]:
    measured = Busy()
    before = _ticks()
    yield measured
    idle, total = (after - earlier for after, earlier in zip(_ticks(), before, strict=True))
    measured.share = 1 - idle / total


def _ticks() -> tuple[int, int]:
    fields = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return fields[3] + fields[4], sum(fields[:8])


def parts(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


async def add_sources(cluster: Cluster, folder: Path) -> list[str]:
    """Add each folder below as a source; return their ids."""
    ids: list[str] = []
    async with cluster.client() as client:
        for part in parts(folder):
            body = {"name": part.name, "provider_type": "localfs", "config": {"paths": [str(part)]}}
            answer = await client.post("/api/v1/sources", json=body)
            ids.append(answer.raise_for_status().json()["id"])
    return ids


async def searches(count: int, folder: Path, requests: int) -> tuple[float, float]:
    """Return answers per second of *count* APIs, and how busy the machine was."""
    async with open_cluster(ClusterPlan(apis=count, workers=1, folders=(folder,))) as cluster:
        await cluster.set_up()
        for source in await add_sources(cluster, folder):
            await wait_task(cluster, await sync(cluster, source))
        warm = Load(cluster, CLIENTS, 0, ("handbook", "onlyword7"), requests_max=requests // 4)
        await warm.run()
        load = Load(cluster, CLIENTS, 0, ("handbook", "onlyword7"), requests_max=requests)
        began = trio.current_time()
        with busy() as measured:
            report = await load.run()
        assert not report.failed, report.describe()
        return report.succeeded / (trio.current_time() - began), measured.share


async def syncs(count: int, folder: Path, documents: int) -> tuple[float, float]:
    """Return documents per second of *count* workers with one slot each, and how busy the machine was."""
    plan = ClusterPlan(
        apis=1, workers=count, folders=(folder,), settings={"WORKER_CONCURRENCY": "1"}
    )
    async with open_cluster(plan) as cluster:
        await cluster.set_up()
        sources = await add_sources(cluster, folder)
        began = trio.current_time()
        with busy() as measured:
            tasks = [await sync(cluster, source) for source in sources]
            for task in tasks:
                await wait_task(cluster, task)
        return documents / (trio.current_time() - began), measured.share


async def main(*, quick: bool) -> None:
    rounds, each, requests = (1, 50, 600) if quick else (3, 300, 4_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(SOURCES):
            make_documents(folder / f"source-{number}", each)
        for what, run, size in (
            ("APIs, searches per second", searches, requests),
            ("workers, documents per second", syncs, SOURCES * each),
        ):
            found: dict[int, list[tuple[float, float]]] = {count: [] for count in COUNTS}
            for _ in range(rounds):
                for count in COUNTS:
                    found[count].append(await run(count, folder, size))
            one = statistics.median(rate for rate, _ in found[1])
            for count in COUNTS:
                rate = statistics.median(rate for rate, _ in found[count])
                share = statistics.median(share for _, share in found[count])
                print(f"{count} {what}: {rate:.0f}, {rate / one:.2f} of one, busy {share:.0%}")
    print(f"{os.cpu_count()} processors, shared with the load, nginx, PostgreSQL and Valkey")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small round")
    trio.run(lambda: main(quick=parser.parse_args().quick))
