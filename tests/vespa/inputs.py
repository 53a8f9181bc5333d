"""The inputs of a rank profile in a request: ``input.query(name)``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.vespa.model import RankProfile, Tensor, TensorType
from tests.vespa.query_errors import ILLEGAL_QUERY, QueryError
from tests.vespa.rank_tensors import RankValue
from tests.vespa.tensors import ValueProblem, parse_tensor
from tests.vespa.terms import number

SHOWN_MAX = 200
_KEY = re.compile(r"query\(([^()]+)\)\Z")
_PREFIX = re.compile(r"\s*tensor[^:]*:")
_CELL = re.compile(r"\{([^{}]*)\}\s*:\s*([^,{}]+)")
_LABEL = re.compile(r"\s*([\w.\-]+|'[^']*'|\"[^\"]*\")\s*:\s*([^,]+)\s*(?:,|\Z)")


def read_inputs(profile: RankProfile, given: Mapping[str, Any]) -> dict[str, RankValue]:
    """Read the inputs; *given* holds the values by feature, such as ``query(name)``.

    Raises:
        QueryError: a value has not the declared type, or a tensor is not declared.
    """
    found: dict[str, RankValue] = {}
    for feature, value in given.items():
        match = _KEY.match(feature)
        if match is None:
            raise _error(feature, value, "Expected query(name)")
        name = match[1].strip()
        found[name] = _value(profile, name, value)
    return found


def _value(profile: RankProfile, name: str, value: Any) -> RankValue:
    feature = f"query({name})"
    kind = profile.inputs.get(name)
    if isinstance(kind, TensorType):
        try:
            return parse_tensor(kind, _json_of(value, kind))
        except (ValueProblem, ValueError, KeyError, TypeError) as error:
            raise _error(feature, value, f"Require a tensor of type {kind}") from error
    found = number(str(value)) if not isinstance(value, list | dict | bool) else None
    if found is None and kind == "double":
        raise _error(feature, value, "Require a number")
    if found is None:
        raise _error(
            feature,
            value,
            f"A tensor must be declared as an input: rank profile '{profile.name}' has no {feature}",
        )
    return float(found)


def _error(feature: str, value: Any, problem: str) -> QueryError:
    shown = value if isinstance(value, str) else json.dumps(value)
    if len(shown) > SHOWN_MAX:
        shown = f"{shown[:SHOWN_MAX]}..."
    return QueryError(
        ILLEGAL_QUERY, f"Could not set 'ranking.features.{feature}' to '{shown}': {problem}"
    )


def _json_of(value: Any, kind: TensorType) -> Any:
    """The JSON of a tensor that may be written in the literal form."""
    if not isinstance(value, str):
        return value
    text = _PREFIX.sub("", value, count=1).strip()
    try:
        return json.loads(text)
    except ValueError:
        pass
    if not (text.startswith("{") and text.endswith("}")):
        raise ValueProblem(f"'{text}' is no tensor")
    if "{" not in text[1:]:
        cells = {label: float(cell) for label, cell in _labels(text[1:-1])}
        return {"cells": cells}
    parts = [
        {"address": dict(_labels(match[1])), "value": float(match[2])}
        for match in _CELL.finditer(text[1:-1])
    ]
    if _CELL.sub("", text[1:-1]).strip(" ,\t\n"):
        raise ValueProblem(f"'{text}' is no tensor of type {kind}")
    return {"cells": parts}


def _labels(text: str) -> list[tuple[str, str]]:
    if _LABEL.sub("", text).strip():
        raise ValueProblem(f"'{text}' is no address")
    return [(key.strip("'\""), value.strip().strip("'\"")) for key, value in _LABEL.findall(text)]


def empty_tensor(kind: TensorType) -> Tensor:
    """What an input is that is not given: zeros, or no cells with a mapped dimension."""
    if kind.mapped:
        return Tensor(kind, {})
    return Tensor(kind, {(): (0.0,) * kind.block_size})
