"""Golden cases: tensors in documents, in every form they are given and taken in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.vespa.endpoint import Endpoint

TENSORS: list[tuple[str, Any, Any]] = [
    ("vector", [1, 2, 3], [1.0, 2.0, 3.0]),
    ("vector", {"values": [1, 2, 3]}, [1.0, 2.0, 3.0]),
    ("vector", {"type": "ignored", "values": [1, 2, 3]}, [1.0, 2.0, 3.0]),
    ("vector", "3f8000004000000040400000", [1.0, 2.0, 3.0]),
    ("vector", {"values": "3f8000004000000040400000"}, [1.0, 2.0, 3.0]),
    ("labels", {"a": 1, "b": 2}, {"a": 1.0, "b": 2.0}),
    ("labels", {"cells": {"a": 1}}, {"a": 1.0}),
    ("labels", {"cells": [{"address": {"k": "a"}, "value": 1}]}, {"a": 1.0}),
    ("embedding", {"0": [1, 2, 3]}, {"0": [1.0, 2.0, 3.0]}),
    ("embedding", {"blocks": {"0": [1, 2, 3]}}, {"0": [1.0, 2.0, 3.0]}),
    ("embedding", {"blocks": {"0": "3f8000004000000040400000"}}, {"0": [1.0, 2.0, 3.0]}),
    (
        "embedding",
        {"blocks": [{"address": {"chunk": "7"}, "values": [1, 2, 3]}]},
        {"7": [1.0, 2.0, 3.0]},
    ),
]


@pytest.mark.parametrize(("name", "given", "values"), TENSORS)
async def test_forms_of_tensors(endpoint: Endpoint, name: str, given: Any, values: Any) -> None:
    assert (await endpoint.put("t", {name: given})).status_code == 200
    got = await endpoint.ask("GET", endpoint.path("t"), format__tensors="short-value")
    assert got.json()["fields"][name] == values


async def test_formats_of_tensors(endpoint: Endpoint) -> None:
    await endpoint.put("t", {"vector": [1, 2, 3], "embedding": {"0": [1, 2, 3]}})
    kind, mixed = "tensor<float>(x[3])", "tensor<float>(chunk{},x[3])"
    cells = [{"address": {"x": str(at)}, "value": at + 1.0} for at in range(3)]
    expected: dict[str, Any] = {
        "short": {"type": kind, "values": [1.0, 2.0, 3.0]},
        "long": {"type": kind, "cells": cells},
        "short-value": [1.0, 2.0, 3.0],
        "long-value": cells,
        "hex": {"type": kind, "values": "3f8000004000000040400000"},
        "hex-value": "3f8000004000000040400000",
    }
    for form, value in expected.items():
        got = await endpoint.ask("GET", endpoint.path("t"), format__tensors=form)
        assert got.json()["fields"]["vector"].__str__().lower() == str(value).lower(), form
    got = await endpoint.fields("t")
    assert got is not None
    assert got["embedding"] == {"type": mixed, "blocks": {"0": [1.0, 2.0, 3.0]}}
    refused = await endpoint.ask("GET", endpoint.path("t"), format__tensors="tall")
    assert refused.status_code == 400
