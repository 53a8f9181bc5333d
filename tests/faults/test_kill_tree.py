"""kill -9 of the whole process tree while it indexes, then a plain start: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sercha import Sercha, clean_up, clusters_of, processes_of, wait_gone

FILES = 1_500


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    clean_up(tmp_path)


@pytest.fixture
def corpus(home: Path) -> Path:
    root = home / "corpus"
    for number in range(FILES):
        folder = root / f"d{number % 37:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number:05}.md").write_text(
            f"# Paper {number}\n\nunique{number}word\n\n" + "some words to read and cut. " * 200
        )
    return root


def _up(home: Path, corpus: Path) -> Sercha:
    return Sercha(
        home, "up", "--data-dir", str(home / "data"), "--port", "0", "--index", str(corpus)
    )


def _kill_at_random_moments(home: Path, corpus: Path, kills: int, seed: int) -> None:
    """Kill during the start, the sync and the indexing; then let one run end and look at everything.

    Cause: every process of the home, PostgreSQL included, gets SIGKILL at once. Invariant: each file is one
    document, the copy equals the truth, and no process outlives the last stop.
    """
    rng = random.Random(seed)
    for _ in range(kills):
        sercha = _up(home, corpus)
        time.sleep(rng.uniform(0.1, 6.0))  # the random moment is the point of the test
        sercha.kill_tree()
        assert processes_of(home) == []

    sercha = _up(home, corpus).wait_ready(120)
    sercha.cli("sync", "--all", "--wait")
    report = json.loads(sercha.cli("index", "verify", "--json").stdout)
    (source,) = json.loads(sercha.cli("source", "list", "--json").stdout)
    for number in rng.sample(range(FILES), 20):
        found = json.loads(sercha.cli("search", f"unique{number}word", "--json").stdout)
        assert [Path(hit["document"]["path"]).name for hit in found["results"]] == [
            f"f{number:05}.md"
        ]
        assert found["total_count"] == 1

    assert source["document_count"] == FILES
    assert report == {**report, "checked": FILES, "missing": 0, "stale": 0, "ghost": 0}
    assert sercha.stop() == 0, sercha.output
    wait_gone(home)


def test_three_kills_during_indexing_lose_and_double_nothing(
    home: Path, corpus: Path, seed: int
) -> None:
    _kill_at_random_moments(home, corpus, kills=3, seed=seed)


@pytest.mark.proof
def test_twenty_kills_during_indexing_lose_and_double_nothing(
    home: Path, corpus: Path, seed: int
) -> None:
    _kill_at_random_moments(home, corpus, kills=20, seed=seed)


def test_a_server_of_somebody_else_is_left_alone(home: Path, corpus: Path) -> None:
    """The recorded pid belongs to another program by now: it must not be signalled."""
    sercha = _up(home, corpus).wait_ready()
    sercha.kill_tree()
    bystander = os.spawnlp(os.P_NOWAIT, "sleep", "sleep", "300")
    try:
        (cluster,) = clusters_of(home) or [home / "data"]
        note = cluster / "postgres/postmaster.pid"
        lines = note.read_text().splitlines()
        note.write_text("\n".join([str(bystander), *lines[1:]]) + "\n")

        again = _up(home, corpus).wait_ready()

        assert os.waitpid(bystander, os.WNOHANG) == (0, 0)
        assert again.stop() == 0
    finally:
        os.kill(bystander, 9)
        os.waitpid(bystander, 0)
