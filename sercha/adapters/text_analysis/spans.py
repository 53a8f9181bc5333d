"""Where a query's terms are in a text, in characters of the original text."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
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

_STRETCH = re.compile(r"\S+")
_WORD_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
_JAMO_TAILS = range(0x1160, 0x1200)


def find_spans(plans: Sequence[TermPlan], text: str) -> list[tuple[int, int]]:
    """Half-open spans, ascending, merged where they overlap; excluded terms are not marked.

    Called for each result of a page, so it looks for the words themselves wherever the text is ASCII. The analyser,
    which tells where all tokens are, is asked about the stretches that are not, and for terms of several tokens.
    """
    wanted = [plan for plan in plans if plan.occurrence is not Occurrence.EXCLUDED]
    alone = [_only(plan, are_alone=True) for plan in wanted]
    stretches = [] if text.isascii() else _stretches(text)
    if any(_composes(text[start]) for start, _ in stretches):
        return _merged(set(find_all_spans(wanted, text)))
    plain = _without(stretches, text)
    spans = set(_ascii_spans(alone, plain))
    spans.update(_spans_within(alone, text, stretches))
    together = [_only(plan, are_alone=False) for plan in wanted]
    lowered = plain.lower()
    if any(stretches or _may_hold(plan, lowered) for plan in together if plan.words or plan.parts):
        spans.update(find_all_spans(together, text))
    for plan in wanted:
        if stretches and plan.fragment is not None:
            spans.update(_ascii_occurrences(plan.fragment, text))
    return _merged(spans)


def find_all_spans(plans: Sequence[TermPlan], text: str) -> Iterator[tuple[int, int]]:
    """Spans in any order, by the analyser's view of the whole text."""
    normal_text, starts, ends = _mapped(text)
    part_text, part_origins = _set_apart_mapped(normal_text)
    word_tokens = words(normal_text)
    part_tokens = parts(part_text)
    for plan in plans:
        for first, last in _occurrences(plan.words, word_tokens):
            yield starts[first], ends[last - 1]
        for first, last in _occurrences(plan.parts, part_tokens):
            yield starts[part_origins[first]], ends[part_origins[last - 1]]
        if plan.fragment is not None:
            yield from _ascii_occurrences(plan.fragment, text)


def _stretches(text: str) -> list[tuple[int, int]]:
    """Spans between white space that hold a character outside ASCII."""
    return [found.span() for found in _STRETCH.finditer(text) if not found[0].isascii()]


def _without(stretches: Sequence[tuple[int, int]], text: str) -> str:
    """Put spaces in their place."""
    pieces: list[str] = []
    position = 0
    for start, end in stretches:
        pieces += (text[position:start], " " * (end - start))
        position = end
    return "".join([*pieces, text[position:]]) if pieces else text


def _only(plan: TermPlan, *, are_alone: bool) -> TermPlan:
    """The views of a term that have one token, or those that have several."""
    return TermPlan(
        plan.occurrence,
        words=plan.words if (len(plan.words) == 1) is are_alone else (),
        parts=plan.parts if (len(plan.parts) == 1) is are_alone else (),
        fragment=None,
    )


def _may_hold(plan: TermPlan, lowered: str) -> bool:
    """Whether all tokens of one of the views are somewhere in a text that is ASCII."""
    return any(
        tokens and all(token in lowered for _, token in tokens)
        for tokens in (plan.words, plan.parts)
    )


def _ascii_spans(plans: Sequence[TermPlan], text: str) -> Iterator[tuple[int, int]]:
    """Where terms of one token are in a text that is ASCII."""
    lowered = text.lower()
    for plan in plans:
        for _, word in plan.words:
            for start, end in _runs_with(word, lowered):
                if end - start == len(word):
                    yield start, end
        for _, part in plan.parts:
            for start, end in _runs_with(part, lowered):
                if end - start == len(part) and text[start + 1 : end] == part[1:]:
                    yield start, end  # a plain word, as most are
                else:
                    yield from _parts_of_run(part, text, start, end)


def _runs_with(token: str, lowered: str) -> Iterator[tuple[int, int]]:
    """Spans of the runs of letters, digits and ``_`` that hold the token."""
    at = lowered.find(token)
    while at >= 0:
        start, end = at, at + len(token)
        while start > 0 and lowered[start - 1] in _WORD_CHARS:
            start -= 1
        while end < len(lowered) and lowered[end] in _WORD_CHARS:
            end += 1
        yield start, end
        at = lowered.find(token, end)


def _parts_of_run(part: str, text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    part_text, origins = _set_apart_mapped(text[start:end])
    for token in parts(part_text):
        if token.text == part:
            yield start + origins[token.start], start + origins[token.end - 1] + 1


def _spans_within(
    plans: Sequence[TermPlan], text: str, stretches: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Where terms of one token are in these stretches, which end and begin at white space."""
    if not stretches:
        return
    offsets: list[int] = []
    length = 0
    for start, end in stretches:
        offsets.append(length)
        length += end - start + 1
    for start, end in find_all_spans(plans, " ".join(text[start:end] for start, end in stretches)):
        at = bisect_right(offsets, start) - 1
        shift = stretches[at][0] - offsets[at]
        yield start + shift, end + shift


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
