"""What a word is: the analysis that texts and queries share.

Three views of a text, each found by a query that is analysed the same way:

- *words*: runs of letters, marks, digits and ``_``; one token per character in scripts written without
  spaces, so that a word of several characters is found as a phrase;
- *parts*: the pieces of identifiers (``getElementById``, ``wait_readable``, ``HTTPServer``, ``utf8``);
- *fragments*: ASCII words that neither view has as a token, because they touch letters outside ASCII
  (``größe`` holds ``gr`` and ``e`` for a tool that reads bytes) or were cut as acronyms.

Everything is folded by NFKC, case and accents before it is compared.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import tantivy

TOKEN_BYTES_MAX = 160
"""Longer tokens (encoded data, as a rule) are not indexed; 80 characters of any two-byte script fit."""
ANALYSIS_VERSION = 3
"""Part of the schema's hash: a change of meaning here makes every copy be rebuilt."""
PIECE_CHARS = 32_768
"""Analysing holds the interpreter's lock, so long texts are analysed in pieces of about this size."""

_UNSPACED = (
    r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    r"\x{30FC}\x{3006}"  # the long vowel mark and the closing mark belong to no single script
)
WORD_PATTERN = rf"[{_UNSPACED}]|[[\p{{L}}\p{{M}}\p{{N}}_]--[{_UNSPACED}]]+"
PART_PATTERN = (
    rf"\p{{Lu}}+[[\p{{Ll}}\p{{M}}]--[{_UNSPACED}]]*"
    rf"|[[\p{{Ll}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}]--[{_UNSPACED}]]+|\p{{N}}+"
)

_CHAR_BYTES_MAX = 4
_ASCII_WORD = re.compile(r"[A-Za-z0-9_]+")
_ACRONYM = re.compile(r"[A-Z]{2,}[a-z]+")
_ASCII_GAP = re.compile(r"[\x00-/:-@\[-^`{-\x7f]")
_FOLDED = str.maketrans({"ё": "е", "Ё": "Е", "İ": "I", "\u00ad": None})
_SURROGATE = re.compile("[\ud800-\udfff]")


def analyzer(pattern: str) -> tantivy.TextAnalyzer:
    """Build the chain that turns normal text into tokens; the index registers the same one."""
    return _chain(pattern).filter(tantivy.Filter.remove_long(TOKEN_BYTES_MAX + 1)).build()


def _chain(pattern: str) -> tantivy.TextAnalyzerBuilder:
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.regex(pattern))
        .filter(tantivy.Filter.lowercase())
        .filter(tantivy.Filter.ascii_fold())
    )


_WORDS = analyzer(WORD_PATTERN)
_PARTS = analyzer(PART_PATTERN)
_WORDS_UNBOUNDED = _chain(WORD_PATTERN).build()
_PARTS_UNBOUNDED = _chain(PART_PATTERN).build()


class Token(NamedTuple):
    """A folded token, its position among its neighbours, and where it is in the normal text."""

    text: str
    position: int
    start: int
    end: int


@dataclass(slots=True)
class AnalysedText:
    """A text as the index takes it."""

    words_text: str
    """Normal text for the view of words."""
    parts_text: str
    """The same with acronyms set apart, for the view of parts."""
    counts: Counter[str]
    """How often each word occurs."""
    length: int
    """Words in all."""
    fragments: set[str]


@dataclass(slots=True)
class TextTokens:
    """All tokens of a text in both views, for an engine that is given tokens.

    An empty one stands where one is left out because it is too long: its neighbours are no phrase.
    """

    words: list[str]
    parts: list[str]
    fragments: set[str]


def normal(text: str) -> str:
    """Fold what the tokenizer's filters do not: compatibility forms, ё, soft hyphens, lone surrogates."""
    if text.isascii():
        return text
    folded = unicodedata.normalize("NFKC", _SURROGATE.sub(" ", text))
    return folded.translate(_FOLDED)


def set_apart(text: str) -> str:
    """Put a space between the parts of acronyms: ``HTTPServer`` to ``HTTP Server``, ``URLs`` to ``URL s``."""
    return _ACRONYM.sub(lambda match: _acronym_parts(match.group()), text)


