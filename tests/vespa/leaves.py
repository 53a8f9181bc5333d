"""Makes items of the conditions on fields: contains, in, matches and comparisons."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TypeVar

from tests.vespa.analysis import whole
from tests.vespa.items import Item, Membership, Near, Nothing, Pattern, Range
from tests.vespa.lookup import Lookup, operator_of
from tests.vespa.model import Field
from tests.vespa.query_errors import BAD_REQUEST, QueryError, YqlError
from tests.vespa.searchable import Kind, element_of, kind_of
from tests.vespa.terms import number, refuse_tensor
from tests.vespa.value_lists import integers_of, strings_of
from tests.vespa.yql_tree import (
    Call,
    Comparison,
    Contains,
    FieldName,
    In,
    Literal,
    Matches,
    Node,
    Parameter,
)

NEAR_DISTANCE = 2
NOT_HERE = frozenset({"sameElement", "uri", "fuzzy", "alternatives"})
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "="}
_BOUNDS = {"open": (True, True), "leftOpen": (True, False), "rightOpen": (False, True)}
_Value = TypeVar("_Value")


def contains(lookup: Lookup, node: Contains, text_call: Callable[[Call, str], Item]) -> Item:
    """``field contains ...``; *text_call* makes the item of ``text(...)``."""
    fields = lookup.fields(node.field)
    name = lookup.field_name(node.field)
    refuse_tensor(fields, name)
    with lookup.scope.within(node.operand):
        if isinstance(node.operand, Call):
            if node.operand.name == "text":
                return text_call(node.operand, lookup.index_of(fields))
            return _call(lookup, fields, node.operand)
        text = lookup.text(node.operand)
        _check_parts(lookup, fields, name)
        return lookup.terms().term(fields, text)


def _check_parts(lookup: Lookup, fields: tuple[Field, ...], name: str) -> None:
    if lookup.scope.get("prefix", False) and not all(each.is_attribute for each in fields):
        raise QueryError(
            BAD_REQUEST,
            f"Invalid search request: '{name}' is not an attribute field: Prefix matching is not supported",
        )
    for part in ("suffix", "substring"):
        if lookup.scope.get(part, False):
            raise YqlError(f"The annotation '{part}' needs a streaming cluster.")


def _call(lookup: Lookup, fields: tuple[Field, ...], call: Call) -> Item:
    match call.name:
        case "phrase":
            texts = [lookup.text(each) for each in call.arguments]
            return lookup.terms().term(fields, " ".join(texts)) if texts else Nothing()
        case "near" | "onear":
            row = tuple(whole(lookup.text(each), is_cased=False) for each in call.arguments)
            names = tuple(each.name for each in fields)
            distance = lookup.scope.get("distance", NEAR_DISTANCE)
            is_ranked = lookup.terms().is_ranked
            return Near(names, row, distance, call.name == "onear", is_ranked)
        case "equiv":
            return _equivalent(lookup, fields, call)
        case name if name in NOT_HERE:
            raise YqlError(f"{name}() is not supported by this server.")
        case name:
            raise YqlError(
                f"Expected equiv, near, onear, phrase, sameElement, text, uri or fuzzy, got {name}."
            )


def _equivalent(lookup: Lookup, fields: tuple[Field, ...], call: Call) -> Item:
    if len(call.arguments) < 2:
        raise YqlError(f"Expected 2 or more arguments, got {len(call.arguments)}.")
    texts: list[str] = []
    for each in call.arguments:
        if isinstance(each, Call):
            if each.name != "phrase":
                raise YqlError(f"Expected function 'phrase', got '{each.name}'.")
            texts.append(" ".join(lookup.text(word) for word in each.arguments))
        else:
            texts.append(lookup.text(each))
    return lookup.terms().equivalent(fields, texts)


def membership(lookup: Lookup, node: In) -> Item:
    """``field in (...)``: values are compared whole, also with the words of text."""
    name = lookup.field_name(node.field)
    fields = lookup.fields(node.field)
    if not fields:
        return Nothing()
    names = tuple(each.name for each in fields)
    kinds = {element_of(each.type) for each in fields}
    if kinds == {"string"}:
        is_cased = all(each.is_cased for each in fields)
        texts = _values(lookup, node, strings_of, str)
        return Membership(names, frozenset(whole(text, is_cased=is_cased) for text in texts))
    if kinds <= {"int", "long", "byte"}:
        return Membership(names, frozenset(_values(lookup, node, integers_of, int)))
    if "string" in kinds and kinds & {"int", "long", "byte"}:
        raise YqlError(
            "The in operator is not supported for fieldsets with a mix of integer and string fields. "
            f"The fieldset {name} has both"
        )
    raise YqlError(
        f"The in operator is only supported for integer and string fields. The field {name} is not of these "
        "types"
    )


def _values(
    lookup: Lookup, node: In, read: Callable[[str], list[_Value]], kind: type[_Value]
) -> list[_Value]:
    found: list[_Value] = []
    for each in node.values:
        if isinstance(each, Parameter):
            try:
                found += read(lookup.parameter(each.name))
            except ValueError as error:
                raise YqlError(str(error)) from error
        elif type(each.value) is kind:
            found.append(each.value)
        else:
            raise YqlError(f"Expected {kind.__name__} in the list of values, got {each.value!r}.")
    return found


def pattern(lookup: Lookup, node: Matches) -> Item:
    """``field matches "expression"``, for attributes."""
    fields = lookup.fields(node.field)
    name = lookup.field_name(node.field)
    refuse_tensor(fields, name)
    if not fields:
        return Nothing()
    if len(fields) != 1 or kind_of(fields[0]) is not Kind.WHOLE or not fields[0].is_attribute:
        raise YqlError(f"Field '{name}' is no string attribute: 'matches' is not supported for it")
    with lookup.scope.within(node.operand):
        expression = lookup.text(node.operand)
    try:
        re.compile(expression)
    except re.error as error:
        raise YqlError(f"Illegal regular expression '{expression}': {error}") from error
    return Pattern(name, expression)


def comparison(lookup: Lookup, node: Comparison) -> Item:
    """A comparison of a field with a number or a boolean."""
    left, right, operator = node.left, node.right, node.operator
    if isinstance(left, Literal | Parameter) and isinstance(right, FieldName):
        left, right, operator = right, left, _FLIPPED[operator]
    if not (isinstance(left, FieldName) and isinstance(right, Literal | Parameter)):
        raise YqlError(
            f"Expected LITERAL/VARREF and READ_FIELD/PROPREF, got {operator_of(node.left)} and "
            f"{operator_of(node.right)}."
        )
    fields = lookup.fields(left)
    refuse_tensor(fields, left.name)
    with lookup.scope.within(right):
        text = _number_text(lookup, right)
        if operator == "=":
            return lookup.terms().term(fields, text)
    value = number(text)
    if value is None:
        raise YqlError(f"'{operator}{text}' is not an int item expression")
    return _compared(fields, operator, value)


def _compared(fields: tuple[Field, ...], operator: str, value: float) -> Item:
    if len(fields) != 1 or kind_of(fields[0]) is not Kind.NUMBER:
        return Nothing()
    is_open = operator in ("<", ">")
    if operator in ("<", "<="):
        return Range(fields[0].name, high=value, is_high_open=is_open)
    return Range(fields[0].name, low=value, is_low_open=is_open)


def _number_text(lookup: Lookup, node: Literal | Parameter) -> str:
    if isinstance(node, Parameter):
        text = lookup.parameter(node.name)
    elif isinstance(node.value, bool):
        text = str(node.value).lower()
    else:
        text = str(node.value)
    if number(text) is None and text not in ("true", "false"):
        raise YqlError(f"'{text}' is not an int item expression: Expected a number or range")
    return text


def between(lookup: Lookup, call: Call) -> Item:
    """``range(field, low, high)``."""
    if len(call.arguments) != 3:
        raise YqlError(f"Expected 3 arguments, got {len(call.arguments)}.")
    low, high = (_limit(node) for node in call.arguments[1:])
    bounds = lookup.scope.get("bounds", "")
    if bounds and bounds not in _BOUNDS:
        raise YqlError(f"Expected open, leftOpen or rightOpen, got {bounds}.")
    fields = lookup.fields(call.arguments[0])
    if len(fields) != 1 or kind_of(fields[0]) is not Kind.NUMBER:
        return Nothing()
    return Range(fields[0].name, low, high, *_BOUNDS.get(bounds, (False, False)))


def _limit(node: Node) -> float:
    if isinstance(node, FieldName) and node.name == "Infinity":
        return math.inf
    if isinstance(node, Literal) and not isinstance(node.value, str | bool):
        return node.value
    shown = node.name if isinstance(node, FieldName | Parameter) else operator_of(node)
    if isinstance(node, Literal):
        shown = str(node.value)
    raise YqlError(f"Expected a numerical argument (or 'Infinity') to range but got '{shown}'")
