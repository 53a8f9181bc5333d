"""Orders what a query matched: first phase, second phase, global phase, or the attributes of ``order by``.

Hits with the same score are ordered by their global ids.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.vespa.expressions import (
    Binary,
    Call,
    Name,
    Number,
    RankExpression,
    Unary,
    parse_expression,
)
from tests.vespa.model import ArrayOf, RankProfile, TensorType, WeightedSetOf
from tests.vespa.postings import Index
from tests.vespa.query_errors import ILLEGAL_QUERY, INVALID_PARAMETER, QueryError
from tests.vespa.rank_checks import GLOBAL_FUNCTIONS
from tests.vespa.rank_tensors import RankValue
from tests.vespa.scoring import Score, Scorer
from tests.vespa.yql_tree import Order

RERANK_COUNT = 100
FUSION_K = 60.0
RANK_ORDERS = frozenset({"[rank]", "[relevance]"})


@dataclass(slots=True)
class Ranking:
    """Orders the matches of one schema; *node_of* is None when one node has all documents."""

    profile: RankProfile
    scorer: Scorer
    index: Index
    node_of: Callable[[int], int] | None = None
    global_rerank_count: int | None = None
    first: dict[int, float] = field(default_factory=dict[int, float])
    """The scores of the first phase."""
    _features: dict[str, Score] = field(default_factory=dict[str, Score])

    def best(self, matched: Iterable[int], count: int) -> list[tuple[int, float]]:
        """The best *count* matches and their scores, best first."""
        score = self.scorer.number(_written(self.profile.first_phase))
        self.first = {number: score(number) for number in matched}
        self.scorer.scores["firstPhase"] = self.first
        wanted = count
        if self.profile.second_phase is not None:
            wanted = max(wanted, len(self.first))
        if self.profile.global_phase is not None:
            wanted = max(wanted, self._global_count())
        hits = self._top(self.first, wanted)
        if self.profile.second_phase is not None:
            hits = self._second(hits)
        if self.profile.global_phase is not None and count:
            hits = self._global(hits)
        return hits[:count]

    def features(self, texts: Sequence[str], number: int) -> dict[str, RankValue]:
        """The values of features, by their texts."""
        for text in texts:
            if text not in self._features:
                self._features[text] = self.scorer.score(parse_expression(text))
        return {text: self._features[text](number) for text in texts}

    def _top(self, scores: Mapping[int, float], count: int) -> list[tuple[int, float]]:
        gids = self.index.gids
        found = heapq.nsmallest(count, ((-score, gids[n], n) for n, score in scores.items()))
        return [(number, -score) for score, _, number in found]

    def _second(self, hits: list[tuple[int, float]]) -> list[tuple[int, float]]:
        count = self.profile.second_phase_rerank_count
        chosen = self._best_of_nodes(hits, RERANK_COUNT if count is None else count)
        score = self.scorer.number(_written(self.profile.second_phase))
        scores = {number: score(number) for number, _ in hits if number in chosen}
        ordered = self._below(scores, [each for each in hits if each[0] not in chosen])
        self.scorer.scores["secondPhase"] = dict(ordered)
        return ordered

    def _best_of_nodes(self, hits: list[tuple[int, float]], count: int) -> set[int]:
        if self.node_of is None:
            return {number for number, _ in hits[:count]}
        chosen: set[int] = set()
        taken: dict[int, int] = {}
        for number, _ in hits:
            node = self.node_of(number)
            taken[node] = taken.get(node, 0) + 1
            if taken[node] <= count:
                chosen.add(number)
        return chosen

    def _below(
        self, scores: Mapping[int, float], rest: list[tuple[int, float]]
    ) -> list[tuple[int, float]]:
        """Put *rest* below what was scored anew, moving its scores down as far as that needs."""
        ordered = self._top(scores, len(scores))
        if ordered and rest and rest[0][1] > ordered[-1][1]:
            shift = ordered[-1][1] - rest[0][1]
            rest = [(number, score + shift) for number, score in rest]
        return ordered + rest

    def _global_count(self) -> int:
        for count in (self.global_rerank_count, self.profile.global_phase_rerank_count):
            if count is not None:
                return count
        return RERANK_COUNT

    def _global(self, hits: list[tuple[int, float]]) -> list[tuple[int, float]]:
        count = self._global_count()
        chosen = [number for number, _ in hits[:count]]
        self.scorer.scores["relevanceScore"] = dict(hits)
        score = self.scorer.number(self._normalized(_written(self.profile.global_phase), chosen))
        return self._below({number: score(number) for number in chosen}, hits[count:])

    def _normalized(self, expression: RankExpression, chosen: Sequence[int]) -> RankExpression:
        """Replace the functions of the global phase by names, and leave their values with the scorer."""
        match expression:
            case Call(name, arguments) if name in GLOBAL_FUNCTIONS:
                key = str(expression)
                self.scorer.scores[key] = self._fused(name, arguments, chosen)
                return Name(key)
            case Call(name, arguments):
                return Call(name, tuple(self._normalized(each, chosen) for each in arguments))
            case Unary(operator, operand):
                return Unary(operator, self._normalized(operand, chosen))
            case Binary(operator, left, right):
                one, other = self._normalized(left, chosen), self._normalized(right, chosen)
                return Binary(operator, one, other)
            case _:
                return expression

    def _fused(
        self, name: str, arguments: Sequence[RankExpression], chosen: Sequence[int]
    ) -> dict[int, float]:
        if name == "normalize_linear":
            return normalize_linear(self._values(arguments[0], chosen))
        k = FUSION_K
        if name == "reciprocal_rank":
            if len(arguments) == 2 and isinstance(arguments[1], Number):
                k = arguments[1].value
            arguments = arguments[:1]
        ranks = [reciprocal_ranks(self._values(each, chosen), k) for each in arguments]
        return {number: sum(each[number] for each in ranks) for number in chosen}

    def _values(self, feature: RankExpression, chosen: Sequence[int]) -> dict[int, float]:
        score = self.scorer.number(feature)
        return {number: score(number) for number in chosen}


def _written(expression: RankExpression | None) -> RankExpression:
    """The expression of a phase that is there."""
    assert expression is not None
    return expression


def normalize_linear(values: Mapping[int, float]) -> dict[int, float]:
    """Bring the values to 0 to 1; all are 0 when they are the same, infinite ones are left out of account."""
    finite = [value for value in values.values() if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    if high <= low:
        return dict.fromkeys(values, 0.0)
    return {number: (value - low) / (high - low) for number, value in values.items()}


def reciprocal_ranks(values: Mapping[int, float], k: float) -> dict[int, float]:
    """1 / (k + rank), where the highest value has the rank 1; the same values are ranked as they come."""
    ordered = sorted(values, key=lambda number: -values[number])
    return {number: 1.0 / (k + 1.0 + at) for at, number in enumerate(ordered)}


def check_order(profile: RankProfile, index: Index, order: Sequence[Order]) -> None:
    """Refuse what cannot be sorted by.

    Raises:
        QueryError: the profile has a global phase, or a field is no single-valued attribute.
    """
    if profile.global_phase is not None and not _is_by_rank(order):
        raise QueryError(ILLEGAL_QUERY, "Sorting is not supported with global phase")
    for each in order:
        if each.field in RANK_ORDERS:
            continue
        declared = index.schema.fields.get(each.field)
        is_single = declared is not None and not isinstance(
            declared.type, ArrayOf | WeightedSetOf | TensorType
        )
        if declared is None or not declared.is_attribute or not is_single:
            raise QueryError(
                INVALID_PARAMETER,
                f"Cannot sort by '{each.field}': it is no single-valued attribute",
            )


def _is_by_rank(order: Sequence[Order]) -> bool:
    return all(each.field in RANK_ORDERS and each.is_descending for each in order)


def sorted_by(
    index: Index, order: Sequence[Order], scores: Mapping[int, float]
) -> list[tuple[int, float]]:
    """Sort the matches in *scores*; without the rank in the order all have the score 0."""
    has_rank = any(each.field in RANK_ORDERS for each in order)
    numbers = sorted(scores, key=lambda number: index.gids[number])
    for each in reversed(order):
        numbers.sort(key=sort_key(index, each.field, scores), reverse=each.is_descending)
    return [(number, scores[number] if has_rank else 0.0) for number in numbers]


def sort_key(
    index: Index, name: str, scores: Mapping[int, float]
) -> Callable[[int], tuple[float, str]]:
    """What *name* of an order sorts by; a missing number is the lowest, a missing text is empty."""
    if name in RANK_ORDERS:
        return lambda number: (scores[number], "")

    def key(number: int) -> tuple[float, str]:
        value = index.value(number, name)
        if value is None:
            return -math.inf, ""
        return (0.0, value.lower()) if isinstance(value, str) else (value, "")

    return key
