"""Golden cases: single documents, their paths, parameters, values, conditions and errors."""

from __future__ import annotations

import gzip
import json
import struct
from typing import Any

import httpx
import pytest

from tests.contract.vespa.endpoint import Endpoint
from tests.vespa import Vespa
from tests.vespa.messages import Problem
from tests.vespa.paths import parse_path

NOT_MET = "ReturnCode(TEST_AND_SET_CONDITION_FAILED, "


async def test_the_life_of_a_document(endpoint: Endpoint) -> None:
    path, full_id = endpoint.path("a"), endpoint.full_id("a")
    missing = await endpoint.ask("GET", path)
    assert (missing.status_code, missing.json()) == (404, {"pathId": path, "id": full_id})
    put = await endpoint.put("a", {"title": "One", "year": 1999})
    assert (put.status_code, put.json()) == (200, {"pathId": path, "id": full_id})
    assert put.headers["content-type"].lower().replace(" ", "") == "application/json;charset=utf-8"
    assert list(put.json()) == ["pathId", "id"]
    got = await endpoint.ask("GET", path)
    assert got.json() == {
        "pathId": path,
        "id": full_id,
        "fields": {"title": "One", "year": 1999},
    }
    await endpoint.put("a", {"title": "Two"})
    assert await endpoint.fields("a") == {"title": "Two"}, "a put replaces the whole document"
    for _ in range(2):
        removed = await endpoint.ask("DELETE", path)
        assert (removed.status_code, removed.json()) == (200, {"pathId": path, "id": full_id})
    assert await endpoint.fields("a") is None


async def test_values_of_every_type_come_back(endpoint: Endpoint) -> None:
    fields: dict[str, Any] = {
        "doc_id": "X",
        "acl": ["b", "a", "b"],
        "title": "Straße \U0001f600 \x7f\t\n",
        "chunks": ["", "two"],
        "year": -(2**31) + 1,
        "version": 2**63 - 1,
        "price": 0.5,
        "score": 1e-300,
        "small": -127,
        "is_open": False,
        "blob": "AAEC",
        "numbers": [1, 2],
        "weights": {"a": 3, "b": -1},
    }
    assert (await endpoint.put("v", fields)).status_code == 200
    assert await endpoint.fields("v") == fields


async def test_a_float_is_rounded_and_null_is_skipped(endpoint: Endpoint) -> None:
    await endpoint.put("f", {"price": 0.4, "title": None, "doc_id": ""})
    got = await endpoint.fields("f")
    assert got is not None
    assert got["price"] in (0.4, struct.unpack("f", struct.pack("f", 0.4))[0])
    assert got["doc_id"] == ""
    assert "title" not in got


@pytest.mark.parametrize(
    ("raw", "user"),
    [
        ("a%2Fb", "a/b"),
        ("a/b", "a/b"),
        ("a/b/", "a/b"),
        ("a+b", "a b"),
        ("a%20b", "a b"),
        ("a%2Bb", "a+b"),
        ("%23%3F%25", "#?%"),
        ("%C3%A9", "é"),
    ],
)
async def test_the_path_is_decoded_as_a_form(endpoint: Endpoint, raw: str, user: str) -> None:
    url = f"{endpoint.url}/document/v1/{endpoint.namespace}/doc/docid/{raw}"
    answer = await endpoint.client.post(url, json={"fields": {}})
    assert answer.status_code == 200
    assert answer.json()["id"] == endpoint.full_id(user)
    assert await endpoint.fields(user) == {}


@pytest.mark.parametrize("raw", ["a//b", "a/%2E%2E/b", "%2E", "a/%2e%2e"])
async def test_a_path_with_empty_or_dotted_segments_is_refused(
    endpoint: Endpoint, raw: str
) -> None:
    path = f"/document/v1/{endpoint.namespace}/doc/docid/{raw}"
    status, content = await raw_get(endpoint.url, path)
    assert (status, content["message"]) == (400, 'path segments cannot be "", ".", or ".."')
    assert content["pathId"] == path


