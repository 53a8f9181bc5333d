"""`sercha up` with an embedding model: what means the same is found, by the embedded engine alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.embeddings import running_endpoint
from tests.support.sercha import Sercha, clean_up, wait_gone

pytestmark = pytest.mark.root


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    clean_up(tmp_path)


def start(home: Path, *arguments: str) -> Sercha:
    data_dir = str(home / "data")
    return Sercha(home, "up", "--data-dir", data_dir, "--port", "0", *arguments).wait_ready()


def until_hybrid(sercha: Sercha, token: str, seconds: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        status, answer = sercha.request("GET", "/settings/ai/status", token=token)
        assert status == 200, answer
        if answer["effective_search_mode"] == "hybrid" and not answer.get("message"):
            return answer
        assert time.monotonic() < deadline, (answer, sercha.output)
        time.sleep(0.1)


def found(sercha: Sercha, token: str, mode: str) -> tuple[str, list[str]]:
    status, answer = sercha.request("POST", "/search", {"query": "car", "mode": mode}, token=token)
    assert status == 200, answer
    return answer["mode"], [Path(each["document"]["path"]).name for each in answer["results"]]


def test_what_means_the_same_is_found_and_after_a_restart_too(home: Path) -> None:
    notes = home / "notes"
    notes.mkdir()
    (notes / "a.md").write_text("an automobile")
    (notes / "b.md").write_text("one physician")
    with running_endpoint() as endpoint:
        sercha = start(home, "--index", str(notes))
        sercha.cli("sync", "--all", "--wait")
        password = (home / "data" / "admin-password").read_text().strip()
        token = sercha.login("admin@sercha.local", password)
        assert found(sercha, token, "semantic") == ("text", [])
        chosen = {"provider": "ollama", "model": "words", "base_url": endpoint.url}
        sercha.request("PUT", "/settings", {"default_search_mode": "hybrid"}, token=token)

        status, answer = sercha.request("PUT", "/settings/ai", {"embedding": chosen}, token=token)

        assert status == 200, answer
        answer = until_hybrid(sercha, token)
        assert answer["progress"] == [
            {"model": "words", "state": "current", "documents": 2, "embedded": 2}
        ]
        assert answer["vespa"]["connected"] is False
        assert found(sercha, token, "semantic") == ("semantic", ["a.md", "b.md"])
        assert found(sercha, token, "hybrid") == ("hybrid", ["a.md", "b.md"])
        health = sercha.request("GET", "//health")[1]["components"]
        assert health["vectors"]["status"] == health["embedding"]["status"] == "healthy"
        assert sercha.stop() == 0
        wait_gone(home)

        again = start(home)
        token = again.login("admin@sercha.local", password)
        until_hybrid(again, token)
        assert found(again, token, "semantic") == ("semantic", ["a.md", "b.md"])
        assert again.stop() == 0, json.dumps(again.lines)
    wait_gone(home)
