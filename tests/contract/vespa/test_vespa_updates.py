"""Golden cases: partial updates."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.vespa.endpoint import Endpoint

CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("assign", {"title": "a"}, {"title": {"assign": "b"}}, {"title": "b"}),
    ("assign leaves others", {"title": "a", "year": 1}, {"year": {"assign": 2}}, {"title": "a", "year": 2}),
    ("assign null clears", {"title": "a", "year": 1}, {"title": {"assign": None}}, {"year": 1}),
    ("assign an array", {"acl": ["a"]}, {"acl": {"assign": ["b", "c"]}}, {"acl": ["b", "c"]}),
    ("add to an array", {"numbers": [1]}, {"numbers": {"add": [1, 2]}}, {"numbers": [1, 1, 2]}),
    ("add to no array", {"year": 1}, {"numbers": {"add": [2]}}, {"year": 1, "numbers": [2]}),
    ("remove from an array", {"numbers": [1, 2, 1]}, {"numbers": {"remove": [1]}}, {"numbers": [2]}),
    ("add to a weighted set", {"weights": {"a": 1}}, {"weights": {"add": {"b": 2}}}, {"weights": {"a": 1, "b": 2}}),
    ("remove from a weighted set", {"weights": {"a": 1, "b": 2}}, {"weights": {"remove": {"a": 0}}}, {"weights": {"b": 2}}),
    ("increment", {"year": 1}, {"year": {"increment": 2}}, {"year": 3}),
    ("decrement", {"version": 1}, {"version": {"decrement": 2}}, {"version": -1}),
    ("multiply", {"score": 3.0}, {"score": {"multiply": 2}}, {"score": 6.0}),
    ("divide", {"price": 3.0}, {"price": {"divide": 2}}, {"price": 1.5}),
    (
        "match an element",
        {"numbers": [1, 2]},
        {"numbers": {"match": {"element": 1, "assign": 7}}},
        {"numbers": [1, 7]},
    ),
    (
        "match arithmetic",
        {"numbers": [1, 2]},
        {"numbers": {"match": {"element": 0, "increment": 7}}},
        {"numbers": [8, 2]},
    ),
    (
        "match a key",
        {"weights": {"a": 1}},
        {"weights": {"match": {"element": "a", "increment": 5}}},
        {"weights": {"a": 6}},
    ),
    ("a field path", {"numbers": [1, 2]}, {"numbers[0]": {"assign": 9}}, {"numbers": [9, 2]}),
]  # fmt: skip

TENSOR_CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    (
        "modify dense cells",
        {"vector": [1, 2, 3]},
        {
            "vector": {
                "modify": {"operation": "replace", "cells": [{"address": {"x": "1"}, "value": 9}]}
            }
        },
        {"vector": [1.0, 9.0, 3.0]},
    ),
    (
        "modify by adding",
        {"labels": {"a": 1, "b": 2}},
        {"labels": {"modify": {"operation": "add", "cells": {"a": 5}}}},
        {"labels": {"a": 6.0, "b": 2.0}},
    ),
    (
        "modify by multiplying",
        {"labels": {"a": 3}},
        {
            "labels": {
                "modify": {"operation": "multiply", "cells": [{"address": {"k": "a"}, "value": 2}]}
            }
        },
        {"labels": {"a": 6.0}},
    ),
    (
        "modify does not create",
        {"labels": {"a": 1}},
        {"labels": {"modify": {"operation": "replace", "cells": {"b": 5}}}},
        {"labels": {"a": 1.0}},
    ),
    (
        "modify creates",
        {"labels": {"a": 1}},
        {"labels": {"modify": {"operation": "add", "create": True, "cells": {"b": 5}}}},
        {"labels": {"a": 1.0, "b": 5.0}},
    ),
    (
        "add a block",
        {"embedding": {"0": [1, 2, 3]}},
        {"embedding": {"add": {"blocks": {"1": [4, 5, 6]}}}},
        {"embedding": {"0": [1.0, 2.0, 3.0], "1": [4.0, 5.0, 6.0]}},
    ),
    (
        "remove a block",
        {"embedding": {"0": [1, 2, 3], "1": [4, 5, 6]}},
        {"embedding": {"remove": {"addresses": [{"chunk": "0"}]}}},
        {"embedding": {"1": [4.0, 5.0, 6.0]}},
    ),
]


@pytest.mark.parametrize(
    ("case", "before", "update", "after"), CASES, ids=[each[0] for each in CASES]
)
async def test_updates(
    endpoint: Endpoint,
    case: str,
    before: dict[str, Any],
    update: dict[str, Any],
    after: dict[str, Any],
) -> None:
    await endpoint.put(case, before)
    answer = await endpoint.update(case, update)
    assert answer.status_code == 200, answer.text
    assert await endpoint.fields(case) == after


@pytest.mark.parametrize(
    ("case", "before", "update", "after"), TENSOR_CASES, ids=[each[0] for each in TENSOR_CASES]
)
async def test_updates_of_tensors(
    endpoint: Endpoint,
    case: str,
    before: dict[str, Any],
    update: dict[str, Any],
    after: dict[str, Any],
) -> None:
    await endpoint.put(case, before)
    answer = await endpoint.update(case, update)
    assert answer.status_code == 200, answer.text
    got = await endpoint.ask("GET", endpoint.path(case), format__tensors="short-value")
    assert got.json()["fields"] == after


async def test_an_update_of_a_missing_document(endpoint: Endpoint) -> None:
    update = {"year": {"assign": 1}}
    answer = await endpoint.update("gone", update)
    assert answer.status_code == 200
    assert await endpoint.fields("gone") is None, "nothing is written, and nobody is told"
    assert (await endpoint.update("gone", update, create="true")).status_code == 200
    assert await endpoint.fields("gone") == {"year": 1}
    answer = await endpoint.ask("PUT", endpoint.path("gone2"), {"create": True, "fields": update})
    assert answer.status_code == 200
    assert await endpoint.fields("gone2") == {"year": 1}


@pytest.mark.parametrize(
    "update",
    [
        {"nothing": {"assign": 1}},
        {"year": 5},
        {"year": {}},
        {"year": {"assign": "x"}},
        {"year": {"shrink": 1}},
        {"year": {"add": [1]}},
        {"title": {"increment": 1}},
        {"vector": {"assign": [1]}},
        {"vector": {"remove": {"addresses": [{"x": "0"}]}}},
        {
            "vector": {
                "modify": {"operation": "halve", "cells": [{"address": {"x": "0"}, "value": 1}]}
            }
        },
        {
            "vector": {
                "modify": {"operation": "add", "cells": [{"address": {"x": "3"}, "value": 1}]}
            }
        },
        {"labels": {"remove": {"addresses": [{"other": "0"}]}}},
    ],
)
async def test_refused_updates(endpoint: Endpoint, update: dict[str, Any]) -> None:
    await endpoint.put("r", {"year": 1, "title": "t"})
    answer = await endpoint.update("r", update)
    assert answer.status_code == 400
    assert set(answer.json()) == {"pathId", "message"}
    assert await endpoint.fields("r") == {"year": 1, "title": "t"}


async def test_the_name_of_an_unknown_field_is_told(endpoint: Endpoint) -> None:
    answer = await endpoint.update("r", {"nothing": {"assign": 1}})
    assert answer.json()["message"].startswith("Error in 'nothing': No field named 'nothing' in ")


async def test_all_of_an_update_or_nothing(endpoint: Endpoint) -> None:
    await endpoint.put("r", {"year": 1})
    answer = await endpoint.update("r", {"title": {"assign": "t"}, "year": {"assign": "x"}})
    assert answer.status_code == 400
    assert await endpoint.fields("r") == {"year": 1}
