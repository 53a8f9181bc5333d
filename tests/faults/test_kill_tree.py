"""kill -9 of the whole process tree while it indexes, then a plain start: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from tests.support.sercha import Sercha, clean_up, clusters_of, processes_of, wait_gone

FILES = 900
REWRITTEN, ADDED, DELETED = 300, 200, 200
"""Files changed before each start, so that each has something to index."""
START_SECONDS, SYNC_SECONDS = 1.5, 1.5
"""How long a start and a sync take, about."""
CATCH_UP_SECONDS = 0.3
"""How long to look after a sync for an index that is behind."""


class Phase(StrEnum):
    """What a run was doing when it was killed."""

    START = "start"
    SYNC = "sync"
    CATCH_UP = "index catch-up"
    IDLE = "idle"


AIMS = {Phase.START: 0.2, Phase.SYNC: 0.5, Phase.CATCH_UP: 0.3}
"""How often a kill is aimed at which phase; what it hits is another question."""


class Corpus:
    """Files with a word of their own in each version; changed while nobody looks."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        self.root = root
        self.versions: dict[int, int] = {}
        self.deleted: dict[int, int] = {}
        self._rng = rng

    def path(self, number: int) -> Path:
        return self.root / f"d{number % 37:02}" / f"f{number:05}.md"

    def word(self, number: int) -> str:
        """The word of the file's last version."""
        version = self.versions.get(number) or self.deleted[number]
        return f"unique{number}version{version}word"

    def earlier_word(self, number: int) -> str:
        """The word of the version before, which must not be found any more."""
        return f"unique{number}version{self.versions[number] - 1}word"

    def change(self, *, rewritten: int, added: int, deleted: int) -> None:
        """Delete some files, rewrite some of the others, and add some: new ones, and old ones anew."""
        for number in self._rng.sample(sorted(self.versions), deleted):
            self.path(number).unlink()
            self.deleted[number] = self.versions.pop(number)
        for number in self._rng.sample(sorted(self.versions), rewritten):
            self._write(number, self.versions[number] + 1)
        back = self._rng.sample(sorted(self.deleted), min(added // 2, len(self.deleted)))
        for number in back:
            self._write(number, self.deleted.pop(number) + 1)
        first = len(self.versions) + len(self.deleted)
        for number in range(first, first + added - len(back)):
            self._write(number, 1)

    def _write(self, number: int, version: int) -> None:
        self.versions[number] = version
        path = self.path(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "some words to read and cut. " * 200
        path.write_text(f"# Paper {number}\n\n{self.word(number)}\n\n{text}")


class Watch:
    """Follows one run from outside: by its log, and by what its API says about the index."""

    def __init__(self, sercha: Sercha) -> None:
        self.sercha = sercha
        self._after_sync = Phase.IDLE

    def phase(self) -> Phase:
        """Say what the run is doing, or was when it was killed; in doubt it was idle."""
        events = re.findall(r'"event": "sync\.(started|completed)"', self.sercha.output)
        if not events:
            return Phase.START
        return Phase.SYNC if events[-1] == "started" else self._after_sync

    def look(self) -> Phase:
        """Say what the run is doing, and ask the index where that is the question."""
        if self.phase() in {Phase.START, Phase.SYNC}:
            self._after_sync = Phase.IDLE
        else:
            is_behind = self._index().get("pending", 0) > 0
            self._after_sync = Phase.CATCH_UP if is_behind else Phase.IDLE
        return self.phase()

    def _index(self) -> dict[str, Any]:
        """Ask with the token that an earlier run has left in the profile, if the API is there."""
        profile = self.sercha.home / "config/sercha/profile.json"
        if not self.sercha.url or not profile.exists():
            return {}
        token = json.loads(profile.read_text())["token"]
        status, state = self.sercha.request("GET", "/index", token=token)
        return state if status == 200 else {}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    clean_up(tmp_path)


def _up(home: Path, corpus: Corpus) -> Sercha:
    arguments = ["--data-dir", str(home / "data"), "--port", "0", "--index", str(corpus.root)]
    return Sercha(home, "up", *arguments, LOG_LEVEL="info")


def _kill_once(sercha: Sercha, rng: random.Random) -> Phase:
    """Kill a run at a random moment of the phase that is aimed at; return which one it was."""
    watch = Watch(sercha)
    (aim,) = rng.choices(list(AIMS), list(AIMS.values()))
    if aim is Phase.START:
        time.sleep(rng.uniform(0.1, START_SECONDS))  # random moments are the point of the test
    else:
        sercha.wait_line(r'"sync\.started"')
        if aim is Phase.SYNC:
            time.sleep(rng.uniform(0.0, SYNC_SECONDS))
            watch.look()
        else:
            sercha.wait_line(r'"sync\.completed"')
            moment = time.monotonic() + CATCH_UP_SECONDS
            while watch.look() is not Phase.CATCH_UP and time.monotonic() < moment:
                pass
    sercha.kill_tree()
    assert processes_of(sercha.home) == []
    return watch.phase()


def _kill_at_random_moments(home: Path, *, kills: int, seed: int) -> None:
    """Kill during the start, the sync and the indexing; then let one run end and look at everything.

    Cause: every process of the home, PostgreSQL included, gets SIGKILL at once. Most kills must fall while the
    run syncs or its index catches up, else more are made, up to twice as many. Invariant: each file is one
    document in its last version, the copy equals the truth, and no process outlives the last stop.
    """
    rng = random.Random(seed)
    corpus = Corpus(home / "corpus", rng)
    corpus.change(rewritten=0, added=FILES, deleted=0)
    phases: Counter[Phase] = Counter()
    for done in range(2 * kills):
        busy = phases[Phase.SYNC] + phases[Phase.CATCH_UP]
        if done >= kills and 2 * busy > done:
            break
        corpus.change(rewritten=REWRITTEN, added=ADDED, deleted=DELETED)
        phases[_kill_once(_up(home, corpus), rng)] += 1
    print(f"{phases.total()} kills: {', '.join(f'{phases[each]} in {each}' for each in Phase)}")
    assert 2 * (phases[Phase.SYNC] + phases[Phase.CATCH_UP]) > phases.total() >= kills

    sercha = _up(home, corpus).wait_ready(120)
    sercha.cli("sync", "--all", "--wait")
    _check_everything(sercha, corpus, rng)
    assert sercha.stop() == 0, sercha.output
    wait_gone(home)


def _check_everything(sercha: Sercha, corpus: Corpus, rng: random.Random) -> None:
    token = json.loads((sercha.home / "config/sercha/profile.json").read_text())["token"]
    report = json.loads(sercha.cli("index", "verify", "--json").stdout)
    files = sorted(str(path) for path in corpus.root.rglob("*.md"))

    assert len(files) == len(corpus.versions)
    assert _listed(sercha, token) == files
    assert report == {**report, "checked": len(files), "differences": 0}
    for number in rng.sample(sorted(corpus.versions), 30):
        assert _found(sercha, corpus.word(number), token) == [str(corpus.path(number))]
        assert _found(sercha, corpus.earlier_word(number), token) == []
    for number in rng.sample(sorted(corpus.deleted), 30):
        assert _found(sercha, corpus.word(number), token) == []


def _listed(sercha: Sercha, token: str) -> list[str]:
    """Return the paths of all documents, sorted; one that is there twice comes twice."""
    status, (source,) = sercha.request("GET", "/sources", token=token)
    assert status == 200
    paths: list[str] = []
    while True:
        address = f"/sources/{source['source']['id']}/documents?limit=100&offset={len(paths)}"
        status, page = sercha.request("GET", address, token=token)
        assert status == 200, page
        paths += [each["path"] for each in page["documents"]]
        if not page["documents"]:
            assert len(paths) == page["total"]
            return sorted(paths)


def _found(sercha: Sercha, word: str, token: str) -> list[str]:
    status, page = sercha.request("POST", "/search", {"query": word}, token=token)
    assert status == 200, page
    assert page["total_count"] == len(page["results"])
    return [hit["document"]["path"] for hit in page["results"]]


def test_three_kills_during_indexing_lose_and_double_nothing(home: Path, seed: int) -> None:
    _kill_at_random_moments(home, kills=3, seed=seed)


@pytest.mark.proof
def test_twenty_kills_during_indexing_lose_and_double_nothing(home: Path, seed: int) -> None:
    _kill_at_random_moments(home, kills=20, seed=seed)


def test_a_server_of_somebody_else_is_left_alone(home: Path) -> None:
    """The recorded pid belongs to another program by now: it must not be signalled."""
    corpus = Corpus(home / "corpus", random.Random(1))
    corpus.change(rewritten=0, added=10, deleted=0)
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
