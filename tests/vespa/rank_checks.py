"""Checks the rank profiles of a schema: every function, feature, field and dimension in them must exist.

It is stricter than the real server in two points: ``bm25`` needs ``enable-bm25``, and a query tensor that is
used needs a declared input.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.vespa.expressions import (
    Binary,
    Call,
    ExpressionError,
    Name,
    Number,
    RankExpression,
    Unary,
    parse_expression,
    replaced,
)
from tests.vespa.model import Field, RankProfile, Schema, TensorType
from tests.vespa.rank_math import OF_ONE, OF_TWO
from tests.vespa.rank_profiles import resolve_profile
from tests.vespa.rank_tensors import AGGREGATORS
from tests.vespa.searchable import NUMBERS, Kind, kind_of

GLOBAL_FUNCTIONS: Mapping[str, tuple[int, int]] = {
    "normalize_linear": (1, 1),
    "reciprocal_rank": (1, 2),
    "reciprocal_rank_fusion": (2, 20),
}
"""Functions of the global phase, with the least and the most arguments."""
PHASES: Mapping[str, tuple[str, ...]] = {
    "firstPhase": ("second", "global", "feature", "function"),
    "secondPhase": ("global", "function"),
    "relevanceScore": ("global", "function"),
}
"""Features that earlier phases leave, and where they can be used."""
_Dimensions = frozenset[str]
_SCALAR: _Dimensions = frozenset()


def check_rank_profiles(schema: Schema) -> None:
    """Check all profiles of *schema*.

    Raises:
        ExpressionError: something in them is not there, or is of the wrong type.
    """
    for name in schema.rank_profiles:
        profile = resolve_profile(schema, name)
        assert profile is not None
        try:
            _check(schema, profile)
        except ExpressionError as error:
            raise ExpressionError(
                f"In schema '{schema.name}', rank-profile '{name}': {error}"
            ) from error


def _check(schema: Schema, profile: RankProfile) -> None:
    for phase in ("first", "second", "global"):
        expression = getattr(profile, f"{phase}_phase")
        if expression is None:
            continue
        if _Checker(schema, profile, phase).dimensions(expression):
            raise ExpressionError(
                f"The {phase}-phase expression must produce a double: {expression}"
            )
    for function in profile.functions.values():
        known: dict[str, RankExpression] = {each: Number(1.0) for each in function.parameters}
        _Checker(schema, profile, "function").dimensions(replaced(function.expression, known))
    for text in (*(profile.match_features or ()), *(profile.summary_features or ())):
        _Checker(schema, profile, "feature").dimensions(parse_expression(text))


class _Checker:
    """Finds the dimensions of expressions; *phase* is where they stand."""

    def __init__(self, schema: Schema, profile: RankProfile, phase: str) -> None:
        self._schema = schema
        self._profile = profile
        self._phase = phase
        self._open: list[str] = []

    def dimensions(self, expression: RankExpression) -> _Dimensions:
        match expression:
            case Number():
                return _SCALAR
            case Unary(_, operand):
                return self.dimensions(operand)
            case Binary(_, left, right):
                return self.dimensions(left) | self.dimensions(right)
            case Name(name):
                return self._name(name)
            case Call():
                return self._call(expression)

    def _name(self, name: str) -> _Dimensions:
        if name in self._profile.functions:
            return self._function(name, ())
        if name in self._profile.constants or name == "nativeRank":
            return _SCALAR
        if name in PHASES and self._phase in PHASES[name]:
            return _SCALAR
        raise ExpressionError(f"rank feature '{name}' does not exist")

    def _function(self, name: str, arguments: tuple[RankExpression, ...]) -> _Dimensions:
        function = self._profile.functions[name]
        if len(arguments) != len(function.parameters):
            raise ExpressionError(
                f"function '{name}' takes {len(function.parameters)} arguments, not {len(arguments)}"
            )
        if name in self._open:
            raise ExpressionError(f"function '{name}' calls itself")
        self._open.append(name)
        values = dict(zip(function.parameters, arguments, strict=True))
        found = self.dimensions(replaced(function.expression, values))
        self._open.pop()
        return found

    def _call(self, call: Call) -> _Dimensions:
        name, arguments = call.name, call.arguments
        if name in GLOBAL_FUNCTIONS:
            return self._global(call)
        if name in self._profile.functions:
            return self._function(name, arguments)
        if name in OF_ONE or name in OF_TWO:
            wanted = 1 if name in OF_ONE else 2
            _count(call, wanted, wanted)
            return frozenset[str]().union(*(self.dimensions(each) for each in arguments))
        if name == "if":
            _count(call, 3, 4)
            if self.dimensions(arguments[0]):
                raise ExpressionError(f"the condition of '{call}' is a tensor")
            return self.dimensions(arguments[1]) | self.dimensions(arguments[2])
        if name in ("reduce", "sum"):
            return self._reduce(call)
        if name == "elementwise":
            return self._elementwise(call)
        return self._feature(call)

    def _global(self, call: Call) -> _Dimensions:
        if self._phase != "global" or self._open:
            raise ExpressionError(f"'{call.name}' can only be used in the global-phase")
        _count(call, *GLOBAL_FUNCTIONS[call.name])
        features = call.arguments
        if call.name == "reciprocal_rank":
            features = call.arguments[:1]
            if not all(isinstance(each, Number) for each in call.arguments[1:]):
                raise ExpressionError(f"the second argument of '{call}' must be a number")
        for each in features:
            if not isinstance(each, Name | Call) or getattr(each, "name", "") in GLOBAL_FUNCTIONS:
                raise ExpressionError(f"'{each}' in '{call}' must be a feature or a function")
            if self.dimensions(each):
                raise ExpressionError(f"'{each}' in '{call}' must be a number")
        return _SCALAR

    def _reduce(self, call: Call) -> _Dimensions:
        _count(call, 2 if call.name == "reduce" else 1, 10)
        found = self.dimensions(call.arguments[0])
        names = [str(each) for each in call.arguments[1:]]
        if call.name == "reduce" and names.pop(0) not in AGGREGATORS:
            raise ExpressionError(f"'{call.arguments[1]}' is no aggregator of this server")
        if not set(names) <= found:
            raise ExpressionError(f"'{call}' reduces dimensions that are not there")
        return found - set(names) if names else _SCALAR

    def _elementwise(self, call: Call) -> _Dimensions:
        _count(call, 2, 3)
        inner = call.arguments[0]
        if not (isinstance(inner, Call) and inner.name == "bm25"):
            raise ExpressionError(f"'{call}' must be made of bm25")
        self._feature(inner)
        if len(call.arguments) == 3 and str(call.arguments[2]) not in (
            "float",
            "double",
            "bfloat16",
        ):
            raise ExpressionError(f"'{call.arguments[2]}' in '{call}' is no cell type")
        return frozenset({str(call.arguments[1])})

    def _feature(self, call: Call) -> _Dimensions:
        name, arguments = call.name, [str(each) for each in call.arguments]
        match name, arguments:
            case "bm25", [field]:
                declared = self._field(call, field)
                if kind_of(declared) is not Kind.TEXT or not declared.is_bm25:
                    raise ExpressionError(f"'{call}' needs an index of text with enable-bm25")
                return _SCALAR
            case (("closeness" | "distance"), ["field", field]):
                self._vectors(call, field)
                return _SCALAR
            case (("closeness" | "distance"), ["label", _]):
                return _SCALAR
            case "closest", [field] | [field, _]:
                mapped = self._vectors(call, field).mapped
                if not mapped:
                    raise ExpressionError(f"'{call}' needs a mapped dimension")
                return frozenset(mapped)
            case "attribute", [field]:
                return self._attribute(call, field)
            case "query", [key]:
                kind = self._profile.inputs.get(key)
                return _all(kind) if isinstance(kind, TensorType) else _SCALAR
            case "constant", [key] if key in self._profile.constants:
                return _SCALAR
            case "matches", [field]:
                self._field(call, field)
                return _SCALAR
            case "nativeRank", fields:
                for field in fields:
                    self._field(call, field)
                return _SCALAR
            case _:
                raise ExpressionError(f"rank feature '{call}' does not exist")

    def _field(self, call: Call, name: str) -> Field:
        field = self._schema.fields.get(name)
        if field is None:
            raise ExpressionError(f"'{call}': field '{name}' does not exist")
        return field

    def _vectors(self, call: Call, name: str) -> TensorType:
        field = self._field(call, name)
        if not isinstance(field.type, TensorType) or not field.is_attribute:
            raise ExpressionError(f"'{call}': field '{name}' is no attribute tensor")
        if len(field.type.indexed) != 1 or len(field.type.mapped) > 1:
            raise ExpressionError(f"'{call}': {field.type} is no vector")
        return field.type

    def _attribute(self, call: Call, name: str) -> _Dimensions:
        field = self._field(call, name)
        if not field.is_attribute:
            raise ExpressionError(f"'{call}': field '{name}' is no attribute")
        if isinstance(field.type, TensorType):
            return _all(field.type)
        if field.type not in NUMBERS and field.type != "bool":
            raise ExpressionError(f"'{call}': field '{name}' is no single number")
        return _SCALAR


def _all(kind: TensorType) -> _Dimensions:
    return frozenset({*kind.mapped, *(name for name, _ in kind.indexed)})


def _count(call: Call, least: int, most: int) -> None:
    if not least <= len(call.arguments) <= most:
        raise ExpressionError(f"'{call}' has the wrong number of arguments")
