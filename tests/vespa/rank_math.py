"""The functions and operators of numbers in rank expressions; none of them raises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping


def _divided(one: float, other: float) -> float:
    if other == 0:
        return math.nan if one == 0 or math.isnan(one) else math.copysign(math.inf, one)
    return one / other


def _sure(function: Callable[..., float]) -> Callable[..., float]:
    """Let *function* give NaN or infinity where Python raises."""

    def guarded(*values: float) -> float:
        try:
            return function(*values)
        except OverflowError:
            return math.inf
        except (ValueError, ZeroDivisionError):
            return math.nan

    return guarded


def _log(value: float) -> float:
    return -math.inf if value == 0 else math.log(value)


def _log10(value: float) -> float:
    return -math.inf if value == 0 else math.log10(value)


def _is_nan(value: float) -> float:
    return float(math.isnan(value))


def _relu(value: float) -> float:
    return max(0.0, value)


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value)) if value > -700 else 0.0


def _square(value: float) -> float:
    return value * value


OPERATORS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divided,
    "%": _sure(math.fmod),
    "^": _sure(math.pow),
    "<": lambda a, b: float(a < b),
    ">": lambda a, b: float(a > b),
    "<=": lambda a, b: float(a <= b),
    ">=": lambda a, b: float(a >= b),
    "==": lambda a, b: float(a == b),
    "!=": lambda a, b: float(a != b),
    "~=": lambda a, b: float(math.isclose(a, b, rel_tol=1e-6)),
    "&&": lambda a, b: float(bool(a) and bool(b)),
    "||": lambda a, b: float(bool(a) or bool(b)),
}
"""Operators of two operands."""
OF_ONE: Mapping[str, Callable[..., float]] = {
    "abs": math.fabs,
    "acos": _sure(math.acos),
    "asin": _sure(math.asin),
    "atan": math.atan,
    "ceil": _sure(math.ceil),
    "cos": _sure(math.cos),
    "exp": _sure(math.exp),
    "fabs": math.fabs,
    "floor": _sure(math.floor),
    "isNan": _is_nan,
    "log": _sure(_log),
    "log10": _sure(_log10),
    "relu": _relu,
    "sigmoid": _sigmoid,
    "sin": _sure(math.sin),
    "sqrt": _sure(math.sqrt),
    "square": _square,
    "tan": _sure(math.tan),
    "tanh": math.tanh,
}
"""Functions of one number."""
OF_TWO: Mapping[str, Callable[..., float]] = {"max": max, "min": min, "pow": _sure(math.pow)}
"""Functions of two numbers."""
