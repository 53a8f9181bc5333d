"""Query items: a YQL condition after its fields, parameters and words were looked up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

TARGET_HITS = 100
"""What weakAnd finds when it is not told."""


@dataclass(frozen=True, slots=True)
class Everything:
    """``true``."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """``false``, and what no document can match."""


@dataclass(frozen=True, slots=True)
class Empty:
    """Empty text where it is allowed: no condition at all, see `without_empty`."""


@dataclass(frozen=True, slots=True)
class Term:
    """A word, or words in a row, in any of *fields*; numbers are looked up as they are stored."""

    fields: tuple[str, ...]
    words: tuple[str | int | float | bool, ...]
    is_ranked: bool = True
    is_prefix: bool = False


@dataclass(frozen=True, slots=True)
class Equivalent:
    """Terms that count as one."""

    terms: tuple[Term, ...]
    is_ranked: bool = True


@dataclass(frozen=True, slots=True)
class Near:
    """Words within *distance* of each other, in one element of one field."""

    fields: tuple[str, ...]
    words: tuple[str, ...]
    distance: int
    is_ordered: bool
    is_ranked: bool = True


@dataclass(frozen=True, slots=True)
class Membership:
    """``field in (...)``: one of the values is the value, or an element of it."""

    fields: tuple[str, ...]
    values: frozenset[str | int]


@dataclass(frozen=True, slots=True)
class Range:
    """A number between two limits."""

    field: str
    low: float = -math.inf
    high: float = math.inf
    is_low_open: bool = False
    is_high_open: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression that is searched in the values of an attribute."""

    field: str
    expression: str


@dataclass(frozen=True, slots=True)
class Nearest:
    """``nearestNeighbor(field, name)``."""

    field: str
    name: str
    target_hits: int | None
    total_target_hits: int | None
    distance_threshold: float
    is_approximate: bool
    label: str | None
    rest: str = ""
    """Further annotations, as the server prints them."""

    def __str__(self) -> str:
        """The item as error messages show it."""
        threshold = "Infinity" if self.distance_threshold == math.inf else self.distance_threshold
        text = f"field={self.field},queryTensorName={self.name},distanceThreshold={threshold}"
        text += f",approximate={str(self.is_approximate).lower()}"
        if self.target_hits is not None:
            text += f",targetHits={self.target_hits}"
        if self.total_target_hits is not None:
            text += f",totalTargetHits={self.total_target_hits}"
        return f"NEAREST_NEIGHBOR {{{text}{self.rest}}}"


@dataclass(frozen=True, slots=True)
class All:
    """And."""

    children: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Or."""

    children: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class WeakAnd:
    """Or, of which only the best *target_hits* of each node match."""

    children: tuple[Item, ...]
    target_hits: int = TARGET_HITS
    is_total: bool = False


@dataclass(frozen=True, slots=True)
class Without:
    """What matches *wanted* and none of *unwanted*."""

    wanted: Item
    unwanted: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Rank:
    """The first decides what matches, all take part in ranking."""

    children: tuple[Item, ...]


Item: TypeAlias = (
    Everything
    | Nothing
    | Empty
    | Term
    | Equivalent
    | Near
    | Membership
    | Range
    | Pattern
    | Nearest
    | All
    | AnyOf
    | WeakAnd
    | Without
    | Rank
)


def children_of(item: Item) -> tuple[Item, ...]:
    """The items directly within *item* that take part in ranking; what is unwanted does not."""
    if isinstance(item, All | AnyOf | WeakAnd | Rank):
        return item.children
    if isinstance(item, Without):
        return (item.wanted,)
    return ()


def without_empty(item: Item) -> Item | None:
    """Take what is empty out of its composites, as the real server does: the rest decides alone.

    What follows an empty first item of ``rank`` takes its place. None when nothing is left, also of what is
    wanted beside a negation.
    """
    match item:
        case Empty():
            return None
        case All() | AnyOf() | WeakAnd() | Rank():
            children = tuple(_present(item.children))
            return replace(item, children=children) if children else None
        case Without(wanted, unwanted):
            left = without_empty(wanted)
            return None if left is None else Without(left, tuple(_present(unwanted)))
        case _:
            return item


def _present(children: Iterable[Item]) -> Iterator[Item]:
    for child in children:
        found = without_empty(child)
        if found is not None:
            yield found


def ranked_terms(item: Item) -> list[Term | Equivalent]:
    """All terms that count in ranking, in the order they are written."""
    if isinstance(item, Near):
        return [Term(item.fields, (word,)) for word in item.words] if item.is_ranked else []
    if isinstance(item, Term | Equivalent):
        return [item] if item.is_ranked else []
    return [term for child in children_of(item) for term in ranked_terms(child)]


def nearest_items(item: Item) -> list[Nearest]:
    """All nearest-neighbour items that count in ranking."""
    if isinstance(item, Nearest):
        return [item]
    return [found for child in children_of(item) for found in nearest_items(child)]
