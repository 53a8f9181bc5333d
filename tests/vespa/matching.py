"""Finds the documents that a query item matches.

Conditions are evaluated on sets of document numbers. What limits its own hits (weakAnd, nearestNeighbor) comes
last in a conjunction and sees only what the rest of it leaves, as filters work in the real server. weakAnd keeps
exactly its target of best documents on each node, where the real one may keep more; nearestNeighbor is exact.
"""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Callable, Iterable, Mapping

from tests.vespa.distances import Distance
from tests.vespa.items import (
    All,
    AnyOf,
    Empty,
    Equivalent,
    Everything,
    Item,
    Membership,
    Near,
    Nearest,
    Nothing,
    Pattern,
    Range,
    Rank,
    Term,
    WeakAnd,
    Without,
    children_of,
    ranked_terms,
)
from tests.vespa.model import Tensor
from tests.vespa.postings import Index
from tests.vespa.searchable import elements


def occurrences(index: Index, item: Term | Equivalent, field: str) -> Mapping[int, int]:
    """How often a term occurs in *field* of each document."""
    if isinstance(item, Equivalent):
        counts: dict[int, int] = {}
        for term in item.terms:
            for number, count in occurrences(index, term, field).items():
                counts[number] = counts.get(number, 0) + count
        return counts
    if field not in item.fields:
        return {}
    if item.is_prefix and isinstance(item.words[0], str):
        return index.documents_with_prefix(field, item.words[0])
    return index.documents_with_row(field, item.words)


def inverse_frequency(index: Index, matching: int) -> float:
    """The idf of bm25, over the live documents."""
    return math.log(1 + (len(index.live) - matching + 0.5) / (matching + 0.5))


def fields_of_term(item: Term | Equivalent) -> tuple[str, ...]:
    """The fields in which a term is looked for."""
    if isinstance(item, Term):
        return item.fields
    return tuple(dict.fromkeys(name for term in item.terms for name in term.fields))


class Matcher:
    """Matches for one request; *node_of* is None when one node has all documents."""

    def __init__(
        self,
        index: Index,
        tensors: Mapping[str, Tensor],
        node_of: Callable[[int], int] | None = None,
        nodes: int = 1,
    ) -> None:
        self.index = index
        self.nearest: dict[Nearest, dict[int, float]] = {}
        """The distances of the documents that each nearest-neighbour item matched."""
        self._tensors = tensors
        self._node_of = node_of
        self._nodes = nodes

    def match(self, item: Item, within: set[int]) -> set[int]:
        """The documents of *within* that *item* matches."""
        match item:
            case Everything():
                return within
            case Nothing() | Empty():
                return set()
            case Term() | Equivalent():
                maps = [occurrences(self.index, item, name) for name in fields_of_term(item)]
                return _union(maps, within)
            case Near():
                return self._near(item, within)
            case Membership():
                maps = [
                    self.index.documents_with(name, value)
                    for name in item.fields
                    for value in item.values
                ]
                return _union(maps, within)
            case Range():
                return {
                    number
                    for number in within
                    if any(
                        _is_between(item, each)
                        for each in elements(self.index.value(number, item.field))
                    )
                }
            case Pattern():
                return self._pattern(item, within)
            case Nearest():
                return self._nearest(item, within)
            case _:
                return self._composite(item, within)

    def _composite(
        self, item: All | AnyOf | WeakAnd | Without | Rank, within: set[int]
    ) -> set[int]:
        match item:
            case All(children):
                for child in sorted(children, key=_is_limited):
                    within = self.match(child, within)
                return within
            case AnyOf(children):
                return set[int]().union(*(self.match(child, within) for child in children))
            case WeakAnd(children):
                found = set[int]().union(*(self.match(child, within) for child in children))
                return self._best(item, found)
            case Without(wanted, unwanted):
                for child in unwanted:
                    within = within - self.match(child, within)
                return self.match(wanted, within)
            case Rank(children):
                found = self.match(children[0], within)
                for child in children[1:]:
                    self.match(child, found)
                return found

    def _near(self, item: Near, within: set[int]) -> set[int]:
        maps = [
            self.index.documents_near(name, item.words, item.distance, is_ordered=item.is_ordered)
            for name in item.fields
        ]
        return _union(maps, within)

    def _pattern(self, item: Pattern, within: set[int]) -> set[int]:
        field = self.index.schema.fields[item.field]
        flags = 0 if field.is_cased else re.IGNORECASE
        expression = re.compile(item.expression, flags)
        maps = [
            self.index.documents_with(item.field, value)
            for value in self.index.distinct(item.field)
            if expression.search(str(value))
        ]
        return _union(maps, within)

    def _nearest(self, item: Nearest, within: set[int]) -> set[int]:
        field = self.index.schema.fields[item.field]
        distance = Distance(field.distance_metric, self._tensors[item.name])
        found: list[tuple[float, int]] = []
        for number in within:
            tensor = self.index.value(number, item.field)
            closest = distance.closest(tensor) if tensor is not None else None
            if closest is not None and closest[0] <= item.distance_threshold:
                found.append((closest[0], number))
        target = item.target_hits or self._share(item.total_target_hits or 0)
        kept = self._smallest(found, target)
        self.nearest[item] = {number: each for each, number in kept}
        return set(self.nearest[item])

    def _best(self, item: WeakAnd, found: set[int]) -> set[int]:
        """The best of *found* by the weights of their words."""
        target = self._share(item.target_hits) if item.is_total else item.target_hits
        if len(found) <= target:
            return found
        scores = dict.fromkeys(found, 0.0)
        for term in ranked_terms(item):
            for name in fields_of_term(term):
                counts = occurrences(self.index, term, name)
                weight = inverse_frequency(self.index, len(counts))
                for number in found.intersection(counts):
                    count = counts[number]
                    scores[number] += weight * count / (count + 1.2)
        ordered = [(-score, number) for number, score in scores.items()]
        return {number for _, number in self._smallest(ordered, target)}

    def _share(self, total: int) -> int:
        return -(-total // self._nodes)

    def _smallest(self, found: Iterable[tuple[float, int]], target: int) -> list[tuple[float, int]]:
        """The *target* smallest of each node."""
        if self._node_of is None:
            return heapq.nsmallest(target, found)
        by_node: dict[int, list[tuple[float, int]]] = {}
        for each in found:
            by_node.setdefault(self._node_of(each[1]), []).append(each)
        return [each for some in by_node.values() for each in heapq.nsmallest(target, some)]


def _union(maps: list[Mapping[int, int]], within: set[int]) -> set[int]:
    found: set[int] = set()
    for each in maps:
        if len(each) <= len(within):
            found.update(number for number in each if number in within)
        else:
            found.update(number for number in within if number in each)
    return found


def _is_between(item: Range, value: float) -> bool:
    if value < item.low or value > item.high:
        return False
    return not (
        (item.is_low_open and value == item.low) or (item.is_high_open and value == item.high)
    )


def _is_limited(item: Item) -> bool:
    if isinstance(item, WeakAnd | Nearest):
        return True
    return any(_is_limited(child) for child in children_of(item))
