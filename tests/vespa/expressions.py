"""Rank expressions: their parser and their tree.

The parser refuses what is no expression. Whether the functions, features and fields in it exist is known only
with the rank profile and the schema: see `rank_checks.check_rank_profiles`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

DEPTH_MAX = 60
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_$][\w$]*)"
    r"|(?P<sign><=|>=|==|!=|~=|&&|\|\||[-+*/%^<>!(),.]))"
)
_LEVELS = (("||",), ("&&",), ("==", "!=", "<=", ">=", "<", ">"), ("+", "-"), ("*", "/", "%"))


class ExpressionError(ValueError):
    """A rank expression is wrong, or uses what is not there."""


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: float

    def __str__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, slots=True)
class Name:
    """A name without arguments: a function of the profile, a constant, a feature, a dimension."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Call:
    """A name with arguments: a function, a feature."""

    name: str
    arguments: tuple[RankExpression, ...]

    def __str__(self) -> str:
        return f"{self.name}({','.join(map(str, self.arguments))})"


@dataclass(frozen=True, slots=True)
class Unary:
    """``-x`` or ``!x``."""

    operator: str
    operand: RankExpression

    def __str__(self) -> str:
        return f"{self.operator}{self.operand}"


@dataclass(frozen=True, slots=True)
class Binary:
    """``x <op> y``."""

    operator: str
    left: RankExpression
    right: RankExpression

    def __str__(self) -> str:
        return f"({self.left} {self.operator} {self.right})"


RankExpression: TypeAlias = Number | Name | Call | Unary | Binary


def parse_expression(text: str) -> RankExpression:
    """Parse a rank expression.

    Raises:
        ExpressionError: it is none.
    """
    parser = _Parser(text)
    expression = parser.expression()
    parser.end()
    return expression


def walk(expression: RankExpression) -> Iterator[RankExpression]:
    """All parts of an expression, itself first."""
    yield expression
    match expression:
        case Call(_, arguments):
            parts: tuple[RankExpression, ...] = arguments
        case Unary(_, operand):
            parts = (operand,)
        case Binary(_, left, right):
            parts = (left, right)
        case _:
            parts = ()
    for part in parts:
        yield from walk(part)


def replaced(expression: RankExpression, values: dict[str, RankExpression]) -> RankExpression:
    """Put *values* in the place of names."""
    match expression:
        case Name(name):
            return values.get(name, expression)
        case Call(name, arguments):
            return Call(name, tuple(replaced(each, values) for each in arguments))
        case Unary(operator, operand):
            return Unary(operator, replaced(operand, values))
        case Binary(operator, left, right):
            return Binary(operator, replaced(left, values), replaced(right, values))
        case _:
            return expression


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0
        self._tokens: list[tuple[str, str]] = []
        at, stripped = 0, text.rstrip()
        while at < len(stripped):
            match = _TOKEN.match(stripped, at)
            if match is None:
                raise ExpressionError(f"Lexical error at '{stripped[at : at + 10]}'")
            self._tokens.append((str(match.lastgroup), match[match.lastgroup or 0]))
            at = match.end()
        self._tokens.append(("end", ""))
        self._at = 0

    def end(self) -> None:
        if self._tokens[self._at][0] != "end":
            raise self._unexpected()

    def expression(self) -> RankExpression:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise ExpressionError("The expression is nested too deeply")
        found = self._level(0)
        self._depth -= 1
        return found

    def _level(self, level: int) -> RankExpression:
        if level == len(_LEVELS):
            return self._power()
        left = self._level(level + 1)
        while (sign := self._takes(*_LEVELS[level])) is not None:
            left = Binary(sign, left, self._level(level + 1))
        return left

    def _power(self) -> RankExpression:
        base = self._unary()
        return base if self._takes("^") is None else Binary("^", base, self._power())

    def _unary(self) -> RankExpression:
        sign = self._takes("-", "!")
        if sign is None:
            return self._primary()
        operand = self._unary()
        if sign == "-" and isinstance(operand, Number):
            return Number(-operand.value)
        return Unary(sign, operand)

    def _primary(self) -> RankExpression:
        kind, text = self._tokens[self._at]
        if self._takes("(") is not None:
            found = self.expression()
            self._need(")")
            return found
        if kind == "number":
            self._at += 1
            return Number(float(text))
        if kind != "name":
            raise self._unexpected()
        self._at += 1
        if self._takes("(") is None:
            return self._plain(Name(text))
        arguments: list[RankExpression] = []
        if self._takes(")") is None:
            arguments.append(self.expression())
            while self._takes(",") is not None:
                arguments.append(self.expression())
            self._need(")")
        return self._plain(Call(text, tuple(arguments)))

    def _plain(self, found: RankExpression) -> RankExpression:
        if self._tokens[self._at][1] == ".":
            raise ExpressionError(f"Outputs of features are not supported: '{found}.'")
        return found

    def _takes(self, *signs: str) -> str | None:
        kind, text = self._tokens[self._at]
        if kind == "sign" and text in signs:
            self._at += 1
            return text
        return None

    def _need(self, sign: str) -> None:
        if self._takes(sign) is None:
            raise self._unexpected()

    def _unexpected(self) -> ExpressionError:
        found = self._tokens[self._at][1] or "<EOF>"
        return ExpressionError(f"Encountered '{found}' in '{self._text.strip()}'")
