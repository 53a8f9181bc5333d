"""Golden cases of ``/search/`` that fail: codes, messages, and the status that comes of them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.vespa.endpoint import Endpoint
from tests.contract.vespa.test_vespa_query import post, put
from tests.vespa import Fault

YQL = "Could not create query from YQL: "


async def refused(endpoint: Endpoint, body: dict[str, Any]) -> tuple[int, int, str]:
    """Search, and give status, code and message of the error."""
    answer = await post(endpoint, body)
    root = answer.json()["root"]
    assert "children" not in root
    error = root["errors"][0]
    assert error["summary"]
    return answer.status_code, error["code"], error.get("message", "")


async def test_an_error_answer_as_a_whole(endpoint: Endpoint) -> None:
    answer = await post(endpoint, {"yql": "select * from doc where §"})

    assert answer.status_code == 400
    (error,) = answer.json()["root"].pop("errors")
    assert (error["code"], error["summary"]) == (4, "Invalid query parameter")
    assert error["message"].startswith(f"{YQL}query:L1:24 token recognition error at: '")
    root = answer.json()["root"]
    assert list(root) == ["id", "relevance", "fields", "errors"]
    assert root["fields"] == {"totalCount": 0}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nowhere contains 'x'", "Field 'nowhere' does not exist."),
        ("title contains @gone", "Input 'gone' is not set"),
        ('({grammar:"nonesuch"}userInput("x"))', "No query type 'nonesuch'"),
        ("userInput('')", "Parsing '' only resulted in NullItem."),
        ("nonesuch(title)", "got nonesuch."),
        ("title contains nonesuch('x')", "got nonesuch."),
    ],
)
async def test_yql_that_cannot_be_built(endpoint: Endpoint, where: str, message: str) -> None:
    status, code, text = await refused(endpoint, {"yql": f"select * from doc where {where}"})

    assert (status, code) == (400, 4)
    assert text.startswith(YQL)
    assert message in text


@pytest.mark.parametrize(
    ("body", "status", "code", "message"),
    [
        ({}, 500, 1, ""),
        ({"hits": 500}, 400, 3, "500 hits requested, configured limit: 400."),
        ({"offset": 1500}, 400, 3, "Offset of 1500 requested, configured limit: 1000."),
        ({"offset": -20}, 400, 3, "'offset' must be a positive number, not -20"),
        ({"hits": "ten"}, 400, 3, "'ten'"),
        ({"timeout": "soon"}, 400, 3, "'timeout'"),
        ({"timeout": 0}, 504, 12, "No time left after waiting for 0ms to execute query"),
        ({"ranking": "x"}, 400, 4, "schema 'doc' does not contain requested rank profile 'x'"),
        ({"sources": "nowhere"}, 400, 4, "Could not resolve source ref 'nowhere'"),
        ({"queryProfile": "x"}, 400, 3, "Could not resolve query profile 'x'"),
        ({"select": {"where": {}}}, 400, 3, "select.where"),
    ],
)
async def test_parameters_that_are_refused(
    endpoint: Endpoint, body: dict[str, Any], status: int, code: int, message: str
) -> None:
    yql = {"yql": "select * from doc where true"} if body else {}

    found = await refused(endpoint, yql | body)

    assert found[:2] == (status, code)
    assert message in found[2]


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("limit 2000 offset 1500", "Requested offset 1500, but the max offset allowed is 1000."),
        ("limit 500", "Requested 500 hits returned, but max hits allowed is 400."),
    ],
)
async def test_limits_in_yql(endpoint: Endpoint, end: str, message: str) -> None:
    found = await refused(endpoint, {"yql": f"select * from doc where true {end}"})

    assert found == (400, 4, message)


async def test_a_body_that_is_no_json(endpoint: Endpoint) -> None:
    answer = await endpoint.client.post(
        f"{endpoint.url}/search/", content=b"{", headers={"content-type": "application/json"}
    )

    assert answer.status_code == 400
    assert answer.json()["root"]["errors"][0]["code"] == 3


async def test_half_a_surrogate_pair_is_no_failure_of_the_server(endpoint: Endpoint) -> None:
    answer = await endpoint.client.post(
        f"{endpoint.url}/search/",
        content=b'{"yql": "select * from doc where \\ud800"}',
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 400
    assert answer.json()["root"]["errors"][0]["code"] == 4


NEAREST = "select * from doc where ({targetHits:3}nearestNeighbor(embedding, q_emb))"


@pytest.mark.parametrize(
    ("yql", "more", "message"),
    [
        (
            NEAREST,
            {"ranking": "hybrid"},
            "requires a tensor rank feature named 'query(q_emb)' but this is not present",
        ),
        (
            NEAREST,
            {"ranking": "hybrid", "input.query(q_emb)": [1, 2]},
            "Could not set 'ranking.features.query(q_emb)' to '",
        ),
        (
            NEAREST,
            {"ranking": "hybrid", "input.query(q_emb)": [1, 2]},
            "Require a tensor of type tensor<float>(x[3])",
        ),
        (
            NEAREST.replace("targetHits:3", "approximate:false"),
            {"ranking": "hybrid", "input.query(q_emb)": [1, 2, 3]},
            "must have either targetHits or totalTargetHits set",
        ),
        (
            NEAREST.replace("targetHits:3", "targetHits:0"),
            {"ranking": "hybrid", "input.query(q_emb)": [1, 2, 3]},
            "has invalid targetHits 0: Must be >= 1",
        ),
        (
            NEAREST.replace("embedding", "title"),
            {"ranking": "hybrid", "input.query(q_emb)": [1, 2, 3]},
            "field is not an attribute",
        ),
        (
            NEAREST.replace("embedding", "year"),
            {"ranking": "hybrid", "input.query(q_emb)": [1, 2, 3]},
            "field is not a tensor",
        ),
        (
            NEAREST.replace("embedding", "labels"),
            {"ranking": "hybrid", "input.query(q_emb)": [1, 2, 3]},
            "is not a dense vector",
        ),
        (
            "select * from doc where true order by year",
            {"ranking": "hybrid"},
            "Sorting is not supported with global phase",
        ),
    ],
)
async def test_illegal_queries(
    endpoint: Endpoint, yql: str, more: dict[str, Any], message: str
) -> None:
    status, code, text = await refused(endpoint, {"yql": yql, **more})

    assert (status, code) == (400, 3)
    assert message in text


async def test_words_in_a_tensor_are_refused(endpoint: Endpoint) -> None:
    status, _, text = await refused(
        endpoint, {"yql": "select * from doc where embedding contains 'x'"}
    )

    assert status == 400
    assert "Cannot search for terms in 'embedding': It is a tensor field" in text


async def test_an_unknown_summary_leaves_hits_that_are_not_filled(endpoint: Endpoint) -> None:
    await put(endpoint, "1")

    answer = await post(
        endpoint, {"yql": "select * from doc where acl in (@mine)", "summary": "barsum"}
    )

    root = answer.json()["root"]
    assert answer.status_code == 400
    assert root["errors"][0]["code"] == 4
    assert "Summary 'barsum' does not exist" in root["errors"][0]["message"]
    assert "fields" not in root["children"][0]


async def test_a_schema_without_the_profile_leaves_an_error_beside_the_hits(
    endpoint: Endpoint,
) -> None:
    """With hits of one schema the status is 200, and the error of the other one is easily overlooked."""
    await put(endpoint, "1")

    answer = await post(
        endpoint, {"yql": "select * from sources * where acl in (@mine)", "ranking": "bm25"}
    )

    root = answer.json()["root"]
    assert answer.status_code == 200
    assert [each["id"] for each in root["children"]] == [endpoint.full_id("1")]
    assert (
        "schema 'note' does not contain requested rank profile 'bm25'"
        in (root["errors"][0]["message"])
    )


async def test_an_illegal_input_fails_the_query_for_all_schemas(endpoint: Endpoint) -> None:
    await put(endpoint, "1")

    answer = await post(
        endpoint,
        {
            "yql": "select * from sources * where true",
            "ranking": "hybrid",
            "input.query(q_emb)": [1],
        },
    )

    root = answer.json()["root"]
    assert answer.status_code == 400
    assert [each["code"] for each in root["errors"]] == [3]
    assert "children" not in root


@pytest.mark.parametrize(
    ("code", "has_hits", "status"),
    [
        (8, True, 200),
        (8, False, 500),
        (10, True, 200),
        (10, False, 503),
        (12, True, 200),
        (12, False, 504),
        (13, True, 200),
        (15, True, 403),
        (19, True, 507),
        (503, True, 503),
    ],
)
async def test_the_status_of_errors_from_below(
    endpoint: Endpoint, code: int, has_hits: bool, status: int
) -> None:
    if endpoint.stand_in is None:
        pytest.skip("a real Vespa has no faults to switch on")
    if has_hits:
        await put(endpoint, "1")
    endpoint.stand_in.faults.add(Fault("errors", path="/search/", errors=((code, "broken"),)))

    answer = await post(endpoint, {"yql": "select * from doc where acl in (@mine)"})

    root = answer.json()["root"]
    assert answer.status_code == status
    assert (root["errors"][0]["code"], root["errors"][0]["message"]) == (code, "broken")
    assert ("children" in root) == has_hits


async def test_without_soft_timeout_a_timeout_has_no_hits(endpoint: Endpoint) -> None:
    if endpoint.stand_in is None:
        pytest.skip("a real Vespa has no faults to switch on")
    await put(endpoint, "1")
    endpoint.stand_in.faults.add(Fault("degraded", flags=frozenset({"timeout"}), coverage=90))

    found = await refused(
        endpoint,
        {"yql": "select * from doc where true", "ranking": {"softtimeout": {"enable": False}}},
    )

    assert found[:2] == (504, 12)


async def test_all_nodes_lost_is_a_connection_failure(endpoint: Endpoint) -> None:
    if endpoint.stand_in is None:
        pytest.skip("a real Vespa has no faults to switch on")
    endpoint.stand_in.faults.add(Fault("nodes-lost", nodes=frozenset(range(10))))

    status, code, text = await refused(endpoint, {"yql": "select * from doc where true"})

    assert (status, code) == (503, 10)
    assert text.startswith("Connection failure on nodes with distribution-keys: ")
