"""Golden cases of ``/search/``: what answers look like, and what is found.

On a real Vespa other documents may be there, so every search is limited to the documents of its test by ``acl``.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.contract.vespa.endpoint import Endpoint
from tests.vespa import Fault

ABOUT = "A lantern is a portable light"
LONG = " ".join(f"word{at}" for at in range(200))


async def post(endpoint: Endpoint, body: dict[str, Any], **params: str) -> httpx.Response:
    """Search, with ``@mine`` as the list of what this test may see."""
    content = {"mine": endpoint.namespace, "timeout": "10s"} | body
    query = f"?{urlencode(params)}" if params else ""
    return await endpoint.client.post(f"{endpoint.url}/search/{query}", json=content, timeout=30)


async def search(
    endpoint: Endpoint, where: str, *, select: str = "*", **more: Any
) -> dict[str, Any]:
    """Search the documents of this test, and give ``root``."""
    yql = f"select {select} from doc where acl in (@mine) and ({where})"
    answer = await post(endpoint, {"yql": yql, **more})
    assert answer.status_code == 200, answer.text
    root = answer.json()["root"]
    assert "errors" not in root
    return root


def users(root: dict[str, Any]) -> list[str]:
    """The last parts of the ids of the hits."""
    return [hit["id"].rpartition("::")[2] for hit in root.get("children", [])]


async def put(endpoint: Endpoint, user: str, **fields: Any) -> None:
    answer = await endpoint.put(user, {"acl": [endpoint.namespace]} | fields)
    assert answer.status_code == 200, answer.text


async def feed(endpoint: Endpoint) -> None:
    await put(endpoint, "1", doc_id="1", title="Lantern", chunks=[ABOUT, "Glass and wick"], year=1990,
              embedding={"0": [1, 0, 0], "1": [0, 1, 0]})  # fmt: skip
    await put(endpoint, "2", doc_id="2", title="Candle", chunks=["Wax, wick and light"], year=2000,
              embedding={"0": [0, 0, 1]})  # fmt: skip
    await put(endpoint, "3", doc_id="3", title="Harbour", chunks=["Ships"], year=2010)


async def test_an_answer_has_its_keys_in_order(endpoint: Endpoint) -> None:
    await put(endpoint, "1", title="Lantern", year=1990)

    answer = await post(
        endpoint,
        {"yql": "select * from doc where acl in (@mine)", "presentation": {"timing": True}},
    )

    assert answer.status_code == 200
    assert (
        answer.headers["content-type"].replace(" ", "").lower() == "application/json;charset=utf-8"
    )
    whole = answer.json()
    assert list(whole["timing"]) == ["querytime", "summaryfetchtime", "searchtime"]
    root = whole["root"]
    assert list(root) == ["id", "relevance", "fields", "coverage", "children"]
    assert (root["id"], root["relevance"], root["fields"]["totalCount"]) == ("toplevel", 1.0, 1)
    coverage = root["coverage"]
    assert list(coverage) == ["coverage", "documents", "full", "nodes", "results", "resultsFull"]
    assert (coverage["coverage"], coverage["full"]) == (100, True)
    (hit,) = root["children"]
    assert list(hit) == ["id", "relevance", "source", "fields"]
    assert hit["id"] == endpoint.full_id("1")
    assert {"sddocname": "doc", "documentid": hit["id"], "title": "Lantern"}.items() <= hit[
        "fields"
    ].items()
    assert "acl" not in hit["fields"], "an attribute without summary is not in the default summary"


async def test_no_hits_are_no_children(endpoint: Endpoint) -> None:
    root = await search(endpoint, "false")

    assert "children" not in root
    assert root["fields"]["totalCount"] == 0


async def test_get_and_post_ask_the_same(endpoint: Endpoint) -> None:
    await feed(endpoint)
    given = {
        "yql": "select * from doc where acl in (@mine) order by year",
        "mine": endpoint.namespace,
        "timeout": "10s",
    }

    got = await endpoint.client.get(f"{endpoint.url}/search/?{urlencode(given)}", timeout=30)
    posted = await post(endpoint, given)

    assert got.json()["root"] == posted.json()["root"]
    assert users(got.json()["root"]) == ["1", "2", "3"]


async def test_parameters_of_the_address_win_and_nested_ones_are_flattened(
    endpoint: Endpoint,
) -> None:
    await feed(endpoint)
    body = {
        "yql": "select * from doc where acl in (@mine) order by year",
        "hits": 1,
        "presentation": {"summary": "hit"},
    }

    one = (await post(endpoint, body)).json()["root"]
    two = (
        await post(endpoint, body, hits="2", offset="1", **{"presentation.summary": "default"})
    ).json()

    assert users(one) == ["1"]
    assert "year" not in one["children"][0]["fields"]
    assert users(two["root"]) == ["2", "3"]
    assert two["root"]["children"][0]["fields"]["year"] == 2000


async def test_a_body_of_another_media_type_is_ignored(endpoint: Endpoint) -> None:
    answer = await endpoint.client.post(
        f"{endpoint.url}/search/",
        content=json.dumps({"yql": "select * from doc where true"}),
        headers={"content-type": "text/plain"},
    )

    assert answer.json()["root"]["errors"][0]["code"] == 1


async def test_aliases_of_parameters(endpoint: Endpoint) -> None:
    await feed(endpoint)

    root = await search(
        endpoint, "userInput(@query)", query="harbour", count=5, start=0, summary="hit"
    )

    assert users(root) == ["3"]
    assert root["children"][0]["fields"]["snippets"] == ["Ships"]


async def test_limit_in_yql_is_where_the_hits_end(endpoint: Endpoint) -> None:
    """``limit 2 offset 1`` gives one hit: the limit counts from the start."""
    await feed(endpoint)
    yql = "select * from doc where acl in (@mine) order by year limit 2 offset 1"

    root = (await post(endpoint, {"yql": yql, "hits": 7})).json()["root"]

    assert users(root) == ["2"]
    assert root["fields"]["totalCount"] == 3


async def test_and_binds_tighter_than_or_so_an_alternative_escapes_the_filter(
    endpoint: Endpoint,
) -> None:
    await feed(endpoint)
    loose = "title contains 'lantern' or title contains 'candle' and year = 2000 and doc_id = 2"
    tight = "(title contains 'lantern' or title contains 'candle') and year = 2000"

    assert sorted(users(await search(endpoint, loose.replace("doc_id = 2", "year > 1")))) == [
        "1",
        "2",
    ]
    assert users(await search(endpoint, tight)) == ["2"]


async def test_a_literal_of_several_words_is_a_phrase(endpoint: Endpoint) -> None:
    await feed(endpoint)

    assert users(await search(endpoint, "chunks contains 'portable light'")) == ["1"]
    assert users(await search(endpoint, "chunks contains 'light portable'")) == []
    assert sorted(users(await search(endpoint, "userInput('light portable')"))) == ["1", "2"]


async def test_user_syntax_addresses_fields_unless_it_is_switched_off(endpoint: Endpoint) -> None:
    await feed(endpoint)
    plain = '({grammar.syntax:"none", grammar.tokenization:"linguistics"}userInput(@text))'

    assert users(await search(endpoint, "userInput(@text)", text="doc_id:3")) == ["3"]
    assert users(await search(endpoint, plain, text="doc_id:3")) == []
    assert users(await search(endpoint, "userInput(@text)", text="wick -candle")) == ["1"]
    assert sorted(users(await search(endpoint, plain, text="wick -candle"))) == ["1", "2"]


async def test_identifiers_that_are_cased_are_compared_exactly(endpoint: Endpoint) -> None:
    await put(endpoint, "1", doc_id="AbC")

    assert users(await search(endpoint, "doc_id contains 'AbC'")) == ["1"]
    assert users(await search(endpoint, "doc_id contains 'abc'")) == []
    assert users(await search(endpoint, "doc_id in (@ids)", ids="x,'AbC'")) == ["1"]


async def test_words_are_found_without_case_and_accents(endpoint: Endpoint) -> None:
    await put(endpoint, "1", title="Crème BRÛLÉE")

    assert users(await search(endpoint, "title contains @t", t="creme brûlée")) == ["1"]


async def test_updates_and_removals_are_seen_at_once(endpoint: Endpoint) -> None:
    await put(endpoint, "1", title="old", year=1)
    assert users(await search(endpoint, "title contains 'old'")) == ["1"]

    await endpoint.update("1", {"title": {"assign": "new"}, "year": {"increment": 4}})
    assert users(await search(endpoint, "title contains 'old'")) == []
    assert users(await search(endpoint, "title contains 'new' and year = 5")) == ["1"]

    await endpoint.update("1", {"acl": {"assign": ["someone else"]}})
    assert users(await search(endpoint, "true")) == []

    await put(endpoint, "1", title="new")
    await endpoint.ask("DELETE", endpoint.path("1"))
    assert users(await search(endpoint, "true")) == []


async def test_the_ids_of_hits_without_documentid(endpoint: Endpoint) -> None:
    await put(endpoint, "1", title="Lantern", year=1990)

    root = await search(endpoint, "true", select="title, year")

    (hit,) = root["children"]
    assert hit["id"].startswith(f"index:{hit['source']}/")
    assert hit["fields"] == {"title": "Lantern", "year": 1990}


async def test_attributes_can_be_selected_without_being_in_a_summary(endpoint: Endpoint) -> None:
    await put(endpoint, "1")

    root = await search(endpoint, "true", select="acl")

    assert root["children"][0]["fields"] == {"acl": [endpoint.namespace]}


async def test_values_as_they_are_rendered(endpoint: Endpoint) -> None:
    await put(
        endpoint, "1", title="", price=0.4, score=0.4, small=-1, is_open=True, numbers=[1, 2],
        weights={"a": 2}, vector=[1, 2, 3], labels={"x": 0.5}, version=2**53 + 1, blob="AAEC",
    )  # fmt: skip

    fields = (await search(endpoint, "true"))["children"][0]["fields"]
    short = (await search(endpoint, "true", **{"presentation.format.tensors": "short-value"}))[
        "children"
    ][0]

    assert "title" not in fields, "an empty string is left out"
    assert fields["price"] == 0.4000000059604645
    assert fields["score"] == 0.4
    assert (fields["small"], fields["is_open"], fields["version"]) == (-1, True, 2**53 + 1)
    assert (fields["numbers"], fields["weights"]) == ([1, 2], {"a": 2})
    assert fields["vector"] == {"type": "tensor<float>(x[3])", "values": [1.0, 2.0, 3.0]}
    assert fields["labels"] == {"type": "tensor<float>(k{})", "cells": {"x": 0.5}}
    assert (short["fields"]["vector"], short["fields"]["labels"]) == ([1.0, 2.0, 3.0], {"x": 0.5})


async def test_dynamic_snippets_mark_what_was_found(endpoint: Endpoint) -> None:
    await put(
        endpoint, "1", title="<b> & co", chunks=[ABOUT, f"{LONG} the Lantern & {LONG}", "none"]
    )

    root = await search(endpoint, "userInput('lantern')", **{"presentation.summary": "hit"})

    fields = root["children"][0]["fields"]
    first, second, third = fields["snippets"]
    assert first == "A <hi>lantern</hi> is a portable light"
    assert second.startswith("<sep />")
    assert second.endswith("<sep />")
    assert "the <hi>Lantern</hi> &" in second, "nothing is escaped"
    assert third == "none"
    assert fields["title"] == "<b> & co"


async def test_words_order_hits_by_bm25(endpoint: Endpoint) -> None:
    await put(endpoint, "often", title="Lantern", chunks=["lantern lantern lantern"])
    await put(endpoint, "once", title="Other", chunks=["a lantern among many other words here"])

    root = await search(endpoint, "userInput('lantern')", ranking="bm25")

    assert users(root) == ["often", "once"]
    assert root["children"][0]["relevance"] > root["children"][1]["relevance"] > 0


async def test_words_and_vectors_are_fused(endpoint: Endpoint) -> None:
    await feed(endpoint)
    where = "({targetHits:10}nearestNeighbor(embedding, q_emb)) or userInput(@text)"

    root = await search(
        endpoint, where, text="lantern", ranking="hybrid", input={"query(q_emb)": [0, 1, 0.1]}
    )

    assert users(root) == ["1", "2"]
    best = root["children"][0]
    assert best["relevance"] == pytest.approx(2 / 61)
    features = best["fields"]["matchfeatures"]
    assert list(features) == ["lexical", "semantic", "closest(embedding)"]
    assert features["lexical"] > 0
    assert 0.9 < features["semantic"] < 1
    assert features["closest(embedding)"] == {"type": "tensor<float>(chunk{})", "cells": {"1": 1.0}}
    assert root["children"][1]["fields"]["matchfeatures"]["lexical"] == 0.0


async def test_the_forms_of_a_query_vector(endpoint: Endpoint) -> None:
    await feed(endpoint)
    where = "({targetHits:1}nearestNeighbor(embedding, q_emb))"

    for form in ([0, 0, 1], "[0, 0, 1]", {"values": [0, 0, 1]}, "{{x:0}:0,{x:1}:0,{x:2}:1}"):
        found = await search(endpoint, where, ranking="hybrid", input={"query(q_emb)": form})
        assert users(found) == ["2"], form


async def test_degraded_answers_say_so(endpoint: Endpoint) -> None:
    if endpoint.stand_in is None:
        pytest.skip("a real Vespa has no faults to switch on")
    for at in range(20):
        await put(endpoint, str(at))
    fault = Fault("degraded", path="/search/", flags=frozenset({"timeout"}), coverage=50)
    endpoint.stand_in.faults.add(fault)

    root = await search(endpoint, "true")

    coverage = root["coverage"]
    assert list(coverage)[:3] == ["coverage", "documents", "degraded"]
    assert coverage["degraded"] == {
        "match-phase": False,
        "timeout": True,
        "adaptive-timeout": False,
        "anntimeout": False,
        "non-ideal-state": False,
    }
    assert (coverage["coverage"], coverage["documents"]) == (50, 10)
    assert (coverage["full"], coverage["resultsFull"]) == (False, 0)
    assert root["fields"]["totalCount"] == 10


async def test_a_cut_of_the_vector_search_has_full_coverage_and_is_not_full(
    endpoint: Endpoint,
) -> None:
    if endpoint.stand_in is None:
        pytest.skip("a real Vespa has no faults to switch on")
    endpoint.stand_in.faults.add(Fault("degraded", flags=frozenset({"anntimeout"})))
    await put(endpoint, "1")

    coverage = (await search(endpoint, "true"))["coverage"]

    assert (coverage["coverage"], coverage["full"]) == (100, False)
    assert coverage["degraded"]["anntimeout"] is True


async def test_a_query_that_is_not_yql(endpoint: Endpoint) -> None:
    await feed(endpoint)

    answer = await post(endpoint, {"query": "candle", "restrict": "doc"})

    assert answer.status_code == 200
    assert endpoint.full_id("2") in [each["id"] for each in answer.json()["root"]["children"]]


async def test_a_trace_is_given_when_it_is_asked_for(endpoint: Endpoint) -> None:
    answer = await post(endpoint, {"yql": "select * from doc where false", "trace": {"level": 1}})

    assert answer.json()["trace"]["children"]