async def raw_get(url: str, path: str) -> tuple[int, dict[str, Any]]:
    """GET without the client's own ideas of paths."""
    target = httpx.URL(url).copy_with(raw_path=path.encode())
    async with httpx.AsyncClient() as client:
        answer = await client.send(httpx.Request("GET", target))
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    "path", ["/document/v1/a", "/document/v1/a/b/c", "/document/v1/a/b/docs/d"]
)
async def test_a_path_that_names_nothing(endpoint: Endpoint, path: str) -> None:
    answer = await endpoint.ask("GET", path)
    assert answer.status_code == 404
    assert answer.json()["message"].startswith(f"Nothing at '{path}'. Available paths are:\n")
    assert answer.json()["pathId"] == path


async def test_methods(endpoint: Endpoint) -> None:
    path = endpoint.path("m")
    refused = await endpoint.ask("PATCH", path)
    assert refused.status_code == 405
    assert refused.json()["message"] == (
        f"'PATCH' not allowed at '{path}'. Allowed methods are: GET, POST, PUT, DELETE"
    )
    options = await endpoint.ask("OPTIONS", path)
    assert (options.status_code, options.headers["allow"]) == (204, "GET,POST,PUT,DELETE")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"habla babla": 1}, "Field 'habla babla' is not defined in document type 'doc'"),
        (
            {"year": "abc"},
            "In document '{id}': Could not parse field 'year' of type int: For input string: \"abc\"",
        ),
        (
            {"year": 2**31},
            "In document '{id}': Could not parse field 'year' of type int: For input string: \"2147483648\"",
        ),
        (
            {"vector": [1, 2]},
            "In document '{id}': Could not parse field 'vector' of type tensor<float>(x[3]): "
            "Expected 3 values, but got 2",
        ),
        (
            {"title": "a\x1bb"},
            "In document '{id}': Could not parse field 'title' of type string: "
            "The string field value contains illegal code point 0x1B",
        ),
    ],
)
async def test_refused_values(endpoint: Endpoint, fields: dict[str, Any], message: str) -> None:
    answer = await endpoint.put("bad", fields)
    assert answer.status_code == 400
    full_id = endpoint.full_id("bad")
    assert answer.json() == {
        "pathId": endpoint.path("bad"),
        "message": message.replace("{id}", full_id),
    }, "found before dispatch: there is no id"
    assert await endpoint.fields("bad") is None


@pytest.mark.parametrize(
    "point", [0x0, 0x8, 0xB, 0x1F, 0xFDD0, 0xFDDF, 0xFFFE, 0xFFFF, 0x1FFFE, 0x10FFFF]
)
async def test_illegal_text(endpoint: Endpoint, point: int) -> None:
    answer = await endpoint.put("t", {"title": f"a{chr(point)}b"})
    assert answer.status_code == 400
    assert answer.json()["message"].endswith(f"illegal code point 0x{point:X}")


@pytest.mark.parametrize(
    "point", [0x9, 0xA, 0xD, 0x7F, 0x80, 0xD7FF, 0xE000, 0xFDCF, 0xFDE0, 0xFFFD, 0x10000]
)
async def test_legal_text(endpoint: Endpoint, point: int) -> None:
    assert (await endpoint.put("t", {"title": chr(point)})).status_code == 200
    assert await endpoint.fields("t") == {"title": chr(point)}


@pytest.mark.parametrize(
    ("method", "body", "message"),
    [
        ("POST", b"", "expected start of root object, got null"),
        ("POST", b"{", "failed parsing document: Unexpected"),
        ("POST", b"{} x", "failed parsing document: Unexpected character ('x' (code 120))"),
        ("POST", b'{"fields":{"price":NaN}}', "failed parsing document: "),
        ("POST", b"{}", "put of document {id} is missing a 'fields' map"),
        ("PUT", b"{}", "Update of document {id} is missing a 'fields' map"),
    ],
)
async def test_bodies_that_are_no_document(
    endpoint: Endpoint, method: str, body: bytes, message: str
) -> None:
    url = endpoint.url + endpoint.path("b")
    answer = await endpoint.client.request(
        method, url, content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(message.replace("{id}", endpoint.full_id("b")))


async def test_an_unknown_type_and_cluster(endpoint: Endpoint) -> None:
    answer = await endpoint.ask("POST", endpoint.path("1", "house"), {"fields": {}})
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "Document type house does not exist",
    )
    answer = await endpoint.ask("GET", endpoint.path("1"), cluster="*")
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "Your Vespa deployment has no content cluster '*', only 'docs'",
    )


