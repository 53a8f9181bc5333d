"""How text becomes tokens, for documents, queries and snippets alike.

Words are runs of letters, digits and marks, in lower case, NFKC, without accents. Han, Hiragana and Katakana
characters are tokens of their own, so a CJK query is a phrase or a weakAnd of characters: the real server
leaves such runs whole unless its linguistics module or ``match: gram`` splits them. There is no stemming
here. What matches, or ranks first, because of either is no evidence about Vespa.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

OCCURRENCES_MAX = 10_000
"""A term is indexed this often for each field of a document."""

_CJK = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_ASCII_WORD = re.compile(r"[A-Za-z0-9]+")
_ASCII_LETTERS = "".join(chr(code).lower() if chr(code).isalnum() else " " for code in range(128))
"""For ``str.translate``, which is several times as fast as an expression."""
_ACCENTS = re.compile("[\u0300-\u036f]+")


def _marks() -> str:
    """Ranges of the combining marks of the basic plane, for a character class."""
    ranges: list[str] = []
    first = last = -2
    for code in [*range(0x300, 0xFE30), -1]:
        if code >= 0 and not unicodedata.category(chr(code)).startswith("M"):
            continue
        if code != last + 1:
            if first >= 0:
                ranges.append(f"{chr(first)}-{chr(last)}")
            first = code
        last = code
    return "".join(ranges)


_MARKS = _marks()
_WORD = re.compile(rf"[{_CJK}][{_MARKS}]*|(?:(?![{_CJK}])[^\W_])(?:(?![{_CJK}])[^\W_]|[{_MARKS}])*")


class Token(NamedTuple):
    """A token and where it stands in the text."""

    word: str
    start: int
    end: int


@lru_cache(maxsize=65_536)
def fold(word: str) -> str:
    """Bring a word into the form in which words are compared."""
    if word.isascii():
        return word.lower()
    decomposed = _ACCENTS.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFKC", decomposed).lower()


def tokens(text: str) -> Iterator[Token]:
    """The tokens of *text* with their places."""
    pattern = _ASCII_WORD if text.isascii() else _WORD
    for match in pattern.finditer(text):
        yield Token(fold(match[0]), match.start(), match.end())


def words(text: str) -> list[str]:
    """The words of *text*, in order."""
    if text.isascii():
        return text.translate(_ASCII_LETTERS).split()
    return [fold(word) for word in _WORD.findall(text)]


def whole(value: str, *, is_cased: bool) -> str:
    """The one token of a value that is not split; without case unless *is_cased*."""
    return value if is_cased else value.lower()
