"""Two APIs and two workers, each a process of its own, on one PostgreSQL."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.sercha import Sercha, clean_up, deployment

EMAIL, PASSWORD = "admin@example.org", "correct horse battery"
AGREE_SECONDS = 20.0
"""How long both APIs may take to show a change, on a machine that does other work; on a quiet one two seconds."""


@dataclass
class Cluster:
    """The processes, and a log-in."""

    apis: list[Sercha]
    workers: list[Sercha]
    token: str
    root: Path

    def search(self, api: Sercha, query: str, **body: Any) -> list[tuple[str, float]]:
        status, answer = api.request("POST", "/search", {"query": query, **body}, token=self.token)
        assert status == 200, answer
        return [(hit["document"]["path"], hit["score"]) for hit in answer["results"]]

    def sync(self, source_id: str) -> float:
        """Ask one API for a sync, wait for the other to say that it is done, and return by when all must agree.

        Everything was committed before that answer, so the time counts from it.
        """
        status, answer = self.apis[0].request(
            "POST", f"/sources/{source_id}/sync", token=self.token
        )
        assert status == 202, answer
        deadline = time.monotonic() + 60
        while True:
            _, task = self.apis[1].request("GET", f"/tasks/{answer['task_id']}", token=self.token)
            if task["state"] == "completed":
                return time.monotonic() + AGREE_SECONDS
            assert task["state"] in {"queued", "running", "pending", "processing"}, task
            assert time.monotonic() < deadline, task
            time.sleep(0.02)

    def wait_agreement(self, expected: dict[str, set[str]], deadline: float) -> None:
        """Wait until all APIs give the *expected* paths for each query, in the same order with the same scores.

        One *deadline* holds for all queries together, their own time included.
        """
        while True:
            answers = {
                query: [self.search(api, query, limit=100) for api in self.apis]
                for query in expected
            }
            wrong = {
                query: (first, second, expected[query])
                for query, (first, second) in answers.items()
                if first != second or {path for path, _ in first} != expected[query]
            }
            assert time.monotonic() < deadline, wrong
            if not wrong:
                return
            time.sleep(0.02)


@pytest.fixture
def cluster(postgres_url: str, tmp_path: Path) -> Iterator[Cluster]:
    root = tmp_path / "root"
    root.mkdir()
    shared = deployment(postgres_url, tmp_path, root, WORKER_CLAIM_TTL="3s")
    processes: list[Sercha] = []
    try:
        for role, name in (("api", "a1"), ("api", "a2"), ("worker", "w1"), ("worker", "w2")):
            variables = {**shared, "DATA_DIR": str(tmp_path / name)}
            arguments = [role, "--port", "0"] if role == "api" else [role]
            processes.append(Sercha(tmp_path, *arguments, **variables))
        for process in processes:
            process.wait_ready()
        api = processes[0]
        body = {"name": "Admin", "email": EMAIL, "password": PASSWORD}
        assert api.request("POST", "/setup", body)[0] == 201
        yield Cluster(processes[:2], processes[2:], api.login(EMAIL, PASSWORD), root)
        for process in processes:
            if process.process.poll() is None:
                assert process.stop() == 0, process.output
    finally:
        clean_up(tmp_path)


def add_source(cluster: Cluster) -> str:
    status, source = cluster.apis[0].request(
        "POST",
        "/sources",
        {"name": "files", "provider_type": "localfs", "config": {"paths": [str(cluster.root)]}},
        token=cluster.token,
    )
    assert status == 201, source
    return source["id"]


def test_both_apis_give_the_same_order_soon_after_each_change(cluster: Cluster, seed: int) -> None:
    rng = random.Random(seed)
    words = ["oolong", "sencha", "assam", "mate", "rooibos"]
    source_id = add_source(cluster)
    texts: dict[Path, str] = {}

    for _ in range(6):
        for _ in range(rng.randint(1, 12)):
            file = cluster.root / f"f{rng.randrange(25):02}.txt"
            if file in texts and rng.random() < 0.3:
                file.unlink()
                del texts[file]
            else:
                texts[file] = " ".join(rng.choices(words, k=rng.randint(1, 40)))
                file.write_text(texts[file])
        expected = {
            query: {str(f) for f, text in texts.items() if any(w in text for w in query.split())}
            for query in [*words, "oolong mate"]
        }
        cluster.wait_agreement(expected, cluster.sync(source_id))

    for api in cluster.apis:
        status, report = api.request("POST", "/admin/index/verify", token=cluster.token)
        assert (status, report["differences"], report["checked"]) == (200, 0, len(texts))


def test_a_killed_api_comes_back_with_its_copy_and_agrees(cluster: Cluster) -> None:
    source_id = add_source(cluster)
    (cluster.root / "a.txt").write_text("oolong one")
    cluster.wait_agreement({"oolong": {str(cluster.root / "a.txt")}}, cluster.sync(source_id))
    killed = cluster.apis[1]
    killed.process.kill()
    killed.wait()
    (cluster.root / "b.txt").write_text("oolong two")
    cluster.apis[1] = cluster.apis[0]
    cluster.sync(source_id)

    cluster.apis[1] = Sercha(killed.home, "api", "--port", "0", **killed.variables).wait_ready()

    both = {str(cluster.root / "a.txt"), str(cluster.root / "b.txt")}
    cluster.wait_agreement({"oolong": both}, time.monotonic() + AGREE_SECONDS)
    assert "index.rebuilt" not in cluster.apis[1].output  # it went on where its copy was
    assert cluster.apis[1].stop() == 0


def test_a_killed_workers_sync_is_finished_by_the_other(cluster: Cluster) -> None:
    source_id = add_source(cluster)
    for number in range(300):
        (cluster.root / f"f{number:03}.txt").write_text(f"oolong number{number} " * 200)
    status, accepted = cluster.apis[0].request(
        "POST", f"/sources/{source_id}/sync", token=cluster.token
    )
    assert status == 202
    deadline = time.monotonic() + 90
    busy = None
    while busy is None:
        assert time.monotonic() < deadline
        busy = next((w for w in cluster.workers if "sync.started" in w.output), None)
        time.sleep(0.01)
    busy.process.kill()
    busy.wait()

    while True:
        _, task = cluster.apis[0].request(
            "GET", f"/tasks/{accepted['task_id']}", token=cluster.token
        )
        if task["state"] == "completed":
            break
        assert time.monotonic() < deadline, task
        time.sleep(0.1)

    cluster.wait_agreement(
        {"number299": {str(cluster.root / "f299.txt")}}, time.monotonic() + AGREE_SECONDS
    )
    _, listed = cluster.apis[0].request(
        "GET", f"/sources/{source_id}/documents?limit=1", token=cluster.token
    )
    assert listed["total"] == 300