@pytest.mark.parametrize(
    "params",
    [{"timeout": "soon"}, {"create": "maybe"}, {"tracelevel": "10"}, {"tracelevel": "x"}],
)
async def test_wrong_parameters(endpoint: Endpoint, params: dict[str, str]) -> None:
    answer = await endpoint.ask(
        "PUT", endpoint.path("p"), {"fields": {"year": {"assign": 1}}}, **params
    )
    assert answer.status_code == 400
    assert "id" not in answer.json()


async def test_an_empty_parameter_is_refused_and_the_last_one_wins(endpoint: Endpoint) -> None:
    answer = await endpoint.put("p", {}, route="")
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "Expected non-empty value for request property 'route'",
    )
    url = endpoint.url + endpoint.path("p")
    answer = await endpoint.client.post(url + "?timeout=soon&timeout=10s", json={"fields": {}})
    assert answer.status_code == 200


@pytest.mark.parametrize("text", ["20", "20.5", "1e1s", "20000ms", "1ks", "5000000µs"])
async def test_forms_of_the_timeout(endpoint: Endpoint, text: str) -> None:
    assert (await endpoint.put("p", {}, timeout=text)).status_code == 200


async def test_a_dry_run_reads_nothing(endpoint: Endpoint) -> None:
    url = f"{endpoint.url}/document/v1/feeder/handshake/docid/dummy?dryRun=true"
    answer = await endpoint.client.post(url)
    assert answer.status_code == 200
    assert answer.json() == {
        "pathId": "/document/v1/feeder/handshake/docid/dummy",
        "id": "id:feeder:handshake::dummy",
    }
    path = endpoint.path("p")
    answer = await endpoint.ask("GET", path, dryRun="true")
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        f"May not specify 'dryRun' at '{path}'",
    )


async def test_sets_of_fields(endpoint: Endpoint) -> None:
    await endpoint.put("s", {"title": "T", "year": 1, "doc_id": "d"})
    got: dict[str, Any] = {}
    for name in ("[document]", "[id]", "doc:year,title"):
        answer = await endpoint.ask("GET", endpoint.path("s"), fieldSet=name)
        got[name] = answer.json().get("fields", {})
    assert got == {
        "[document]": {"title": "T", "year": 1, "doc_id": "d"},
        "[id]": {},
        "doc:year,title": {"title": "T", "year": 1},
    }
    answer = await endpoint.ask("GET", endpoint.path("s"), fieldSet="doc:nothing")
    assert answer.status_code == 400


async def test_a_trace_stands_before_the_fields(endpoint: Endpoint) -> None:
    await endpoint.put("t", {"year": 1})
    answer = await endpoint.ask("GET", endpoint.path("t"), tracelevel="5")
    assert list(answer.json()) == ["pathId", "id", "trace", "fields"]


async def test_gzip_and_a_broken_gzip(endpoint: Endpoint) -> None:
    url = endpoint.url + endpoint.path("z")
    body = json.dumps({"fields": {"title": "x" * 2000}}).encode()
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    answer = await endpoint.client.post(url, content=gzip.compress(body), headers=headers)
    assert answer.status_code == 200
    assert await endpoint.fields("z") == {"title": "x" * 2000}
    cut = gzip.compress(body)[:-9]
    assert (await endpoint.client.post(url, content=cut, headers=headers)).status_code == 400


async def test_a_condition_on_a_document(endpoint: Endpoint) -> None:
    await endpoint.put("c", {"version": 5, "title": "old"})
    stale = await endpoint.put("c", {"version": 4}, condition="doc.version < 4")
    assert stale.status_code == 412
    assert stale.json()["id"] == endpoint.full_id("c")
    assert NOT_MET in stale.json()["message"]
    fresh = await endpoint.put("c", {"version": 6}, condition="doc.version < 6")
    assert fresh.status_code == 200
    assert await endpoint.fields("c") == {"version": 6}
    update = await endpoint.update("c", {"version": {"assign": 9}}, condition="doc.version == 5")
    assert update.status_code == 412
    removed = await endpoint.ask("DELETE", endpoint.path("c"), condition="doc.version == 5")
    assert removed.status_code == 412
    removed = await endpoint.ask("DELETE", endpoint.path("c"), condition="doc.version == 6")
    assert removed.status_code == 200
    assert await endpoint.fields("c") is None


