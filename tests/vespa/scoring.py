"""Turns rank expressions into functions of a document's number.

``nativeRank`` is a stand-in: the weights of the words of the query that occur, ``idf * n / (n + 1.2)``, added up
to s, and s / (1 + s) of it. An order that comes from it is no evidence about Vespa.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from tests.vespa.distances import Distance, closeness_of
from tests.vespa.expressions import Binary, Call, Name, Number, RankExpression, Unary, replaced
from tests.vespa.inputs import empty_tensor
from tests.vespa.items import Equivalent, Item, Nearest, Term, nearest_items, ranked_terms
from tests.vespa.matching import Matcher, fields_of_term, inverse_frequency, occurrences
from tests.vespa.model import RankProfile, Tensor, TensorType
from tests.vespa.postings import count_row
from tests.vespa.rank_math import OF_ONE, OF_TWO, OPERATORS
from tests.vespa.rank_tensors import RankValue, joined, mapped_over, reduced

K1, B = 1.2, 0.75
Score: TypeAlias = Callable[[int], RankValue]
_FARTHEST = sys.float_info.max


class Scorer:
    """Makes scores for one request and one schema.

    *scores* holds the features that earlier phases leave, such as ``firstPhase``. With *computes_unmatched* the
    distance of a document is computed although its nearest-neighbour item did not match it, as current
    versions do; without, such a document has the closeness 0.
    """

    def __init__(
        self,
        profile: RankProfile,
        item: Item,
        matcher: Matcher,
        inputs: Mapping[str, RankValue],
        *,
        computes_unmatched: bool = True,
    ) -> None:
        self._profile = profile
        self._item = item
        self._matcher = matcher
        self._index = matcher.index
        self._inputs = inputs
        self._computes_unmatched = computes_unmatched
        self.scores: dict[str, Mapping[int, float]] = {}
        self._functions: dict[str, Score] = {}

    def score(self, expression: RankExpression) -> Score:
        """The function that computes *expression*."""
        match expression:
            case Number(value):
                return lambda _: value
            case Unary(operator, operand):
                return self._unary(operator, self.score(operand))
            case Binary(operator, left, right):
                return self._binary(operator, left, right)
            case Name(name):
                return self._name(name)
            case Call():
                return self._call(expression)

    def number(self, expression: RankExpression) -> Callable[[int], float]:
        """The same for an expression that gives a number; NaN becomes minus infinity."""
        score = self.score(expression)

        def checked(number: int) -> float:
            value = score(number)
            if isinstance(value, Tensor):  # without dimensions, which the checks make sure of
                value = value.cells[()][0]
            return -math.inf if math.isnan(value) else value

        return checked

    def _unary(self, operator: str, operand: Score) -> Score:
        if operator == "-":
            return lambda number: mapped_over(operand(number), lambda value: -value)
        return lambda number: mapped_over(operand(number), lambda value: float(not value))

    def _binary(self, operator: str, left: RankExpression, right: RankExpression) -> Score:
        function, one, other = OPERATORS[operator], self.score(left), self.score(right)
        return lambda number: joined(one(number), other(number), function)

    def _name(self, name: str) -> Score:
        if name in self._profile.functions:
            if name not in self._functions:
                self._functions[name] = self._function(name, ())
            return self._functions[name]
        if name in self._profile.constants:
            constant = self._profile.constants[name]
            return lambda _: constant
        if name == "nativeRank":
            return self._native_rank(())
        scores = self.scores[name]
        return lambda number: scores[number]

    def _function(self, name: str, arguments: tuple[RankExpression, ...]) -> Score:
        function = self._profile.functions[name]
        values = dict(zip(function.parameters, arguments, strict=True))
        return self.score(replaced(function.expression, values))

    def _call(self, call: Call) -> Score:
        name, arguments = call.name, call.arguments
        if name in self._profile.functions:
            return self._function(name, arguments) if arguments else self._name(name)
        if name in OF_ONE or name in OF_TWO:
            return self._math(name, [self.score(each) for each in arguments])
        match name, [str(each) for each in arguments]:
            case "if", _:
                condition, one, other = (self.score(each) for each in arguments[:3])
                return lambda number: one(number) if condition(number) else other(number)
            case "reduce", [_, aggregator, *dimensions]:
                inner = self.score(arguments[0])
                return lambda number: reduced(inner(number), aggregator, dimensions)
            case "sum", [_, *dimensions]:
                inner = self.score(arguments[0])
                return lambda number: reduced(inner(number), "sum", dimensions)
            case "elementwise", [_, dimension, *cell]:
                inner_call = arguments[0]
                assert isinstance(inner_call, Call)
                field = str(inner_call.arguments[0])
                return self._elementwise(field, dimension, (cell or ["double"])[0])
            case _:
                return self._feature(call)

    def _math(self, name: str, scores: list[Score]) -> Score:
        if name in OF_ONE:
            of_one, only = OF_ONE[name], scores[0]
            return lambda number: mapped_over(only(number), of_one)
        of_two, (one, other) = OF_TWO[name], scores
        return lambda number: joined(one(number), other(number), of_two)

    def _feature(self, call: Call) -> Score:
        match call.name, [str(each) for each in call.arguments]:
            case "bm25", [field]:
                return self._bm25(field)
            case "closeness", [kind, name]:
                return self._closeness(self._nearest(kind, name))
            case "distance", [kind, name]:
                return self._distance(self._nearest(kind, name))
            case "closest", [field, *label]:
                return self._closest(field, label)
            case "attribute", [field]:
                return self._attribute(field)
            case "query", [name]:
                return self._query(name)
            case "constant", [name]:
                constant = self._profile.constants[name]
                return lambda _: constant
            case "matches", [field]:
                found = [counts for counts, _ in self._weights(field)]
                return lambda number: float(any(number in counts for counts in found))
            case "nativeRank", fields:
                return self._native_rank(fields)
            case _:
                raise AssertionError(f"{call} was not checked")

    # Words

    def _weights(self, field: str) -> list[tuple[Mapping[int, int], float]]:
        """Where each term of the query occurs in *field*, and its weight."""
        found: list[tuple[Mapping[int, int], float]] = []
        for term in ranked_terms(self._item):
            if field in fields_of_term(term):
                counts = occurrences(self._index, term, field)
                found.append((counts, inverse_frequency(self._index, len(counts))))
        return found

    def _bm25(self, field: str) -> Score:
        average = self._index.average_length(field)
        weights = [(counts, idf * (K1 + 1)) for counts, idf in self._weights(field)]
        length = self._index.length

        def bm25(number: int) -> float:
            found, norm = 0.0, 0.0
            for counts, weight in weights:
                count = counts.get(number)
                if count is not None:
                    norm = norm or K1 * (1 - B + B * length(number, field) / average)
                    found += weight * count / (count + norm)
            return found

        return bm25

    def _elementwise(self, field: str, dimension: str, cell: str) -> Score:
        kind = TensorType(cell, (dimension,), ())
        average = self._index.average_element_length(field)
        terms = [
            (term, inverse_frequency(self._index, len(occurrences(self._index, term, field))))
            for term in ranked_terms(self._item)
            if field in fields_of_term(term)
        ]

        def scores(number: int) -> Tensor:
            cells: dict[tuple[str, ...], tuple[float, ...]] = {}
            for at, text in enumerate(self._index.texts(number, field)):
                norm = K1 * (1 - B + B * len(text) / average)
                counts = [(_count(term, field, text), idf) for term, idf in terms]
                found = sum(idf * (K1 + 1) * count / (count + norm) for count, idf in counts)
                if found:
                    cells[str(at),] = (found,)
            return Tensor(kind, cells)

        return scores

    def _native_rank(self, fields: Iterable[str]) -> Score:
        names = list(fields) or list(self._index.schema.fields)
        weights = [each for name in names for each in self._weights(name)]

        def native(number: int) -> float:
            found = 0.0
            for counts, idf in weights:
                count = counts.get(number, 0)
                found += idf * count / (count + K1)
            return found / (1 + found)

        return native

    # Vectors

    def _nearest(self, kind: str, name: str) -> list[Nearest]:
        return [
            each
            for each in nearest_items(self._item)
            if (each.field if kind == "field" else each.label) == name
        ]

    def _distance_of(self, item: Nearest) -> Callable[[int], float | None]:
        matched = self._matcher.nearest.get(item, {})
        field = self._index.schema.fields[item.field]
        distance = Distance(field.distance_metric, self._tensor(item.name))

        def found(number: int) -> float | None:
            known = matched.get(number)
            if known is not None or not self._computes_unmatched:
                return known
            tensor = self._index.value(number, item.field)
            closest = distance.closest(tensor) if tensor is not None else None
            return None if closest is None else closest[0]

        return found

    def _tensor(self, name: str) -> Tensor:
        value = self._inputs[name]
        assert isinstance(value, Tensor)
        return value

    def _closeness(self, items: list[Nearest]) -> Score:
        fields = self._index.schema.fields
        metrics = [fields[item.field].distance_metric for item in items]
        distances = [self._distance_of(item) for item in items]
        least = -_FARTHEST if "dotproduct" in metrics and self._computes_unmatched else 0.0

        def closeness(number: int) -> float:
            found = [
                closeness_of(metric, distance)
                for metric, of in zip(metrics, distances, strict=True)
                if (distance := of(number)) is not None
            ]
            return max(found, default=least)

        return closeness

    def _distance(self, items: list[Nearest]) -> Score:
        distances = [self._distance_of(item) for item in items]

        def nearest(number: int) -> float:
            found = [distance for of in distances if (distance := of(number)) is not None]
            return min(found, default=_FARTHEST)

        return nearest

    def _closest(self, field: str, label: list[str]) -> Score:
        kind = self._index.schema.fields[field].type
        assert isinstance(kind, TensorType)
        result = TensorType(kind.cell, kind.mapped, ())
        metric = self._index.schema.fields[field].distance_metric
        distances = [
            Distance(metric, self._tensor(item.name))
            for item in self._nearest("field", field)
            if not label or item.label == label[0]
        ]

        def closest(number: int) -> Tensor:
            tensor = self._index.value(number, field)
            if tensor is None:
                return Tensor(result, {})
            found = [best for each in distances if (best := each.closest(tensor)) is not None]
            return Tensor(result, {min(found)[1]: (1.0,)} if found else {})

        return closest

    # Other values

    def _attribute(self, field: str) -> Score:
        kind = self._index.schema.fields[field].type
        missing: RankValue = empty_tensor(kind) if isinstance(kind, TensorType) else math.nan

        def attribute(number: int) -> RankValue:
            value = self._index.value(number, field)
            if value is None:
                return missing
            return value if isinstance(value, Tensor) else float(value)

        return attribute

    def _query(self, name: str) -> Score:
        kind = self._profile.inputs.get(name)
        missing: RankValue = empty_tensor(kind) if isinstance(kind, TensorType) else 0.0
        value = self._inputs.get(name, missing)
        return lambda _: value


def _count(item: Term | Equivalent, field: str, text: list[str]) -> int:
    """How often a term occurs in one element of *field*."""
    if isinstance(item, Equivalent):
        return sum(_count(term, field, text) for term in item.terms)
    return count_row(text, item.words) if field in item.fields else 0
