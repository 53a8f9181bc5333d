"""Grouping: the number of hits by the values of an attribute.

Supported is ``all(group(attribute) max(n) order(-count()) each(output(count())))`` and several of these within
one ``all(...)``. Everything else of the grouping language is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.vespa.model import Field
from tests.vespa.query_errors import INVALID_PARAMETER, QueryError, YqlError
from tests.vespa.searchable import element_of, elements

GROUPS_DEFAULT = 10
GROUPS_MAX = 10_000
_TOKEN = re.compile(r"\s*([A-Za-z_][\w.]*|\d+|[-+(),])")
_UNDEFINED: Mapping[str, Any] = {
    "string": "",
    "byte": -(2**7),
    "int": -(2**31),
    "long": -(2**63),
    "float": float("nan"),
    "double": float("nan"),
    "bool": False,
}
_ORDERS = ("count()", "max(relevance())")


@dataclass(frozen=True, slots=True)
class Grouping:
    """One list of groups."""

    attribute: str
    label: str
    groups_max: int = GROUPS_DEFAULT
    order: str = "max(relevance())"
    is_descending: bool = True


def parse_grouping(text: str) -> tuple[Grouping, ...]:
    """Parse a grouping operation.

    Raises:
        YqlError: it is none, or none that is supported.
        QueryError: the number of groups is not bounded.
    """
    parser = _Parser(text)
    return parser.whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = []
        at, stripped = 0, text.rstrip()
        while at < len(stripped):
            match = _TOKEN.match(stripped, at)
            if match is None:
                raise self._unexpected(stripped[at])
            self._tokens.append(match[1])
            at = match.end()
        self._at = 0

    def whole(self) -> tuple[Grouping, ...]:
        self._need("all", "(")
        found = self._inner() if self._peek() == "all" else (self._one(),)
        self._need(")")
        if self._at < len(self._tokens):
            raise self._unexpected(self._peek())
        return found

    def _inner(self) -> tuple[Grouping, ...]:
        found: list[Grouping] = []
        while self._peek() == "all":
            self._need("all", "(")
            found.append(self._one())
            self._need(")")
        return tuple(found)

    def _one(self) -> Grouping:
        self._need("group", "(")
        attribute = self._next()
        if not re.match(r"[A-Za-z_]", attribute):
            raise self._unexpected(attribute)
        self._need(")")
        groups_max, order, is_descending = GROUPS_DEFAULT, "max(relevance())", True
        seen: set[str] = set()
        while (clause := self._peek()) in ("max", "order"):
            if clause in seen:
                raise self._unexpected(clause)
            seen.add(clause)
            self._need(clause, "(")
            if clause == "max":
                groups_max = self._maximum()
            else:
                order, is_descending = self._order()
            self._need(")")
        self._need("each", "(", "output", "(", "count", "(", ")", ")", ")")
        label = attribute
        if self._peek() == "as":
            self._need("as", "(")
            label = self._next()
            self._need(")")
        return Grouping(attribute, label, groups_max, order, is_descending)

    def _maximum(self) -> int:
        text = self._next()
        if text == "inf":
            raise QueryError(
                INVALID_PARAMETER,
                "Cannot return unbounded number of groups when 'grouping.globalMaxGroups' is enabled. "
                "Use a bounded max() or disable the limit in a query profile.",
            )
        if not text.isdigit() or int(text) < 1:
            raise self._unexpected(text)
        if int(text) > GROUPS_MAX:
            raise QueryError(
                INVALID_PARAMETER,
                f"Cannot return more than {GROUPS_MAX} groups, as 'grouping.globalMaxGroups' says: {text}",
            )
        return int(text)

    def _order(self) -> tuple[str, bool]:
        sign = self._next() if self._peek() in ("-", "+") else "+"
        for order in _ORDERS:
            parts = [part for part in re.split(r"([()])", order) if part]
            if self._tokens[self._at : self._at + len(parts)] == parts:
                self._at += len(parts)
                return order, sign == "-"
        raise self._unexpected(self._peek())

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else "<EOF>"

    def _next(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _need(self, *tokens: str) -> None:
        for wanted in tokens:
            if self._peek() != wanted:
                raise self._unexpected(self._peek())
            self._at += 1

    def _unexpected(self, token: str) -> YqlError:
        return YqlError(f"Encountered '{token}' in the grouping '{self._text}'")


def check_attribute(grouping: Grouping, field: Field | None, cluster: str) -> None:
    """Refuse what cannot be grouped by.

    Raises:
        QueryError: there is no such attribute.
    """
    if field is None or not field.is_attribute or element_of(field.type) not in _UNDEFINED:
        raise QueryError(
            INVALID_PARAMETER,
            f"Grouping request references attribute '{grouping.attribute}' which is not defined in cluster "
            f"'{cluster}'.",
        )


def values_of(field: Field, value: Any) -> list[Any]:
    """The values under which a hit is counted."""
    if value is None:
        element = element_of(field.type)
        assert element is not None
        return [_UNDEFINED[element]] if field.type == element else []
    return list(elements(value))


def render_groupings(
    groupings: Sequence[Grouping],
    counted: Sequence[Iterable[tuple[Any, float]]],
    types: Mapping[str, str],
    continuations: Iterable[str],
) -> dict[str, Any]:
    """The group of the root.

    For each grouping *counted* has the values of all hits, each with the score of its hit; *types* holds the
    primitive type of each attribute.

    Raises:
        QueryError: a continuation is none of ours.
    """
    offsets = _offsets(continuations, len(groupings))
    root: dict[str, Any] = {"id": "group:root:0", "relevance": 1.0, "continuation": {"this": ""}}
    children = [
        each
        for at, (grouping, values) in enumerate(zip(groupings, counted, strict=True))
        if (each := _list(grouping, at, offsets.get(at, 0), values, types)) is not None
    ]
    return root | ({"children": children} if children else {})


def _list(
    grouping: Grouping,
    at: int,
    offset: int,
    values: Iterable[tuple[Any, float]],
    types: Mapping[str, str],
) -> dict[str, Any] | None:
    counts: dict[Any, int] = {}
    scores: dict[Any, float] = {}
    for value, score in values:
        counts[value] = counts.get(value, 0) + 1
        if score >= scores.get(value, score):
            scores[value] = score
    order = counts if grouping.order == "count()" else scores
    sign = -1 if grouping.is_descending else 1
    ordered = sorted(counts, key=lambda value: (sign * order[value], -scores[value], str(value)))
    shown = ordered[offset : offset + grouping.groups_max]
    if not shown:
        return None
    links: dict[str, str] = {}
    if offset:
        links["prev"] = encode(at, max(0, offset - grouping.groups_max))
    if offset + grouping.groups_max < len(ordered):
        links["next"] = encode(at, offset + grouping.groups_max)
    found: dict[str, Any] = {"id": f"grouplist:{grouping.label}", "relevance": 1.0}
    found["label"] = grouping.label
    if links:
        found["continuation"] = links
    kind = types[grouping.attribute]
    found["children"] = [_group(value, kind, counts[value], scores[value]) for value in shown]
    return found


def _group(value: Any, kind: str, count: int, score: float) -> dict[str, Any]:
    name = {"string": "string", "bool": "bool", "float": "double", "double": "double"}.get(
        kind, "long"
    )
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return {
        "id": f"group:{name}:{text}",
        "relevance": score,
        "value": text,
        "fields": {"count()": count},
    }


def encode(at: int, offset: int) -> str:
    """Write the place in a list of groups as a continuation."""
    return "B" + "".join(chr(ord("A") + int(digit, 16)) for digit in f"{at:02x}{offset:x}")


def _offsets(continuations: Iterable[str], count: int) -> dict[int, int]:
    offsets: dict[int, int] = {}
    for text in continuations:
        if not text:
            continue
        if not re.fullmatch(r"B[A-P]{3,}", text):
            raise YqlError(f"'{text}' is no continuation")
        digits = "".join(f"{ord(letter) - ord('A'):x}" for letter in text[1:])
        at = int(digits[:2], 16)
        if at >= count:
            raise YqlError(f"'{text}' is no continuation of this grouping")
        offsets[at] = int(digits.removeprefix(digits[:2]), base=16)
    return offsets