def acronym_cuts(text: str) -> list[int]:
    """Where `set_apart` puts its spaces."""
    cuts: list[int] = []
    for match in _ACRONYM.finditer(text):
        head, gap, _ = _acronym_parts(match.group()).partition(" ")
        if gap:
            cuts.append(match.start() + len(head))
    return cuts


def _acronym_parts(word: str) -> str:
    capitals = next(at for at, char in enumerate(word) if char.islower())
    tail = word[capitals:]
    if tail == "s":
        return f"{word[:capitals]} s"
    if len(tail) == 1:
        return word
    return f"{word[: capitals - 1]} {word[capitals - 1 :]}"


def words(text: str) -> list[Token]:
    """Tokens of normal text in the view of words."""
    return _tokens(_WORDS, text)


def parts(text: str) -> list[Token]:
    """Tokens of text that was `set_apart`, in the view of parts."""
    return _tokens(_PARTS, text)


def _tokens(chain: tantivy.TextAnalyzer, text: str) -> list[Token]:
    return [
        Token(token.text, token.position, token.char_offset_from, token.char_offset_to)
        for token in chain.pre_tokenize(text).tokens
    ]


def analyse(text: str) -> AnalysedText:
    """Analyse a text for the index; slow for long ones, so only off the loop."""
    analysed = AnalysedText("", "", Counter(), 0, set())
    word_texts: list[str] = []
    part_texts: list[str] = []
    found: set[str] = set()
    for piece in _pieces(text):
        normal_piece = normal(piece)
        word_texts.append(normal_piece)
        part_texts.append(set_apart(normal_piece))
        tokens = _word_texts(normal_piece)
        analysed.length += len(tokens)
        analysed.counts.update(tokens)
        found |= _fragments(piece, normal_piece)
    analysed.words_text = "".join(word_texts)
    analysed.parts_text = "".join(part_texts)
    analysed.fragments = found - analysed.counts.keys()
    return analysed


def tokenise(text: str) -> TextTokens:
    """Return what `analyse` would have an engine find; as slow."""
    found = TextTokens([], [], set())
    for piece in _pieces(text):
        normal_piece = normal(piece)
        found.words += _bounded(_all_word_texts(normal_piece))
        found.parts += _bounded(_PARTS_UNBOUNDED.analyze(set_apart(normal_piece)))
        found.fragments |= _fragments(piece, normal_piece)
    found.fragments -= set(found.words)
    return found


def _fragments(piece: str, normal_piece: str) -> set[str]:
    """Candidates: those that are words as well are none."""
    found: set[str] = set() if piece.isascii() else _ascii_words(piece)
    return found | {match.lower() for match in _ACRONYM.findall(normal_piece)}


def _word_texts(text: str) -> list[str]:
    """The view of words without places."""
    return [word for word in _bounded(_all_word_texts(text)) if word]


def _all_word_texts(text: str) -> list[str]:
    """The same with those that are too long; ASCII, which is most text, does without the analyser."""
    return _ASCII_WORD.findall(text.lower()) if text.isascii() else _WORDS_UNBOUNDED.analyze(text)


def _bounded(tokens: list[str]) -> list[str]:
    """Put an empty token in the place of each that is too long."""
    sure = TOKEN_BYTES_MAX // _CHAR_BYTES_MAX
    return [
        token if len(token) <= sure or len(token.encode()) <= TOKEN_BYTES_MAX else ""
        for token in tokens
    ]


def _ascii_words(text: str) -> set[str]:
    return {word.lower() for word in _ASCII_WORD.findall(text) if len(word) <= TOKEN_BYTES_MAX}


def _pieces(text: str) -> Iterator[str]:
    """Cut *text* before ASCII characters that are in no word, so that no token is cut."""
    start = 0
    while len(text) - start > PIECE_CHARS:
        gap = _ASCII_GAP.search(text, start + PIECE_CHARS)
        if gap is None:
            break
        yield text[start : gap.start()]
        start = gap.start()
    yield text[start:]
