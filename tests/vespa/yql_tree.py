"""The tree that the YQL parser makes: what was written, before fields and parameters are looked up."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

Annotations: TypeAlias = Mapping[str, object]
"""Values are strings, numbers, booleans, lists, maps and `Parameter`."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """``@name``: a value from the request."""

    name: str
    annotations: Annotations = dataclasses.field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, a number, or a boolean."""

    value: str | int | float | bool
    annotations: Annotations = dataclasses.field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class FieldName:
    """A name that stands for a field."""

    name: str
    annotations: Annotations = dataclasses.field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Map:
    """``{key: value}`` as an argument."""

    entries: Annotations
    annotations: Annotations = dataclasses.field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Call:
    """``name(argument, ...)``: userInput, nearestNeighbor, range, phrase and so on."""

    name: str
    arguments: tuple[Node, ...]
    annotations: Annotations = dataclasses.field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class And:
    """All of them."""

    children: tuple[Node, ...]
    annotations: Annotations = dataclasses.field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Or:
    """At least one of them."""

    children: tuple[Node, ...]
    annotations: Annotations = dataclasses.field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Not:
    """``!(child)``."""

    child: Node
    annotations: Annotations = dataclasses.field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Comparison:
    """``field <op> value`` or the other way round; the operator is one of ``= < > <= >=``."""

    operator: str
    left: Node
    right: Node
    annotations: Annotations = dataclasses.field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Contains:
    """``field contains operand``."""

    field: Node
    operand: Node
    annotations: Annotations = dataclasses.field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class Matches:
    """``field matches "regular expression"``."""

    field: Node
    operand: Node
    annotations: Annotations = dataclasses.field(default_factory=dict[str, object])


@dataclass(frozen=True, slots=True)
class In:
    """``field in (value, ...)``."""

    field: Node
    values: tuple[Literal | Parameter, ...]
    annotations: Annotations = dataclasses.field(default_factory=dict[str, object])


Node: TypeAlias = (
    Parameter
    | Literal
    | FieldName
    | Map
    | Call
    | And
    | Or
    | Not
    | Comparison
    | Contains
    | Matches
    | In
)


@dataclass(frozen=True, slots=True)
class Order:
    """One field of ``order by``."""

    field: str
    is_descending: bool


@dataclass(frozen=True, slots=True)
class GroupingText:
    """A grouping operation as it is written, and the continuations in its annotation."""

    text: str
    continuations: tuple[str | Parameter, ...] = ()


@dataclass(frozen=True, slots=True)
class Statement:
    """A whole ``select``; *fields* is empty for ``*``, *sources* for ``sources *``."""

    fields: tuple[str, ...]
    sources: tuple[str, ...]
    where: Node
    order: tuple[Order, ...] = ()
    limit: int | Parameter | None = None
    offset: int | Parameter | None = None
    timeout: int | Parameter | None = None
    groupings: tuple[GroupingText, ...] = ()
