"""The document selection language: a strict parser, and the evaluation on documents.

Known are ``and or not``, ``== != < <= > >=``, ``=`` as a glob, ``true false null``, strings, numbers, a document
type alone, ``type.field`` of single values, ``id`` and ``id.namespace id.type id.specific id.user id.group``.
Anything else is refused. A comparison with a field that has no value is neither true nor false, unless it is
``==`` or ``!=``; a document is selected when the whole is true.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.vespa.model import DocumentId, Schema, Value
from tests.vespa.selection_text import SelectionError, Token, split

Truth: TypeAlias = bool | None
"""None: neither, as of a comparison that has no meaning."""
COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "=")
DEPTH_MAX = 100
"""Parentheses and ``not`` within each other."""
_KEYWORDS = frozenset({"and", "or", "not", "true", "false", "null", "id"})
_ID_PARTS = frozenset({"namespace", "type", "specific", "user", "group", "scheme"})


@dataclass(frozen=True, slots=True)
class Subject:
    """What a selection is evaluated on; a removed document has no fields."""

    id: DocumentId
    fields: Mapping[str, Value]


Operand: TypeAlias = Callable[[Subject], Any]
Node: TypeAlias = Callable[[Subject], Truth]
_INVALID = object()


@dataclass(frozen=True, slots=True)
class Selection:
    """A parsed selection."""

    text: str
    node: Node

    def selects(self, document_id: DocumentId, fields: Mapping[str, Value]) -> bool:
        """Whether a document is selected."""
        return self.node(Subject(document_id, fields)) is True


def parse_selection(text: str, schemas: Mapping[str, Schema]) -> Selection:
    """Parse a selection; an empty one selects everything.

    Raises:
        SelectionError: it is not understood; types and fields must exist.
    """
    if not text.strip():
        return Selection(text, lambda subject: True)
    try:
        parser = _Parser(split(text), schemas)
        return Selection(text, parser.whole())
    except SelectionError as error:
        raise SelectionError(f"Failed to parse document select string '{text}': {error}") from error


class _Parser:
    def __init__(self, tokens: list[Token], schemas: Mapping[str, Schema]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._schemas = schemas

    def whole(self) -> Node:
        node = self._any()
        if self._next.kind != "end":
            raise self._unexpected()
        return node

    @property
    def _next(self) -> Token:
        return self._tokens[self._at]

    def _take(self) -> Token:
        token = self._next
        self._at += 1
        return token

    def _unexpected(self) -> SelectionError:
        what = f"'{self._next.text}'" if self._next.kind != "end" else "end"
        return SelectionError(f"Unexpected {what} at column {self._next.at + 1}")

    def _is_word(self, word: str) -> bool:
        return self._next.kind == "word" and self._next.value == word

    def _is_symbol(self, symbol: str) -> bool:
        return self._next.kind == "symbol" and self._next.text == symbol

    def _any(self) -> Node:
        nodes = [self._all()]
        while self._is_word("or"):
            self._take()
            nodes.append(self._all())
        return nodes[0] if len(nodes) == 1 else lambda subject: _or(subject, nodes)

    def _all(self) -> Node:
        nodes = [self._single()]
        while self._is_word("and"):
            self._take()
            nodes.append(self._single())
        return nodes[0] if len(nodes) == 1 else lambda subject: _and(subject, nodes)

    def _single(self) -> Node:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise SelectionError(f"More than {DEPTH_MAX} levels")
        try:
            if self._is_word("not"):
                self._take()
                node = self._single()
                return lambda subject: _not(node(subject))
            if self._is_symbol("("):
                self._take()
                node = self._any()
                if not self._is_symbol(")"):
                    raise self._unexpected()
                self._take()
                return node
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Node:
        if self._next.value in ("true", "false") and self._next.kind == "word":
            truth = self._take().value == "true"
            return lambda subject: truth
        first = self._next
        left, is_type = self._operand()
        if self._next.kind == "symbol" and self._next.text in COMPARISONS:
            operator = self._take().text
            if is_type:
                raise SelectionError(f"Document type '{first.text}' cannot be compared")
            right, is_type = self._operand()
            if is_type:
                raise SelectionError("A document type cannot be compared")
            return lambda subject: _compare(operator, left(subject), right(subject))
        if not is_type:
            raise self._unexpected()
        name = first.text
        return lambda subject: subject.id.type == name

    def _operand(self) -> tuple[Operand, bool]:
        """An operand, and whether it is a document type alone."""
        token = self._take()
        if token.kind in ("string", "number"):
            return (lambda subject: token.value), False
        if token.kind != "word":
            self._at -= 1
            raise self._unexpected()
        if token.value == "null":
            return (lambda subject: None), False
        if token.value == "id":
            return self._id_part(), False
        if token.value in _KEYWORDS:
            self._at -= 1
            raise self._unexpected()
        if token.text not in self._schemas:
            raise SelectionError(f"Document type '{token.text}' not found")
        if not self._is_symbol("."):
            return (lambda subject: _INVALID), True
        self._take()
        return self._field(token.text), False

    def _id_part(self) -> Operand:
        if not self._is_symbol("."):
            return lambda subject: str(subject.id)
        self._take()
        part = self._take()
        if part.kind != "word" or part.value not in _ID_PARTS:
            raise SelectionError(f"No part of an id is called '{part.text}'")
        return lambda subject: _part(subject.id, part.value)

    def _field(self, type_name: str) -> Operand:
        name = self._take()
        field = self._schemas[type_name].fields.get(name.text) if name.kind == "word" else None
        if field is None:
            raise SelectionError(f"Field '{name.text}' not found in document type '{type_name}'")
        if not isinstance(field.type, str) or field.type == "raw":
            raise SelectionError(f"Field '{name.text}' of type {field.type} cannot be compared")

        def value(subject: Subject) -> Any:
            return subject.fields.get(name.text) if subject.id.type == type_name else _INVALID

        return value


def _part(document_id: DocumentId, part: str) -> Any:
    values: dict[str, Any] = {
        "scheme": "id",
        "namespace": document_id.namespace,
        "type": document_id.type,
        "specific": document_id.user_specific,
        "user": document_id.number,
        "group": document_id.group,
    }
    return values[part]


def _or(subject: Subject, nodes: list[Node]) -> Truth:
    truths = [node(subject) for node in nodes]
    return True if True in truths else (None if None in truths else False)


def _and(subject: Subject, nodes: list[Node]) -> Truth:
    truths = [node(subject) for node in nodes]
    return False if False in truths else (None if None in truths else True)


def _not(truth: Truth) -> Truth:
    return None if truth is None else not truth


def _compare(operator: str, left: Any, right: Any) -> Truth:
    if left is _INVALID or right is _INVALID:
        return None
    if left is None or right is None:
        is_same = left is None and right is None
        if operator in ("==", "="):
            return is_same
        return not is_same if operator == "!=" else None
    left, right = (int(each) if isinstance(each, bool) else each for each in (left, right))
    if isinstance(left, str) != isinstance(right, str):
        return None
    match operator:
        case "=" if isinstance(right, str):
            return _glob(right).fullmatch(left) is not None
        case "==" | "=":
            return left == right
        case "!=":
            return left != right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case _:
            return left >= right


def _glob(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(each, re.escape(each)) for each in pattern), re.DOTALL)
