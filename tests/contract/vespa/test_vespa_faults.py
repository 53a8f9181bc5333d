"""The stand-in's own faults, switches and record: these cases never run on a real Vespa."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import trio

from tests.contract.vespa.endpoint import DEPLOY
from tests.vespa import Fault, Vespa, open_vespa
from tests.vespa.example import example_files, zipped

PATH = "/document/v1/n/doc/docid/1"
BODY = {"fields": {"year": 1}}
BROKEN = (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError)


@pytest.fixture(params=["HTTP/1.1", "HTTP/2"])
async def client(request: pytest.FixtureRequest) -> AsyncGenerator[httpx.AsyncClient]:
    """Give a client of each version."""
    is_new = request.param == "HTTP/2"
    async with httpx.AsyncClient(http1=not is_new, http2=is_new) as found:
        yield found


def year(vespa: Vespa) -> Any:
    """The year of the document, None when there is none."""
    documents = list(vespa.store.documents("doc"))
    return documents[0].fields["year"] if documents else None


@pytest.mark.parametrize(
    ("variant", "text"),
    [
        ("operations", "256 requests already enqueued"),
        ("age", "3.0 seconds worth of work enqueued"),
        ("bytes", "estimated size of operation is"),
    ],
)
async def test_overload(vespa: Vespa, client: httpx.AsyncClient, variant: str, text: str) -> None:
    vespa.faults.add(Fault("overload", variant=variant, count=1))
    answer = await client.post(vespa.container_urls[0] + PATH, json=BODY)
    assert answer.status_code == 429
    assert answer.json()["message"].startswith("Rejecting execution due to overload: " + text)
    assert set(answer.json()) == {"pathId", "message"}
    assert year(vespa) is None
    assert (await client.post(vespa.container_urls[0] + PATH, json=BODY)).status_code == 200


async def test_unavailable_has_no_body(vespa: Vespa, client: httpx.AsyncClient) -> None:
    vespa.faults.add(Fault("unavailable", container=0))
    answer = await client.post(vespa.container_urls[0] + PATH, json=BODY)
    assert (answer.status_code, answer.content) == (503, b"")
    assert (await client.post(vespa.container_urls[1] + PATH, json=BODY)).status_code == 200


@pytest.mark.parametrize("variant", ["", "applied"])
async def test_a_timeout_says_nothing_about_the_write(
    vespa: Vespa, client: httpx.AsyncClient, variant: str
) -> None:
    vespa.faults.add(Fault("timeout", delay=0.01, variant=variant, count=1))
    answer = await client.post(vespa.container_urls[0] + PATH + "?timeout=1", json=BODY)
    assert answer.status_code == 504
    assert answer.json() == {"pathId": PATH, "id": "id:n:doc::1", "message": "Timeout after 1000ms"}
    assert year(vespa) == (1 if variant else None)


async def test_an_internal_error(vespa: Vespa, client: httpx.AsyncClient) -> None:
    vespa.faults.add(Fault("internal", count=1))
    answer = await client.delete(vespa.container_urls[0] + PATH)
    assert answer.status_code == 500
    assert answer.json()["message"] == "[FATAL_ERROR @ localhost]: FATAL_ERROR"
    vespa.faults.add(Fault("internal", count=1))
    answer = await client.get(vespa.config_url + "/application/v2/tenant/default/application/")
    assert answer.json()["error-code"] == "INTERNAL_SERVER_ERROR"


async def test_a_full_cluster_takes_removes_and_numbers(
    vespa: Vespa, client: httpx.AsyncClient
) -> None:
    url = vespa.container_urls[0] + PATH
    await client.post(url, json=BODY)
    full = vespa.faults.add(Fault("full"))
    assigned = await client.put(url, json={"fields": {"year": {"assign": 2}}})
    assert (assigned.status_code, year(vespa)) == (200, 2)
    for method, body in (
        ("POST", BODY),
        ("PUT", {"fields": {"title": {"assign": "t"}}}),
        ("PUT", {"fields": {"year": {"increment": 1}}}),
        ("PUT", {"fields": {"year": {"assign": 3}, "acl": {"assign": []}}}),
    ):
        refused = await client.request(method, url, json=body)
        assert refused.status_code == 507
        assert "ReturnCode(NO_SPACE, External feed is blocked" in refused.json()["message"]
        assert refused.json()["id"] == "id:n:doc::1"
    assert year(vespa) == 2
    assert (await client.get(url)).status_code == 200
    assert (await client.delete(url)).status_code == 200
    assert year(vespa) is None
    vespa.faults.remove(full)
    assert (await client.post(url, json=BODY)).status_code == 200


@pytest.mark.parametrize(("kind", "written"), [("reset-before", None), ("reset-after", 1)])
async def test_a_reset(
    vespa: Vespa, client: httpx.AsyncClient, kind: str, written: int | None
) -> None:
    vespa.faults.add(Fault(kind, count=1))
    with pytest.raises(BROKEN):
        await client.post(vespa.container_urls[0] + PATH, json=BODY)
    assert year(vespa) == written
    assert (await client.post(vespa.container_urls[0] + PATH, json=BODY)).status_code == 200
    assert [each.status for each in vespa.requests] == [None, 200]


async def put_some(vespa: Vespa, client: httpx.AsyncClient) -> str:
    url = vespa.container_urls[0] + "/document/v1/n/doc/docid/"
    for each in range(20):
        await client.post(f"{url}{each}", json=BODY)
    return url + "?stream=true"


async def test_lines_are_cut(vespa: Vespa, client: httpx.AsyncClient) -> None:
    url = await put_some(vespa, client)
    accept = {"accept": "application/jsonl"}
    whole = (await client.get(url, headers=accept)).text
    vespa.faults.add(Fault("truncate", size=len(whole) // 2, is_clean=True, count=1))
    cut = await client.get(url, headers=accept)
    assert (cut.status_code, cut.text) == (200, whole[: len(whole) // 2])
    vespa.faults.add(Fault("truncate", size=len(whole) // 2, count=1))
    received = b""
    with pytest.raises(BROKEN):
        async with client.stream("GET", url, headers=accept) as reply:
            assert reply.status_code == 200
            async for part in reply.aiter_bytes():
                received += part
    assert whole.encode().startswith(received)


async def test_a_slow_first_byte(vespa: Vespa, client: httpx.AsyncClient) -> None:
    vespa.faults.add(Fault("slow", delay=3600, method="POST", count=1))
    with pytest.raises(httpx.ReadTimeout):
        await client.post(vespa.container_urls[0] + PATH, json=BODY, timeout=0.2)
    assert year(vespa) == 1, "it was done, but not answered"


async def test_a_goaway_before_a_request_is_served(vespa: Vespa) -> None:
    vespa.faults.add(Fault("goaway-before", count=1))
    async with httpx.AsyncClient(http1=False, http2=True) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(vespa.container_urls[0] + PATH, json=BODY)
        assert year(vespa) is None
        assert (await client.post(vespa.container_urls[0] + PATH, json=BODY)).status_code == 200


async def test_a_goaway_before_an_answer_that_still_comes(vespa: Vespa) -> None:
    """The frame says that the request is served; a client that fails at it anyway must not think it was not."""
    vespa.faults.add(Fault("goaway-during", count=1))
    url = vespa.container_urls[0] + PATH
    async with httpx.AsyncClient(http1=False, http2=True) as client:
        with suppress(httpx.ProtocolError):
            assert (await client.post(url, json=BODY)).status_code == 200
    assert year(vespa) == 1
    assert [each.status for each in vespa.requests] == [200]


async def test_a_goaway_after_an_answer(vespa: Vespa) -> None:
    url = vespa.container_urls[0] + PATH
    vespa.faults.add(Fault("goaway-after", count=1))
    async with httpx.AsyncClient(http1=False, http2=True) as client:
        assert (await client.post(url, json=BODY)).status_code == 200
        assert year(vespa) == 1
        assert (await client.get(url)).status_code == 200, "on a new connection"
    assert [each.http_version for each in vespa.requests] == ["2", "2"]


async def test_faults_choose_by_path_method_count_and_skip(vespa: Vespa) -> None:
    fault = vespa.faults.add(Fault("unavailable", path="/docid/b$", method="POST", skip=1, count=2))
    statuses: list[int] = []
    async with httpx.AsyncClient() as client:
        for user in ("a", "b", "b", "a", "b", "b"):
            url = f"{vespa.container_urls[0]}/document/v1/n/doc/docid/{user}"
            statuses.append((await client.post(url, json=BODY)).status_code)
            assert (await client.get(url)).status_code in (200, 404)
    assert statuses == [200, 200, 503, 200, 503, 200]
    assert fault.hits == 2


def test_chance_is_the_same_with_the_same_seed(seed: int) -> None:
    def acts() -> list[bool]:
        fault = Fault("overload", probability=0.3, seed=seed)
        return [fault.acts("GET", "/", None) for _ in range(200)]

    assert acts() == acts()
    assert 20 < sum(acts()) < 100
    other = Fault("overload", probability=0.3, seed=seed + 1)
    assert [other.acts("GET", "/", None) for _ in range(200)] != acts()


@pytest.mark.parametrize(
    "values",
    [{"kind": "fire"}, {"kind": "degraded", "flags": ["x"]}, {"kind": "overload", "variant": "x"}],
)
def test_faults_that_do_not_exist(values: dict[str, Any]) -> None:
    values["flags"] = frozenset(values.get("flags", ()))
    with pytest.raises(ValueError):
        Fault(**values)


def test_what_the_search_is_told_of_faults() -> None:
    async def main() -> None:
        async with open_vespa() as vespa:
            vespa.faults.add(Fault("degraded", flags=frozenset({"timeout"}), coverage=60, count=1))
            vespa.faults.add(Fault("nodes-lost", nodes=frozenset({1}), is_false_full=True, count=1))
            vespa.faults.add(Fault("errors", errors=((12, "late"),), count=1))
            told = vespa.faults.degradation()
            assert (told.flags, told.coverage) == ({"timeout"}, 60)
            assert (told.lost_nodes, told.reports_full) == ({1}, True)
            assert told.errors == ((12, "late"),)
            assert vespa.faults.degradation().flags == frozenset()

    trio.run(main)


async def test_a_fault_of_the_search_at_one_container(
    vespa: Vespa, client: httpx.AsyncClient
) -> None:
    vespa.faults.add(Fault("errors", errors=((10, "gone"),), container=1))
    found: list[bool] = []
    for url in vespa.container_urls:
        answer = await client.get(f"{url}/search/", params={"yql": "select * from doc where true"})
        found.append("errors" in answer.json()["root"])
    assert found == [False, True]


async def test_a_container_that_is_down(vespa: Vespa, client: httpx.AsyncClient) -> None:
    url, other = (each + PATH for each in vespa.container_urls)
    assert (await client.post(url, json=BODY)).status_code == 200
    await vespa.stop_container(0)
    with pytest.raises(httpx.TransportError):
        await client.get(url)
    with pytest.raises(httpx.ConnectError):
        await client.get(url)
    assert (await client.get(other)).status_code == 200
    await vespa.start_container(0)
    assert (await client.get(url)).status_code == 200


async def test_a_container_that_goes_down_resets_its_requests(
    vespa: Vespa, client: httpx.AsyncClient
) -> None:
    vespa.faults.add(Fault("slow", delay=3600))

    async def stop() -> None:
        with trio.fail_after(10):
            while not vespa.requests.select("POST"):
                await trio.sleep(0.01)
        await vespa.stop_container(0)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop)
        with pytest.raises(BROKEN):
            await client.post(vespa.container_urls[0] + PATH, json=BODY)


async def test_a_container_out_of_rotation_and_one_that_begins(vespa: Vespa) -> None:
    first, second = vespa.container_urls
    vespa.faults.add(Fault("out-of-rotation", container=0))
    vespa.faults.add(Fault("initializing", container=1))
    async with httpx.AsyncClient() as client:
        status = await client.get(f"{first}/status.html")
        assert (status.status_code, status.text) == (
            404,
            "No search backends available, VIP status disabled.",
        )
        assert (await client.get(f"{second}/status.html")).status_code == 200
        health = await client.get(f"{second}/state/v1/health")
        assert (health.status_code, health.json()["status"]["code"]) == (200, "initializing")


async def test_the_record(vespa: Vespa) -> None:
    url = f"{vespa.container_urls[1]}/document/v1/n/doc/docid/a%2Fb"
    async with httpx.AsyncClient() as client:
        await client.post(url + "?timeout=5", content=b'{"fields":{}}', headers={"x-mine": "1"})
    (request,) = vespa.requests
    assert (request.port, request.method, request.status) == ("container-1", "POST", 200)
    assert (request.path, request.query) == ("/document/v1/n/doc/docid/a%2Fb", "timeout=5")
    assert request.headers["x-mine"] == "1"
    assert request.body_sha256 == hashlib.sha256(b'{"fields":{}}').hexdigest()
    assert vespa.requests.of_document("n", "doc", "a/b") == [request]
    vespa.requests.is_on = False
    async with httpx.AsyncClient() as client:
        await client.get(url)
    assert len(vespa.requests) == 1


async def test_the_record_shows_order_and_concurrency(
    vespa: Vespa, client: httpx.AsyncClient
) -> None:
    url = vespa.container_urls[0] + PATH
    for _ in range(3):
        await client.post(url, json=BODY)
    assert vespa.requests.are_in_turn(vespa.requests.of_document("n", "doc", "1"))
    assert vespa.requests.concurrency_max() == 1
    vespa.faults.add(Fault("slow", delay=0.3))
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(client.get, url)
    assert vespa.requests.concurrency_max() == 3
    assert not vespa.requests.are_in_turn(vespa.requests.of_document("n", "doc", "1"))


async def test_no_switch_is_served_unless_asked_for(vespa: Vespa) -> None:
    async with httpx.AsyncClient() as client:
        for url in (vespa.config_url, vespa.container_urls[0]):
            assert (await client.get(f"{url}/stand-in/faults")).status_code == 404


async def test_the_program_with_switches() -> None:
    """Another process is driven by HTTP alone."""
    command = [sys.executable, "-m", "tests.vespa", "--port", "0", "--control"]
    command += ["--container-port", "0", "--container-port", "0"]
    process = await trio.lowlevel.open_process(command, stdout=-1)
    assert process.stdout is not None
    try:
        with trio.fail_after(60):
            line = b""
            while not line.endswith(b"\n"):
                line += await process.stdout.receive_some()
            word, config, first, second, _ = line.decode().split()
            assert word == "ready"
            await drive(config, first, second)
    finally:
        process.terminate()
        await process.wait()
        await process.stdout.aclose()
    assert process.returncode == 0


async def drive(config: str, first: str, second: str) -> None:
    switches = config + "/stand-in"
    async with httpx.AsyncClient() as client:
        body, headers = zipped(example_files()), {"content-type": "application/zip"}
        answer = await client.post(config + DEPLOY, content=body, headers=headers)
        assert answer.status_code == 200
        fault = {"kind": "overload", "path": "/docid/1", "count": 1}
        assert (await client.post(f"{switches}/faults", json=fault)).status_code == 201
        assert (await client.post(f"{switches}/faults", json={"kind": "fire"})).status_code == 400
        statuses = [(await client.post(first + PATH, json=BODY)).status_code for _ in range(2)]
        assert statuses == [429, 200]
        (shown,) = (await client.get(f"{switches}/faults")).json()
        assert (shown["kind"], shown["hits"]) == ("overload", 1)
        assert (await client.delete(f"{switches}/faults")).status_code == 200
        assert (await client.get(f"{switches}/faults")).json() == []
        recorded = (await client.get(f"{switches}/requests")).json()
        counted = Counter((each["port"], each["status"]) for each in recorded)
        assert counted == {("config", 200): 1, ("container-0", 429): 1, ("container-0", 200): 1}
        await client.delete(f"{switches}/requests")
        assert (await client.get(f"{switches}/requests")).json() == []
        assert (await client.patch(f"{switches}/limits", json={"body_bytes": 5})).status_code == 200
        assert (await client.post(second + PATH, json=BODY)).status_code == 413
        assert (await client.post(f"{switches}/containers/0/stop")).status_code == 200
        with pytest.raises(httpx.TransportError):
            await client.get(first + PATH)
        assert (await client.get(second + PATH)).status_code == 200
        assert (await client.post(f"{switches}/containers/0/start")).status_code == 200
        assert (await client.get(first + PATH)).status_code == 200
