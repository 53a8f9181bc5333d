"""Search by meaning in a whole deployment: an API and a worker as processes, an engine, and models that are changed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.embeddings import EmbeddingEndpoint, running_endpoint
from tests.support.sercha import Sercha, clean_up, deployment
from tests.support.vespa_program import open_vespa_program

EMAIL, PASSWORD = "admin@example.org", "correct horse battery"
PATIENCE_SECONDS = 60.0
TEXTS = {
    "wheels.txt": "an automobile in the yard",
    "health.txt": "the physician is in",
    "code.txt": "error word-4711 again",
}


@dataclass
class Lab:
    """The processes and a log-in."""

    api: Sercha
    worker: Sercha
    token: str
    root: Path

    def ask(self, method: str, path: str, body: object = None) -> Any:
        status, answer = self.api.request(method, path, body, token=self.token)
        assert status < 300, answer
        return answer

    def search(self, query: str, mode: str) -> tuple[str, list[str]]:
        """Return the mode that answered, and the names of what was found."""
        answer = self.ask("POST", "/search", {"query": query, "mode": mode})
        names = [Path(hit["document"]["path"]).name for hit in answer["results"]]
        return answer["mode"], names

    def choose(self, endpoint: EmbeddingEndpoint, model: str) -> None:
        """Want the vectors of a model."""
        wanted = {"provider": "ollama", "model": model, "base_url": endpoint.url}
        self.ask("PUT", "/settings/ai", {"embedding": wanted})

    def wait(self, condition: Callable[[], bool]) -> None:
        """Ask until it is so."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, self.api.output + self.worker.output
            time.sleep(0.05)

    def model(self) -> str | None:
        """Return the model that answers searches."""
        return self.ask("GET", "/settings/ai/status")["embedding"].get("model")


@pytest.fixture(params=["vespa", "embedded"])
async def lab(
    request: pytest.FixtureRequest, postgres_url: str, tmp_path: Path
) -> AsyncIterator[Lab]:
    async with AsyncExitStack() as stack:
        engine: dict[str, str] = {}
        if request.param == "vespa":
            engine = (await stack.enter_async_context(open_vespa_program())).settings
        root = tmp_path / "root"
        root.mkdir()
        for name, text in TEXTS.items():
            (root / name).write_text(text)
        shared = deployment(postgres_url, tmp_path, root, **engine)
        processes: list[Sercha] = []
        try:
            for arguments in (("api", "--port", "0"), ("worker",)):
                variables = {**shared, "DATA_DIR": str(tmp_path / arguments[0])}
                processes.append(Sercha(tmp_path, *arguments, **variables))
            api, worker = (process.wait_ready() for process in processes)
            body = {"name": "Admin", "email": EMAIL, "password": PASSWORD}
            assert api.request("POST", "/setup", body)[0] == 201
            lab = Lab(api, worker, api.login(EMAIL, PASSWORD), root)
            source = {"name": "s", "provider_type": "localfs", "config": {"paths": [str(root)]}}
            source_id = lab.ask("POST", "/sources", source)["id"]
            lab.ask("POST", f"/sources/{source_id}/sync")
            yield lab
            assert [process.stop() for process in processes] == [0, 0]
        finally:
            clean_up(tmp_path)


@pytest.fixture
def endpoint() -> Iterator[EmbeddingEndpoint]:
    with running_endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def other_endpoint() -> Iterator[EmbeddingEndpoint]:
    with running_endpoint() as endpoint:
        endpoint.dimensions = 32
        yield endpoint


async def test_documents_are_found_by_what_they_mean(lab: Lab, endpoint: EmbeddingEndpoint) -> None:
    lab.wait(lambda: lab.search("automobile", "text")[1] == ["wheels.txt"])
    assert lab.search("car", "hybrid") == ("text", []), "there is no model yet"

    lab.choose(endpoint, "words")
    lab.wait(lambda: lab.model() == "words")
    lab.wait(lambda: lab.search("car", "semantic")[0] == "semantic")

    assert lab.search("car", "semantic")[1][0] == "wheels.txt"
    assert lab.search("doctor", "hybrid")[1][0] == "health.txt"
    assert lab.search("car", "text") == ("text", [])
    (lab.root / "more.txt").write_text("cars and cars")
    [source] = lab.ask("GET", "/sources")
    lab.ask("POST", f"/sources/{source['source']['id']}/sync")
    lab.wait(lambda: "more.txt" in lab.search("automobile", "semantic")[1][:2])


async def test_old_vectors_answer_until_those_of_the_new_model_are_there(
    lab: Lab, endpoint: EmbeddingEndpoint, other_endpoint: EmbeddingEndpoint
) -> None:
    lab.choose(endpoint, "words")
    lab.wait(lambda: lab.model() == "words")
    lab.wait(lambda: lab.search("car", "semantic")[0] == "semantic")

    lab.choose(other_endpoint, "other")
    other_endpoint.opened.clear()  # asked for its dimensions it has answered; the work is held
    other_endpoint.arrived.clear()
    (lab.root / "late.txt").write_text("a late automobile")
    [source] = lab.ask("GET", "/sources")
    lab.ask("POST", f"/sources/{source['source']['id']}/sync")
    lab.wait(lambda: "late.txt" in lab.search("car", "semantic")[1])
    assert lab.model() == "words"
    assert set(lab.search("car", "semantic")[1][:2]) == {"wheels.txt", "late.txt"}

    other_endpoint.opened.set()
    lab.wait(lambda: lab.model() == "other")
    lab.wait(lambda: set(lab.search("car", "semantic")[1][:2]) == {"wheels.txt", "late.txt"})
    assert lab.search("car", "hybrid")[0] == "hybrid"


async def test_endpoint_that_hangs_costs_a_search_its_meaning_and_no_more(
    lab: Lab, endpoint: EmbeddingEndpoint
) -> None:
    lab.choose(endpoint, "words")
    lab.wait(lambda: lab.search("car", "semantic")[0] == "semantic")

    endpoint.opened.clear()
    begun = time.monotonic()
    found = lab.search("automobile yard", "hybrid")
    took = time.monotonic() - begun

    assert found == ("text", ["wheels.txt"])
    assert took < 10, "two seconds are its bound; the rest is the machine's"
    endpoint.opened.set()
    lab.wait(lambda: lab.search("automobile yard", "hybrid")[0] == "hybrid")
