"""The official command line client, of the wheel vespacli, against the stand-in."""

from __future__ import annotations

import json
import os
import platform
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.vespa import Fault, Vespa
from tests.vespa.example import ROOT

TIME_LIMIT = 120.0


@dataclass(frozen=True)
class Result:
    """What a run of the client left."""

    status: int
    out: str
    error: str


@dataclass(frozen=True)
class Client:
    """The client with a home of its own, for one address."""

    program: Path
    home: Path
    url: str

    async def run(self, *arguments: str, status: int = 0) -> Result:
        """Run a command; it must end with *status*."""
        environment = os.environ | {
            "HOME": str(self.home),
            "VESPA_CLI_HOME": str(self.home),
            "VESPA_CLI_CLOUD_CI": "true",
        }
        with trio.fail_after(TIME_LIMIT):
            done = await trio.run_process(
                [str(self.program), *arguments, "--target", self.url, "--color", "never"],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=environment,
                cwd=self.home,
            )
        result = Result(done.returncode, done.stdout.decode(), done.stderr.decode())
        assert result.status == status, result
        return result

    def file(self, name: str, *contents: Any) -> str:
        """Write lines of JSON to a file, and give its path."""
        path = self.home / name
        path.write_text("".join(json.dumps(each) + "\n" for each in contents))
        return str(path)


def program() -> Path | None:
    """The client's program for this machine."""
    spec = find_spec("vespacli")
    if spec is None or not spec.submodule_search_locations:
        return None
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    folder = Path(spec.submodule_search_locations[0]) / "go-binaries"
    pattern = f"*_{platform.system().lower()}_{machine}/bin/vespa"
    return next(iter(sorted(folder.glob(pattern))), None)


@pytest.fixture
def client(vespa: Vespa, tmp_path: Path, require: Callable[[str, object, str], None]) -> Client:
    """Give the client, for the port that serves both interfaces."""
    found = program()
    require("vespacli", found, "the wheel vespacli has no program for this machine")
    assert found is not None
    return Client(found, tmp_path, vespa.combined_url)


def package(folder: Path) -> str:
    """A copy of the example, without what is not of the package."""
    for name in ("services.xml", "schemas/doc.sd", "schemas/note.sd"):
        target = folder / "app" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    return str(folder / "app")


def put_of(user: str, **fields: Any) -> dict[str, Any]:
    """A put as a line of a feed."""
    return {"put": f"id:n:doc::{user}", "fields": fields}


async def test_status_waits_for_the_rotation(vespa: Vespa, client: Client) -> None:
    result = await client.run("status")
    assert "is ready" in result.out
    vespa.faults.add(Fault("out-of-rotation", count=2))
    await client.run("status", "--wait", "20")
    vespa.faults.add(Fault("out-of-rotation"))
    refused = await client.run("status", status=1)
    assert "404" in refused.out + refused.error


async def test_deploy_waits_for_the_generation(
    vespa: Vespa, client: Client, tmp_path: Path
) -> None:
    assert vespa.application is not None
    before = vespa.application.generation
    vespa.faults.add(Fault("slow-convergence", delay=1.0, count=1))
    await client.run("deploy", "--wait", "60", package(tmp_path))
    assert vespa.application.generation == before + 1
    (deployed,) = vespa.requests.select("POST", "/application/v2/tenant/default/prepareandactivate")
    assert deployed.headers["transfer-encoding"] == "chunked"
    assert deployed.headers["content-type"] == "application/zip"
    polls = [each for each in vespa.requests if each.path.endswith("/serviceconverge")]
    assert len(polls) > 1, "it asked again until the services had the generation"


async def test_deploy_of_a_wrong_package_shows_the_reason(
    vespa: Vespa, client: Client, tmp_path: Path
) -> None:
    folder = Path(package(tmp_path))
    schema = folder / "schemas/note.sd"
    schema.write_text(schema.read_text().replace("indexing:", "indexes:"))
    before = vespa.application
    result = await client.run("deploy", str(folder), status=1)
    assert "Encountered 'indexes' in a field" in result.error
    assert vespa.application is before


