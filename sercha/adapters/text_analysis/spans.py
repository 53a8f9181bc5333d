"""Where a query's terms are in a text, in characters of the original text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from sercha.adapters.text_analysis.analysis import (
    Token,
    acronym_cuts,
    normal,
    parts,
    words,
)
from sercha.adapters.text_analysis.terms import TermPlan, Tokens
from sercha.domain.query import Occurrence

_JAMO_TAILS = range(0x1160, 0x1200)


def find_spans(plans: Sequence[TermPlan], text: str) -> list[tuple[int, int]]:
    """Half-open spans, ascending, merged where they overlap; excluded terms are not marked."""
    wanted = [plan for plan in plans if plan.occurrence is not Occurrence.EXCLUDED]
    normal_text, starts, ends = _mapped(text)
    part_text, part_origins = _set_apart_mapped(normal_text)
    word_tokens = words(normal_text)
    part_tokens = parts(part_text)
    spans: set[tuple[int, int]] = set()
    for plan in wanted:
        for first, last in _occurrences(plan.words, word_tokens):
            spans.add((starts[first], ends[last - 1]))
        for first, last in _occurrences(plan.parts, part_tokens):
            spans.add((starts[part_origins[first]], ends[part_origins[last - 1]]))
        if plan.fragment is not None:
            spans.update(_ascii_occurrences(plan.fragment, text))
    return _merged(spans)


def _occurrences(wanted: Tokens, tokens: Sequence[Token]) -> Iterator[tuple[int, int]]:
    """Spans in normal text where the wanted tokens stand at their distances."""
    if not wanted:
        return
    by_position = {token.position: token for token in tokens}
    for token in tokens:
        if token.text != wanted[0][1]:
            continue
        found = [by_position.get(token.position + distance) for distance, _ in wanted]
        last = found[-1]
        if last is not None and all(
            match is not None and match.text == text
            for match, (_, text) in zip(found, wanted, strict=True)
        ):
            yield token.start, last.end


def _ascii_occurrences(fragment: str, text: str) -> Iterator[tuple[int, int]]:
    word = re.escape(fragment)
    pattern = rf"(?<![A-Za-z0-9_]){word}(?![A-Za-z0-9_])"
    for match in re.finditer(pattern, text, re.IGNORECASE | re.ASCII):
        yield match.span()


def _mapped(text: str) -> tuple[str, Sequence[int], Sequence[int]]:
    """Normal text, and for each of its characters where the original of it starts and ends."""
    if text.isascii():
        return text, range(len(text)), range(1, len(text) + 1)
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for start, end in _clusters(text):
        piece = normal(text[start:end])
        pieces.append(piece)
        starts.extend([start] * len(piece))
        ends.extend([end] * len(piece))
    return "".join(pieces), starts, ends


def _clusters(text: str) -> Iterator[tuple[int, int]]:
    """Spans of a character with what composes onto it."""
    start = 0
    for at in range(1, len(text) + 1):
        if at < len(text) and _composes(text[at]):
            continue
        yield start, at
        start = at


def _composes(char: str) -> bool:
    return unicodedata.combining(char) != 0 or ord(char) in _JAMO_TAILS or char in "\uff9e\uff9f"


def _set_apart_mapped(text: str) -> tuple[str, Sequence[int]]:
    cuts = acronym_cuts(text)
    pieces: list[str] = []
    origins: list[int] = []
    start = 0
    for cut in [*cuts, len(text)]:
        pieces.append(text[start:cut])
        origins.extend(range(start, cut))
        if cut < len(text):
            origins.append(cut)
        start = cut
    return " ".join(pieces), origins


def _merged(spans: set[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
