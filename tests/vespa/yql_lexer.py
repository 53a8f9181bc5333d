"""The lexer of YQL: names, numbers, strings with their escapes, comments, and grouping as one token."""

from __future__ import annotations

import re
from dataclasses import dataclass

ESCAPES = {
    "b": "\b",
    "t": "\t",
    "n": "\n",
    "f": "\f",
    "r": "\r",
    '"': '"',
    "'": "'",
    "\\": "\\",
    "/": "/",
}
KEYWORDS = frozenset(
    {
        "select", "from", "where", "and", "or", "in", "contains", "matches", "like", "true", "false", "limit",
        "offset", "timeout", "order", "by", "asc", "desc", "sources", "not", "is", "null", "as", "output", "count",
    }
)  # fmt: skip
KEYWORDS_AS_NAMES = frozenset(
    {"select", "limit", "offset", "where", "order", "by", "desc", "output", "count", "sources"}
    | {"matches", "like"}
)

_SPACE = re.compile(r"(?:[ \t\r\n]+|//[^\n\r]*|\#[^\n\r]*|/\*.*?\*/)+", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*")
_NUMBER = re.compile(r"-?(?:\d+\.\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)")
_INTEGER = re.compile(r"-?\d+([lL])?")
_SYMBOL = re.compile(r"<=|>=|!=|[()\[\]{}:,|<>=*.@!;+\-/%]")
_GROUPING = re.compile(r"(?:all|each)[ \t\r\n]*\(", re.IGNORECASE)


class YqlSyntaxError(ValueError):
    """The text is no YQL; the message is the server's way to say where."""


@dataclass(frozen=True, slots=True)
class Token:
    """*kind* is one of name, keyword, string, integer, float, symbol, grouping, end."""

    kind: str
    text: str
    value: str | int | float
    offset: int


def place(text: str, offset: int) -> str:
    """Line and column as the server counts them: from 1 and from 0."""
    before = text[:offset]
    line = before.count("\n") + 1
    return f"L{line}:{offset - (before.rfind(chr(10)) + 1)}"


def tokenize(text: str) -> list[Token]:
    """Split *text*, and end with a token of kind ``end``.

    Raises:
        YqlSyntaxError: a character, a string or a comment that the grammar does not have.
    """
    tokens: list[Token] = []
    offset = 0
    while True:
        space = _SPACE.match(text, offset)
        if space is not None:
            offset = space.end()
        if offset >= len(text):
            tokens.append(Token("end", "<EOF>", "", offset))
            return tokens
        token = _next(text, offset, tokens)
        tokens.append(token)
        offset += len(token.text)


def _next(text: str, offset: int, before: list[Token]) -> Token:
    if text[offset] in "\"'":
        return _string(text, offset)
    if before and before[-1].text in ("|", "}", "]") and _GROUPING.match(text, offset):
        return _grouping(text, offset)
    for kind, pattern in (("float", _NUMBER), ("integer", _INTEGER)):
        match = pattern.match(text, offset)
        if match is not None:
            digits = match[0].rstrip("lL")
            number = float(digits) if kind == "float" else int(digits)
            return Token(kind, match[0], number, offset)
    match = _NAME.match(text, offset)
    if match is not None:
        word = match[0]
        kind = "keyword" if word.lower() in KEYWORDS else "name"
        return Token(kind, word, word.lower() if kind == "keyword" else word, offset)
    match = _SYMBOL.match(text, offset)
    if match is not None and not text.startswith("/*", offset):
        return Token("symbol", match[0], match[0], offset)
    raise YqlSyntaxError(
        f"query:{place(text, offset)} token recognition error at: '{text[offset : offset + 1]}'"
    )


def _string(text: str, start: int) -> Token:
    quote = text[start]
    parts: list[str] = []
    offset = start + 1
    while offset < len(text):
        character = text[offset]
        if character == quote:
            return Token("string", text[start : offset + 1], "".join(parts), start)
        if character != "\\":
            parts.append(character)
            offset += 1
            continue
        escaped = text[offset + 1 : offset + 2]
        digits = text[offset + 2 : offset + 6]
        if escaped in ESCAPES and escaped:
            parts.append(ESCAPES[escaped])
            offset += 2
        elif escaped == "u" and re.fullmatch("[0-9A-Fa-f]{4}", digits):
            parts.append(chr(int(digits, 16)))
            offset += 6
        else:
            break
    where = place(text, start)
    raise YqlSyntaxError(f"query:{where} token recognition error at: '{text[start:]}'")


def _grouping(text: str, start: int) -> Token:
    """Take everything up to the bracket that closes the first one."""
    depth = 0
    for offset in range(text.index("(", start), len(text)):
        if text[offset] in "([<":
            depth += 1
        elif text[offset] in ")]>":
            depth -= 1
            if depth == 0:
                found = text[start : offset + 1]
                return Token("grouping", found, found, start)
    raise YqlSyntaxError(f"query:{place(text, start)} token recognition error at: '{text[start:]}'")


def join_surrogates(text: str) -> str:
    r"""Join the halves that ``\uXXXX`` escapes made: the server's strings are UTF-16."""
    if not any(0xD800 <= ord(each) < 0xE000 for each in text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
