"""Reads the rank profiles of a schema; expressions are the work of `expressions`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from tests.vespa.expressions import ExpressionError, parse_expression
from tests.vespa.model import (
    Field,
    Function,
    RankProfile,
    TensorType,
    TensorTypeError,
    parse_tensor_type,
)
from tests.vespa.schema_text import SchemaError, Statement

_INPUT = re.compile(r"(?:query\((\w+)\)|(\w+))\s+(double|tensor.*)\Z")
_FUNCTION = re.compile(r"function\s+([A-Za-z_]\w*)\s*\(([\w\s,]*)\)\Z")
_PROFILE = re.compile(r"rank-profile\s+([\w-]+)(?:\s+inherits\s+([\w\s,-]+))?\Z")
_IGNORED_NUMBERS = frozenset({"approximate-threshold", "post-filter-threshold"})


def read_profile(statement: Statement, fields: Mapping[str, Field]) -> RankProfile:
    """Read a ``rank-profile``.

    Raises:
        SchemaError: something in it is not known, or an expression is wrong.
    """
    match = _PROFILE.match(statement.head)
    if match is None:
        raise statement.error(f"Encountered '{statement.head}'")
    found: dict[str, Any] = {"inputs": {}, "functions": {}, "constants": {}}
    seen: set[str] = set()
    for each in statement.children():
        name = each.head
        if not name.startswith("function "):
            if name in seen:
                raise each.error(f"'{name}' is given twice in rank-profile '{match[1]}'")
            seen.add(name)
        try:
            _profile_part(each, found)
        except SchemaError as error:
            raise SchemaError(f"In rank-profile '{match[1]}': {error}") from error
    inherits = tuple(part.strip() for part in (match[2] or "").split(",") if part.strip())
    return RankProfile(match[1], inherits, **found)


def _profile_part(each: Statement, found: dict[str, Any]) -> None:
    match each.head:
        case "inputs":
            for child in each.children():
                name, kind = _input(child)
                found["inputs"][name] = kind
        case "constants":
            for child in each.children():
                found["constants"][child.head] = _number(child)
        case "first-phase":
            found["first_phase"] = _phase(each)[0]
        case "second-phase":
            found["second_phase"], found["second_phase_rerank_count"] = _phase(each)
        case "global-phase":
            found["global_phase"], found["global_phase_rerank_count"] = _phase(each)
        case "match-features" | "summary-features" as name:
            found[name.replace("-", "_")] = _features(each)
        case name if name in _IGNORED_NUMBERS:
            _number(each)
        case name if name.startswith("function "):
            function = _function(each)
            if function.name in found["functions"]:
                raise each.error(f"Function '{function.name}' is given twice")
            found["functions"][function.name] = function
        case name:
            raise each.error(f"Encountered '{name}'")


def _input(statement: Statement) -> tuple[str, TensorType | Literal["double"]]:
    match = _INPUT.match(statement.head)
    if match is None or statement.value is not None:
        raise statement.error(f"Encountered '{statement.head}' in inputs")
    name = match[1] or match[2]
    if match[3] == "double":
        return name, "double"
    try:
        return name, parse_tensor_type(match[3])
    except TensorTypeError as error:
        raise statement.error(str(error)) from error


def _number(statement: Statement) -> float:
    try:
        return float(statement.text())
    except ValueError as error:
        raise statement.error(f"'{statement.head}' needs a number") from error


def _phase(statement: Statement) -> tuple[Any, int | None]:
    expression, count = None, None
    for each in statement.children():
        if each.head == "expression" and expression is None:
            expression = _expression(each)
        elif each.head == "rerank-count" and each.text().isdigit() and count is None:
            count = int(each.text())
            if statement.head == "first-phase":
                raise each.error("rerank-count in first-phase")
        else:
            raise each.error(f"Encountered '{each.head}' in {statement.head}")
    if expression is None:
        raise statement.error(f"{statement.head} has no expression")
    return expression, count


def _function(statement: Statement) -> Function:
    match = _FUNCTION.match(statement.head)
    children = statement.children()
    if match is None or len(children) != 1 or children[0].head != "expression":
        raise statement.error(f"Encountered '{statement.head}'")
    parameters = tuple(part.strip() for part in match[2].split(",") if part.strip())
    return Function(match[1], parameters, _expression(children[0]))


def _features(statement: Statement) -> tuple[str, ...]:
    if statement.value is not None:
        texts = [statement.text()]
    else:
        texts = [child.head for child in statement.children()]
    features: list[str] = []
    for text in texts:
        depth, current = 0, ""
        for char in [*text, " "]:
            depth += {"(": 1, ")": -1}.get(char, 0)
            if char.isspace():
                if depth == 0 and current:
                    features.append(current)
                    current = ""
            else:
                current += char
        if depth or current:
            raise statement.error(f"{statement.head}: unbalanced parentheses")
    return tuple(features)


def _expression(statement: Statement) -> Any:
    try:
        return parse_expression(statement.text())
    except ExpressionError as error:
        raise statement.error(
            f"Could not parse ranking expression '{statement.value}': {error}"
        ) from error
