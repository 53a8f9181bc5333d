"""Golden cases: visits, and removes and updates by selection."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.contract.vespa.endpoint import Endpoint
from tests.vespa import Fault, Vespa

COUNT = 25
PAGES_MAX = 1000
PAGES_MAX_STAND_IN = 100
"""No more than four for each document: a visit that does not end is seen soon."""


async def fill(endpoint: Endpoint, count: int = COUNT) -> set[str]:
    """Put documents of the years 0, 1, 2, ... and give their ids."""
    for each in range(count):
        answer = await endpoint.put(f"d{each}", {"year": each, "doc_id": f"d{each}"})
        assert answer.status_code == 200
    return {endpoint.full_id(f"d{each}") for each in range(count)}


def place(endpoint: Endpoint) -> str:
    """The path of all documents of the type in the namespace."""
    return f"/document/v1/{endpoint.namespace}/doc/docid/"


async def pages(
    endpoint: Endpoint, method: str = "GET", **params: Any
) -> AsyncIterator[dict[str, Any]]:
    """All answers up to the one without a continuation."""
    body = params.pop("body", None)
    for _ in range(PAGES_MAX if endpoint.stand_in is None else PAGES_MAX_STAND_IN):
        answer = await endpoint.ask(method, place(endpoint), body, **params)
        assert answer.status_code == 200, answer.text
        yield answer.json()
        token = answer.json().get("continuation")
        if token is None:
            return
        params["continuation"] = token
    raise AssertionError("it does not end")


async def visited(endpoint: Endpoint, **params: Any) -> list[str]:
    """The ids of all documents of a visit."""
    found: list[str] = []
    async for page in pages(endpoint, **params):
        assert page["documentCount"] == len(page["documents"])
        assert page["pathId"] == place(endpoint)
        found += [each["id"] for each in page["documents"]]
    return found


@pytest.mark.parametrize("wanted", [1, 7, 1000])
async def test_a_visit_gives_every_document_once(endpoint: Endpoint, wanted: int) -> None:
    ids = await fill(endpoint)
    found = await visited(endpoint, wantedDocumentCount=wanted)
    assert sorted(found) == sorted(ids)


async def test_a_visit_of_nothing_ends(endpoint: Endpoint) -> None:
    assert await visited(endpoint) == []


async def test_fields_and_formats_of_a_visit(endpoint: Endpoint) -> None:
    await endpoint.put("v", {"vector": [1, 2, 3], "year": 1})
    async for page in pages(endpoint, fieldSet="doc:vector", format__tensors="hex-value"):
        for each in page["documents"]:
            assert each["fields"] == {"vector": "3f8000004000000040400000"}
    async for page in pages(endpoint, fieldSet="[id]"):
        assert all(each.get("fields", {}) == {} for each in page["documents"])


@pytest.mark.parametrize(
    ("selection", "years"),
    [
        ("doc.year == 3", [3]),
        ("doc.year < 2", [0, 1]),
        ("doc.year >= 23 or doc.year == 5", [5, 23, 24]),
        ("doc.year == 3 and doc.doc_id == 'd4'", []),
        ("not (doc.year > 1)", [0, 1]),
        ("doc.year != 3 and doc.year <= 4", [0, 1, 2, 4]),
        ('doc.doc_id == "d7"', [7]),
        (r'doc.doc_id == "\x647"', [7]),
        ('doc.doc_id == "d*"', []),
        ('doc.doc_id = "d1*"', [1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]),
        ('doc.doc_id = "d?" and doc.year > 7', [8, 9]),
        ("doc.title == null and doc.year == 1", [1]),
        ("doc.title != null", []),
        ("doc.title < 'z'", []),
        ("not doc.title < 'z'", []),
        ("true and doc.year == 9", [9]),
        ("false", []),
        ("doc and doc.year == 2", [2]),
        ("note", []),
        ('id.specific == "d6"', [6]),
        ('id.type == "doc" and doc.year == 0', [0]),
        ('id.namespace == "other"', []),
        ("doc.year = 8", [8]),
    ],
)
async def test_selections(endpoint: Endpoint, selection: str, years: list[int]) -> None:
    await fill(endpoint)
    found = await visited(endpoint, selection=selection, wantedDocumentCount=1000)
    assert sorted(found) == sorted(endpoint.full_id(f"d{year}") for year in years)


@pytest.mark.parametrize(
    "selection",
    [
        "doc.year ==",
        "(doc.year == 1",
        "doc.nothing == 1",
        "house",
        "doc.year == 1 garbage",
        'doc.doc_id == "open',
        r'doc.doc_id == "\q"',
        'doc.doc_id == "é"',
        "1",
        "and",
        'id.nothing == "x"',
        "doc.year; true",
    ],
)
async def test_selections_that_are_not_understood(endpoint: Endpoint, selection: str) -> None:
    await endpoint.put("d", {"year": 1})
    for method in ("GET", "DELETE"):
        answer = await endpoint.ask(method, place(endpoint), selection=selection, cluster="docs")
        assert answer.status_code == 400, selection
    assert await endpoint.fields("d") is not None


async def test_slices_share_the_documents(endpoint: Endpoint) -> None:
    ids = await fill(endpoint)
    found: list[str] = []
    for slice_id in range(3):
        found += await visited(endpoint, slices=3, sliceId=slice_id, wantedDocumentCount=5)
    assert sorted(found) == sorted(ids)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"slices": 2}, "None or both of 'slices' and 'sliceId' must be set"),
        ({"sliceId": 0}, "None or both of 'slices' and 'sliceId' must be set"),
        ({"cluster": "*"}, "Your Vespa deployment has no content cluster '*', only 'docs'"),
        ({"dryRun": "true"}, "May not specify 'dryRun' at '{path}'"),
        ({"wantedDocumentCount": "many"}, ""),
        ({"bucketSpace": "outer"}, ""),
        ({"continuation": "nonsense"}, ""),
        ({"stream": "perhaps"}, ""),
        ({"fieldSet": "doc:nothing"}, ""),
    ],
)
async def test_refused_visits(endpoint: Endpoint, params: dict[str, Any], message: str) -> None:
    answer = await endpoint.ask("GET", place(endpoint), **params)
    assert answer.status_code == 400
    assert message.replace("{path}", place(endpoint)) in answer.json()["message"]


async def test_the_root_needs_a_cluster(endpoint: Endpoint) -> None:
    answer = await endpoint.ask("GET", "/document/v1/")
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "Must specify 'cluster' at '/document/v1/'",
    )
    assert (await endpoint.ask("GET", "/document/v1/", cluster="docs")).status_code == 200


async def test_a_stream_is_one_answer(endpoint: Endpoint) -> None:
    ids = await fill(endpoint)
    answer = await endpoint.ask("GET", place(endpoint), stream="true")
    content = answer.json()
    assert sorted(each["id"] for each in content["documents"]) == sorted(ids)
    assert content["documentCount"] == COUNT
    assert "continuation" not in content


async def lines_of(endpoint: Endpoint, **params: Any) -> list[dict[str, Any]]:
    """The lines of a stream."""
    answer = await endpoint.client.get(
        endpoint.url + place(endpoint),
        params={"stream": "true", **params},
        headers={"accept": "application/jsonl"},
    )
    assert answer.headers["content-type"] == "application/jsonl; charset=UTF-8"
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_a_stream_of_lines(endpoint: Endpoint) -> None:
    ids = await fill(endpoint)
    lines = await lines_of(endpoint)
    assert sorted(each["put"] for each in lines if "put" in each) == sorted(ids)
    assert {"sessionStats": {"documentCount": COUNT}} in lines
    assert lines[-1] == {"continuation": {"percentFinished": 100.0}}
    tokens = [each["continuation"].get("token") for each in lines[:-1] if "continuation" in each]
    assert all(tokens), "only the last continuation has none"


async def test_lines_continue_where_they_were_cut(endpoint: Endpoint) -> None:
    ids = await fill(endpoint)
    lines = await lines_of(endpoint)
    middle = next(
        at for at, each in enumerate(lines) if "continuation" in each and at > len(lines) // 2
    )
    before = {each["put"] for each in lines[:middle] if "put" in each}
    rest = await lines_of(endpoint, continuation=lines[middle]["continuation"]["token"])
    after = {each["put"] for each in rest if "put" in each}
    assert before | after == ids
    assert len(after) < len(ids)


async def test_removes_are_told_when_asked_for(endpoint: Endpoint) -> None:
    await endpoint.put("kept", {"year": 1})
    await endpoint.put("gone", {"year": 1})
    await endpoint.ask("DELETE", endpoint.path("gone"))
    found: list[dict[str, Any]] = []
    async for page in pages(endpoint, includeRemoves="true", wantedDocumentCount=10):
        found += page["documents"]
    assert sorted(json.dumps(each) for each in found) == [
        json.dumps({"id": endpoint.full_id("kept"), "fields": {"year": 1}}),
        json.dumps({"remove": endpoint.full_id("gone")}),
    ]
    assert await visited(endpoint) == [endpoint.full_id("kept")]


async def test_a_removal_by_selection_is_finished_without_a_continuation(
    endpoint: Endpoint,
) -> None:
    await fill(endpoint)
    removed = [
        page async for page in pages(endpoint, "DELETE", cluster="docs", selection="doc.year < 10")
    ]
    assert sum(page["documentCount"] for page in removed) == 10
    assert set(removed[-1]) == {"pathId", "documentCount"}
    assert len(await visited(endpoint, wantedDocumentCount=100)) == COUNT - 10


async def test_an_update_by_selection(endpoint: Endpoint) -> None:
    await fill(endpoint, 10)
    body = {"fields": {"title": {"assign": "new"}}}
    params = {"cluster": "docs", "selection": "doc.year >= 8"}
    count = 0
    async for page in pages(endpoint, "PUT", body=body, **params):
        count += page["documentCount"]
    assert count == 2
    assert (await endpoint.fields("d9") or {})["title"] == "new"
    assert "title" not in (await endpoint.fields("d7") or {})


@pytest.mark.parametrize("method", ["DELETE", "PUT"])
async def test_what_an_operation_by_selection_needs(endpoint: Endpoint, method: str) -> None:
    path = place(endpoint)
    body = {"fields": {"year": {"assign": 1}}} if method == "PUT" else None
    answer = await endpoint.ask(method, path, body)
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        f"Must specify 'selection' at '{path}'",
    )
    answer = await endpoint.ask(method, path, body, selection="true")
    assert answer.json()["message"] == f"Must specify 'cluster' at '{path}'"
    for name in ("concurrency", "fieldSet", "route", "wantedDocumentCount", "dryRun"):
        params: dict[str, Any] = {"selection": "true", "cluster": "docs", name: "1"}
        answer = await endpoint.ask(method, path, body, **params)
        assert answer.status_code == 400
        assert answer.json()["message"] == f"May not specify '{name}' at '{path}'"


async def test_the_root_refuses_an_update(endpoint: Endpoint) -> None:
    answer = await endpoint.ask(
        "PUT", "/document/v1/", {"fields": {}}, selection="true", cluster="docs"
    )
    assert answer.status_code == 405


async def test_a_visit_stays_within_its_place(vespa: Vespa) -> None:
    vespa.limits.visit_buckets = None
    base = f"{vespa.container_urls[0]}/document/v1"
    places = ["n/doc/docid", "m/doc/docid", "n/note/docid", "n/doc/group/g", "n/doc/number/7"]
    async with httpx.AsyncClient() as client:
        for each in places:
            await client.post(f"{base}/{each}/1", json={"fields": {}})
        params = {"wantedDocumentCount": 100, "fieldSet": "[id]"}
        counts: dict[str, int] = {}
        for each in places:
            page = (await client.get(f"{base}/{each}/", params=params)).json()
            counts[each] = page["documentCount"]
        assert counts == dict(zip(places, [3, 1, 1, 1, 1], strict=True))
        page = (await client.get(f"{base}/", params={**params, "cluster": "docs"})).json()
        assert page["documentCount"] == len(places)
        mass = {"selection": "true", "cluster": "docs"}
        assert (await client.delete(f"{base}/n/doc/docid/", params=mass)).status_code == 200
    left = {str(each.id) for kind in ("doc", "note") for each in vespa.store.documents(kind)}
    assert left == {"id:m:doc::1", "id:n:note::1"}


async def put_some(vespa: Vespa, client: httpx.AsyncClient, count: int) -> str:
    url = f"{vespa.container_urls[0]}/document/v1/n/doc/docid/"
    for each in range(count):
        await client.post(f"{url}{each}", json={"fields": {"year": each}})
    return url


async def test_pages_may_be_empty_and_still_go_on(vespa: Vespa) -> None:
    async with httpx.AsyncClient() as client:
        url = await put_some(vespa, client, 1)
        counts: list[int] = []
        token = ""
        while token is not None:
            params = {"continuation": token} if token else {}
            page = (await client.get(url, params=params)).json()
            counts.append(page["documentCount"])
            token = page.get("continuation")
        assert sum(counts) == 1
        assert 0 in counts[:-1], "a page without documents was not the end"


async def test_a_removal_stops_when_its_time_is_over(vespa: Vespa) -> None:
    vespa.limits.visit_buckets = None
    vespa.limits.bucket_seconds = 10
    async with httpx.AsyncClient() as client:
        url = await put_some(vespa, client, 40)
        params = {"selection": "true", "cluster": "docs"}
        first = (await client.delete(url, params=params)).json()
        assert 0 < first["documentCount"] < 40, "60 seconds are enough for 6 buckets of 16"
        assert first["continuation"]
        params |= {"continuation": first["continuation"], "timeChunk": "1ks"}
        second = (await client.delete(url, params=params)).json()
        assert first["documentCount"] + second["documentCount"] == 40
        assert "continuation" not in second


async def test_no_time_for_a_bucket(vespa: Vespa) -> None:
    vespa.limits.bucket_seconds = 10
    async with httpx.AsyncClient() as client:
        url = await put_some(vespa, client, 1)
        answer = await client.get(url, params={"timeout": "11"})
        assert answer.status_code == 504
        assert answer.json()["message"] == (
            "No buckets visited within timeout of 9800ms (request timeout -5s)"
        )
        assert (await client.get(url, params={"timeout": "12"})).status_code == 200


async def test_an_operation_by_selection_that_fails_in_the_middle(vespa: Vespa) -> None:
    async with httpx.AsyncClient() as client:
        url = await put_some(vespa, client, 40)
        vespa.faults.add(Fault("stop-early", size=3, message="node is gone", count=1))
        params = {"selection": "true", "cluster": "docs"}
        answer = await client.delete(url, params=params)
        assert answer.status_code == 500
        assert set(answer.json()) == {"pathId", "documentCount", "message"}
        assert vespa.store.count("doc") == 40 - answer.json()["documentCount"] < 40


async def test_a_stream_tells_of_its_failure_at_the_end(vespa: Vespa) -> None:
    async with httpx.AsyncClient() as client:
        url = await put_some(vespa, client, 40)
        vespa.faults.add(Fault("stop-early", size=3, message="node is gone", count=2))
        answer = await client.get(url, params={"stream": "true"})
        assert answer.status_code == 200
        assert answer.json()["message"] == "node is gone"
        assert answer.json()["continuation"]
        accept = {"accept": "application/json, application/jsonl"}
        answer = await client.get(url, params={"stream": "true"}, headers=accept)
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert {"message": {"text": "node is gone", "severity": "error"}} in lines
        assert lines[-1]["continuation"]["token"]


async def test_times_of_documents_limit_a_visit(vespa: Vespa) -> None:
    vespa.limits.visit_buckets = None
    async with httpx.AsyncClient() as client:
        url = await put_some(vespa, client, 10)
        times = sorted(each.timestamp for each in vespa.store.documents("doc"))
        params = {"fromTimestamp": times[3], "toTimestamp": times[6], "wantedDocumentCount": 100}
        page = (await client.get(url, params=params)).json()
        assert sorted(each["fields"]["year"] for each in page["documents"]) == [3, 4, 5, 6]


async def test_a_continuation_of_another_visit_is_refused(vespa: Vespa) -> None:
    async with httpx.AsyncClient() as client:
        url = await put_some(vespa, client, 20)
        token = (await client.get(url)).json()["continuation"]
        params = {"continuation": token, "slices": 2, "sliceId": 0}
        assert (await client.get(url, params=params)).status_code == 400