async def test_a_condition_on_a_missing_document(endpoint: Endpoint) -> None:
    path, condition = endpoint.path("n"), "doc.version < 5"
    body = {"fields": {"version": 5}, "condition": condition}
    for method in ("POST", "DELETE"):
        answer = await endpoint.ask(
            method, path, body if method == "POST" else None, condition=condition
        )
        assert answer.status_code == 412
    update = {"fields": {"version": {"assign": 5}}, "condition": condition}
    assert (await endpoint.ask("PUT", path, update)).status_code == 412
    assert await endpoint.fields("n") is None
    assert (await endpoint.ask("POST", path, {**body, "create": True})).status_code == 200
    assert await endpoint.fields("n") == {"version": 5}
    assert (await endpoint.ask("POST", path, {**body, "create": True})).status_code == 412
    assert (
        await endpoint.ask("PUT", endpoint.path("n2"), {**update, "create": True})
    ).status_code == 200
    assert await endpoint.fields("n2") == {"version": 5}


@pytest.mark.parametrize(
    "condition", ["doc.nothing == 1", "doc.version <", "house.x == 1", "doc.version ~ 3"]
)
async def test_a_condition_that_is_not_understood(endpoint: Endpoint, condition: str) -> None:
    await endpoint.put("u", {"version": 1})
    answer = await endpoint.put("u", {"version": 2}, condition=condition)
    assert answer.status_code == 400
    assert await endpoint.fields("u") == {"version": 1}


async def test_a_long_id(endpoint: Endpoint) -> None:
    user = "x" * 60_000
    assert (await endpoint.put(user, {"year": 1})).status_code == 200
    assert await endpoint.fields(user) == {"year": 1}


def test_how_long_an_id_may_be() -> None:
    room = 65_536 - len("id:n:doc::")
    assert parse_path(f"/document/v1/n/doc/docid/{'x' * room}").document is not None
    with pytest.raises(Problem):
        parse_path(f"/document/v1/n/doc/docid/{'x' * (room + 1)}")


async def test_a_body_that_is_too_large(vespa: Vespa) -> None:
    vespa.limits.body_bytes = 1000
    url = f"{vespa.container_urls[0]}/document/v1/n/doc/docid/1"
    body = b'{"fields":{"title":"' + b"x" * 1000 + b'"}}'
    async with httpx.AsyncClient() as client:
        answer = await client.post(url, content=body)
        assert answer.status_code == 413
        assert answer.json()["message"].startswith(
            f"Document operation request size {len(body)} bytes exceeds maximum size of 1000 bytes. "
        )
        assert (await client.post(url, content=b'{"fields":{}}')).status_code == 200


async def test_locations(vespa: Vespa) -> None:
    url = f"{vespa.container_urls[0]}/document/v1/n/doc"
    async with httpx.AsyncClient() as client:
        for place, full_id in (("group/g/1", "id:n:doc:g=g:1"), ("number/7/1", "id:n:doc:n=7:1")):
            answer = await client.post(f"{url}/{place}", json={"fields": {"year": 1}})
            assert answer.json()["id"] == full_id
            assert (await client.get(f"{url}/{place}")).status_code == 200
        assert (await client.get(f"{url}/docid/1")).status_code == 404
        assert (await client.get(f"{url}/number/x/1")).status_code == 400


async def test_all_containers_have_the_same_documents(vespa: Vespa) -> None:
    first, second = (f"{url}/document/v1/n/doc/docid/1" for url in vespa.container_urls)
    async with httpx.AsyncClient() as client:
        await client.post(first, json={"fields": {"year": 1}})
        assert (await client.get(second)).json()["fields"] == {"year": 1}
