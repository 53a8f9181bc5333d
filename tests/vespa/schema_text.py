"""Reads a schema file into nested statements, whose meaning is the work of the other schema modules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

RAW_BLOCKS = frozenset({"expression"})
"""Heads whose block is text and not statements."""
_COMMENT = re.compile(r'("(?:[^"\\\n]|\\.)*")|#[^\n]*')
_OPENING, _CLOSING = "([", ")]"


class SchemaError(ValueError):
    """A schema is not understood, or not allowed."""


@dataclass(frozen=True, slots=True)
class Statement:
    """``head: value``, ``head { block }`` or a head alone."""

    head: str
    line: int
    value: str | None = None
    block: tuple[Statement, ...] | None = None

    @property
    def words(self) -> list[str]:
        """The words of the head."""
        return self.head.split()

    def error(self, message: str) -> SchemaError:
        """An error at this place."""
        return SchemaError(f"{message} at line {self.line}")

    def children(self) -> tuple[Statement, ...]:
        """The statements of the block.

        Raises:
            SchemaError: there is no block, or it is text.
        """
        if self.block is None:
            raise self.error(f"Expected a block after '{self.head}'")
        return self.block

    def text(self) -> str:
        """The value.

        Raises:
            SchemaError: there is none, or it is empty.
        """
        if not self.value:
            raise self.error(f"Expected a value after '{self.head}:'")
        return self.value

    def flag(self) -> None:
        """Make sure that there is nothing but the head.

        Raises:
            SchemaError: there is more.
        """
        if self.value is not None or self.block:
            raise self.error(f"'{self.head}' takes no value")


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = _COMMENT.sub(lambda match: match[1] or "", text)
        self._at = 0

    def statements(self, *, is_nested: bool) -> Iterator[Statement]:
        while True:
            self._skip_space()
            if self._at == len(self._text):
                if is_nested:
                    raise SchemaError(
                        f"Expected '}}' before the end of the file at line {self._line}"
                    )
                return
            if self._text[self._at] == "}":
                if not is_nested:
                    raise SchemaError(f"Encountered '}}' at line {self._line}")
                self._at += 1
                return
            yield self._statement()

    @property
    def _line(self) -> int:
        return self._text.count("\n", 0, self._at) + 1

    def _skip_space(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _statement(self) -> Statement:
        line = self._line
        head = self._head()
        if not head:
            raise SchemaError(f"Encountered '{self._text[self._at]}' at line {line}")
        rest = self._text[self._at : self._at + 1]
        if rest == ":":
            self._at += 1
            return Statement(head, line, value=self._rest_of_line())
        before = self._at
        self._skip_space()
        if self._text[self._at : self._at + 1] == "{":
            self._at += 1
            if head in RAW_BLOCKS:
                return Statement(head, line, value=self._raw_block())
            return Statement(head, line, block=tuple(self.statements(is_nested=True)))
        self._at = before
        return Statement(head, line)

    def _head(self) -> str:
        start, depth = self._at, 0
        while self._at < len(self._text):
            char = self._text[self._at]
            if char in _OPENING:
                depth += 1
            elif char in _CLOSING:
                depth -= 1
            elif depth == 0 and char in ":{}\n":
                break
            self._at += 1
        return " ".join(self._text[start : self._at].split())

    def _rest_of_line(self) -> str:
        """Up to the end of the line, or to a closing brace that belongs to the block around."""
        start, depth = self._at, 0
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "\n" or (char == "}" and depth == 0):
                break
            depth += {"{": 1, "}": -1}.get(char, 0)
            self._at += 1
        return self._text[start : self._at].strip()

    def _raw_block(self) -> str:
        start, depth = self._at, 1
        while self._at < len(self._text):
            depth += {"{": 1, "}": -1}.get(self._text[self._at], 0)
            self._at += 1
            if depth == 0:
                return " ".join(self._text[start : self._at - 1].split())
        raise SchemaError(f"Expected '}}' before the end of the file at line {self._line}")


def read_statements(text: str) -> tuple[Statement, ...]:
    """Read the statements of a schema file.

    Raises:
        SchemaError: the braces do not match.
    """
    return tuple(_Reader(text).statements(is_nested=False))
