"""Golden cases of grouping: the counts of values beside the hits, and the pages of groups."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.vespa.endpoint import Endpoint
from tests.contract.vespa.test_vespa_query import post, put


async def feed(endpoint: Endpoint) -> None:
    for at, (year, numbers) in enumerate(
        [(1990, [1, 2]), (1990, [2]), (2000, []), (2010, [3]), (2010, [2])]
    ):
        await put(endpoint, str(at), doc_id="abc"[at % 3], year=year, numbers=numbers)


async def grouped(endpoint: Endpoint, operation: str, **more: Any) -> dict[str, Any]:
    """Group the documents of this test, and give ``root``."""
    yql = f"select * from doc where acl in (@mine) | {operation}"
    answer = await post(endpoint, {"yql": yql, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["root"]


def lists(root: dict[str, Any]) -> list[dict[str, Any]]:
    """The lists of groups."""
    (group,) = [each for each in root["children"] if each["id"].startswith("group:")]
    return group.get("children", [])


def counts(found: dict[str, Any]) -> list[tuple[str, int]]:
    """Values and counts of a list of groups."""
    return [(each["value"], each["fields"]["count()"]) for each in found["children"]]


async def test_groups_beside_hits(endpoint: Endpoint) -> None:
    await feed(endpoint)

    root = await grouped(endpoint, "all(group(year) max(50) order(-count()) each(output(count())))")

    assert root["fields"]["totalCount"] == 5
    (group,) = [each for each in root["children"] if each["id"] == "group:root:0"]
    assert len(root["children"]) == 6
    assert list(group) == ["id", "relevance", "continuation", "children"]
    assert (group["relevance"], group["continuation"]) == (1.0, {"this": ""})
    (found,) = group["children"]
    assert list(found) == ["id", "relevance", "label", "children"]
    assert (found["id"], found["label"]) == ("grouplist:year", "year")
    assert list(found["children"][0]) == ["id", "relevance", "value", "fields"]
    assert [each["id"] for each in found["children"]][2] == "group:long:2000"
    assert sorted(counts(found)) == [("1990", 2), ("2000", 1), ("2010", 2)]


async def test_groups_without_hits(endpoint: Endpoint) -> None:
    await feed(endpoint)

    root = await grouped(
        endpoint, "all(group(doc_id) order(-count()) each(output(count())))", hits=0
    )

    assert [each["id"] for each in root["children"]] == ["group:root:0"]
    (found,) = lists(root)
    assert sorted(counts(found)) == [("a", 2), ("b", 2), ("c", 1)]
    assert found["children"][2]["id"] == "group:string:c"


async def test_elements_of_arrays_are_groups(endpoint: Endpoint) -> None:
    await feed(endpoint)

    root = await grouped(
        endpoint, "all(group(numbers) order(-count()) each(output(count())))", hits=0
    )

    assert counts(lists(root)[0])[0] == ("2", 3)
    assert sorted(counts(lists(root)[0])) == [("1", 1), ("2", 3), ("3", 1)]


async def test_several_lists_at_once(endpoint: Endpoint) -> None:
    await feed(endpoint)
    operation = "all(all(group(year) each(output(count()))) all(group(doc_id) each(output(count())) as(ids)))"

    found = lists(await grouped(endpoint, operation, hits=0))

    assert [each["label"] for each in found] == ["year", "ids"]


async def test_nothing_to_group(endpoint: Endpoint) -> None:
    root = await grouped(endpoint, "all(group(year) each(output(count())))")

    assert lists(root) == []


async def test_pages_of_groups(endpoint: Endpoint) -> None:
    for year in range(2000, 2005):
        for at in range(2006 - year):
            await put(endpoint, f"{year}-{at}", year=year)
    operation = "all(group(year) max(2) order(-count()) each(output(count())))"
    seen: list[tuple[str, int]] = []
    page = None

    for _ in range(3):
        text = f"{{'continuations':[@page]}} {operation}" if page else operation
        (found,) = lists(await grouped(endpoint, text, hits=0, page=page or ""))
        seen += counts(found)
        page = found.get("continuation", {}).get("next")

    assert seen == [("2000", 6), ("2001", 5), ("2002", 4), ("2003", 3), ("2004", 2)]
    assert page is None


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (
            "all(group(year) max(inf) each(output(count())))",
            "Cannot return unbounded number of groups when 'grouping.globalMaxGroups' is enabled.",
        ),
        ("all(group(title) each(output(count())))", "title"),
        ("all(group(nowhere) each(output(count())))", "nowhere"),
        ("all(group(year) nonesuch(3) each(output(count())))", "nonesuch"),
        ("{'continuations':['xyz']} all(group(year) each(output(count())))", "xyz"),
    ],
)
async def test_grouping_that_is_refused(endpoint: Endpoint, operation: str, message: str) -> None:
    await put(endpoint, "1", year=1)

    answer = await post(
        endpoint, {"yql": f"select * from doc where acl in (@mine) | {operation}", "hits": 0}
    )

    assert answer.status_code == 400
    assert message in answer.json()["root"]["errors"][0]["message"]