async def test_prepare_activate_and_fetch(vespa: Vespa, client: Client, tmp_path: Path) -> None:
    prepared = await client.run("prepare", package(tmp_path))
    session = prepared.out.rsplit(maxsplit=1)[-1]
    assert prepared.out.strip().endswith(f"with session {session}")
    assert vespa.application is not None
    assert vespa.application.generation != int(session)
    activated = await client.run("activate")
    assert f"Activated application with session {session}" in activated.out
    assert vespa.application.generation == int(session)
    await client.run("fetch", str(tmp_path / "fetched.zip"))
    with zipfile.ZipFile(tmp_path / "fetched.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    assert files == dict(vespa.application.files)


async def test_single_documents(vespa: Vespa, client: Client) -> None:
    put = await client.run(
        "document", "put", client.file("put.json", put_of("1", title="one", year=3))
    )
    assert put.out == "Success: put id:n:doc::1\n"
    change = {"update": "id:n:doc::1", "fields": {"year": {"assign": 4}}}
    updated = await client.run("document", "update", client.file("update.json", change))
    assert updated.out == "Success: update id:n:doc::1\n"
    got = await client.run("document", "get", "id:n:doc::1")
    assert json.loads(got.out) == {
        "pathId": "/document/v1/n/doc/docid/1",
        "id": "id:n:doc::1",
        "fields": {"title": "one", "year": 4},
    }
    removed = await client.run("document", "remove", "id:n:doc::1")
    assert removed.out == "Success: remove id:n:doc::1\n"
    assert vespa.store.count("doc") == 0
    missing = await client.run("document", "get", "id:n:doc::1", status=1)
    assert "Status 404" in missing.error


async def test_documents_that_are_refused(vespa: Vespa, client: Client) -> None:
    wrong = client.file("wrong.json", put_of("1", nothing=1))
    result = await client.run("document", "put", wrong, status=1)
    assert "Invalid document operation: Status 400" in result.error
    assert "Field 'nothing' is not defined in document type 'doc'" in result.error
    right = client.file("right.json", put_of("1", year=1))
    vespa.faults.add(Fault("unavailable", count=1))
    assert "Status 503" in (await client.run("document", "put", right, status=1)).error
    vespa.faults.add(Fault("full", count=1))
    assert "NO_SPACE" in (await client.run("document", "put", right, status=1)).error
    assert vespa.store.count("doc") == 0
    condition = {"put": "id:n:doc::1", "condition": "doc.year == 7", "fields": {"year": 1}}
    result = await client.run("document", "put", client.file("c.json", condition), status=1)
    assert "Status 412" in result.error


async def test_ids_are_the_same_for_both_sides(vespa: Vespa, client: Client) -> None:
    await client.run("document", "put", client.file("put.json", put_of("a/b?c#d e%", year=1)))
    (document,) = vespa.store.documents("doc")
    assert document.id.user_specific == "a/b?c#d e%"
    await client.run("document", "get", "id:n:doc::a/b?c#d e%")


def fill(vespa: Vespa, count: int) -> set[str]:
    """Put documents without HTTP, and give their ids."""
    from tests.vespa.model import DocumentId

    ids = [DocumentId("n", "doc", str(each)) for each in range(count)]
    for each in ids:
        vespa.store.put(each, {"year": 1})
    return {str(each) for each in ids}


@pytest.mark.parametrize(
    "flags",
    [(), ("--content-cluster", "docs"), ("--content-cluster", "docs", "--stream", "--json-lines")],
    ids=["discovery", "pages", "lines"],
)
async def test_visit(vespa: Vespa, client: Client, flags: tuple[str, ...]) -> None:
    ids = fill(vespa, 50)
    result = await client.run("visit", "--chunk-count", "7", *flags)
    found = [json.loads(line)["id"] for line in result.out.splitlines()]
    assert sorted(found) == sorted(ids)
    asked = vespa.requests.select("GET", "/document/v1/")
    if "--stream" not in flags:
        assert sum("continuation=" in each.query for each in asked) > 3
    if not flags:
        assert asked[0].status == 400, "the clusters are read from this answer"


async def test_visit_goes_on_after_an_overload_and_a_cut(vespa: Vespa, client: Client) -> None:
    ids = fill(vespa, 200)
    vespa.faults.add(Fault("overload", path="^/document/v1/$", count=2))
    vespa.faults.add(Fault("truncate", path="^/document/v1/$", size=3000, is_clean=True, count=2))
    flags = ("--content-cluster", "docs", "--stream", "--json-lines", "--bucket-space", "default")
    result = await client.run("visit", *flags)
    found = {json.loads(line)["id"] for line in result.out.splitlines()}
    assert found == ids
    statuses = Counter(each.status for each in vespa.requests.select("GET", "/document/v1/"))
    assert statuses[429] == 2
    assert statuses[200] >= 3


async def test_feed_over_http2_with_overload_and_unavailability(
    vespa: Vespa, client: Client
) -> None:
    lines: list[dict[str, Any]] = [put_of(str(each), title="x" * 600, year=0) for each in range(60)]
    lines += [{"update": "id:n:doc::7", "fields": {"year": {"increment": 1}}} for _ in range(20)]
    lines += [{"remove": f"id:n:doc::{each}"} for each in range(10, 20)]
    vespa.faults.add(Fault("overload", path="/docid/", probability=0.2, seed=3, count=15))
    vespa.faults.add(Fault("unavailable", path="/docid/3", skip=1, count=4))
    result = await client.run("feed", "--connections", "2", client.file("feed.jsonl", *lines))
    summary = json.loads(result.out)
    requests = [each for each in vespa.requests if each.path.startswith("/document/v1/n/")]
    counted = Counter(str(each.status) for each in requests)
    assert summary["http.response.code.counts"] == counted
    assert counted["503"] == 4
    assert counted["429"] > 3
    assert summary["feeder.operation.count"] == summary["feeder.ok.count"] == len(lines)
    assert summary["feeder.error.count"] == summary["http.exception.count"] == 0
    assert summary["http.request.count"] == len(requests)
    assert {each.http_version for each in requests} == {"2"}
    assert any(each.headers.get("content-encoding") == "gzip" for each in requests)
    assert vespa.store.count("doc") == 50
    (seventh,) = [each for each in vespa.store.documents("doc") if each.id.user_specific == "7"]
    assert seventh.fields["year"] == 20
    assert vespa.requests.are_in_turn(vespa.requests.of_document("n", "doc", "7"))
    assert vespa.requests.concurrency_max("combined") > 1


async def test_feed_gives_up_only_what_cannot_be(vespa: Vespa, client: Client) -> None:
    lines = [put_of("1", year=1), put_of("2", nothing=1), put_of("3", year=1), put_of("4", year=1)]
    vespa.faults.add(Fault("unavailable", path="/docid/3$"))
    vespa.faults.add(Fault("internal", path="/docid/4$"))
    result = await client.run("feed", client.file("feed.jsonl", *lines))
    summary = json.loads(result.out)
    assert summary["http.response.code.counts"] == {"200": 1, "400": 1, "500": 1, "503": 10}
    assert summary["feeder.ok.count"] == 1
    assert "giving up after 10 attempts" in result.error
    assert "not retryable" in result.error
    assert vespa.store.count("doc") == 1


KINDS = ["reset-before", "reset-after", "goaway-before", "goaway-during", "goaway-after"]


@pytest.mark.parametrize("kind", KINDS)
async def test_feed_survives_broken_connections(vespa: Vespa, client: Client, kind: str) -> None:
    lines = [put_of(str(each), year=1) for each in range(40)]
    fault = vespa.faults.add(Fault(kind, path="/docid/", skip=5, count=2))
    result = await client.run("feed", "--connections", "2", client.file("feed.jsonl", *lines))
    summary = json.loads(result.out)
    assert vespa.store.count("doc") == 40
    assert fault.hits == 2
    if kind.startswith("reset"):
        # The client does not count an operation whose answer is cut after its head.
        assert summary["http.exception.count"] > 0
        assert summary["feeder.ok.count"] > 30
    else:
        assert summary["feeder.ok.count"] == 40


async def test_query(vespa: Vespa, client: Client) -> None:
    await client.run("document", "put", client.file("put.json", put_of("1", title="hello world")))
    result = await client.run("query", "yql=select title from doc where title contains 'hello'")
    root = json.loads(result.out)["root"]
    assert root["fields"]["totalCount"] == 1
    assert root["children"][0]["fields"]["title"] == "hello world"
    (asked,) = vespa.requests.select("GET", "/search/")
    assert "timeout=10s" in asked.query
    wrong = await client.run("query", "yql=select * from doc where nothing contains 'x'", status=1)
    assert "does not exist" in wrong.out + wrong.error
