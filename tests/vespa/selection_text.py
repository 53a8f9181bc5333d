"""The words of the document selection language."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

_SPACE = re.compile(r"[ \t\r\n\f]+")
_NUMBER = re.compile(r"[+-]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?(?![\w.])")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SYMBOL = re.compile(r"==|!=|<=|>=|=~|[=<>().]")
_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "n": "\n", "r": "\r", "t": "\t", "f": "\f"}


class SelectionError(ValueError):
    """A selection is not understood, or not supported."""


@dataclass(frozen=True, slots=True)
class Token:
    """A word, a symbol or a literal; *value* is the literal's value, or the word in lower case."""

    kind: Literal["word", "symbol", "string", "number", "end"]
    text: str
    value: Any = None
    at: int = 0


def split(text: str) -> list[Token]:
    """Split a selection into tokens; the last one is the end.

    Raises:
        SelectionError: something in it is no token.
    """
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        space = _SPACE.match(text, at)
        if space:
            at = space.end()
            continue
        token, at = _token(text, at)
        tokens.append(token)
    return [*tokens, Token("end", "", at=at)]


def _token(text: str, at: int) -> tuple[Token, int]:
    if text[at] in "\"'":
        return _string(text, at)
    number = _NUMBER.match(text, at)
    if number:
        is_whole = number[0].lstrip("+-").isdigit()
        value = int(number[0]) if is_whole else float(number[0])
        return Token("number", number[0], value, at), number.end()
    word = _WORD.match(text, at)
    if word:
        return Token("word", word[0], word[0].lower(), at), word.end()
    symbol = _SYMBOL.match(text, at)
    if symbol:
        return Token("symbol", symbol[0], symbol[0], at), symbol.end()
    raise SelectionError(f"Unexpected character '{text[at]}' at column {at + 1}")


def _string(text: str, start: int) -> tuple[Token, int]:
    quote, at, data = text[start], start + 1, bytearray()
    while at < len(text) and text[at] != quote:
        char = text[at]
        if char == "\\":
            escape = text[at + 1 : at + 2]
            if escape == "x":
                code = text[at + 2 : at + 4]
                if re.fullmatch(r"[0-9A-Fa-f]{2}", code) is None:
                    raise SelectionError(f"Illegal escape '\\x{code}' at column {at + 1}")
                data.append(int(code, 16))
                at += 4
                continue
            if not escape or escape not in _ESCAPES:
                raise SelectionError(f"Illegal escape '\\{escape}' at column {at + 1}")
            data += _ESCAPES[escape].encode()
            at += 2
            continue
        if not " " <= char <= "~":
            raise SelectionError(f"Character U+{ord(char):04X} must be escaped at column {at + 1}")
        data += char.encode()
        at += 1
    if at == len(text):
        raise SelectionError(f"String without an end at column {start + 1}")
    try:
        value = data.decode()
    except UnicodeDecodeError as error:
        raise SelectionError(f"String is not UTF-8 at column {start + 1}") from error
    return Token("string", text[start : at + 1], value, start), at + 1
