"""Cuts a short excerpt around the matches of a search, safe to print and to put into a page.

What comes out holds no control characters, no line ends, nothing that reorders text, and its HTML is escaped
with ``<mark>`` as the only element.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SNIPPET_CHARS = 240
SPANS_MAX = 10_000
"""Matches looked at; further ones in a very long text do not change the choice."""

_ELLIPSIS = "…"
_INVISIBLE = re.compile(
    "[\u061c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]+"
)
_UNSAFE = re.compile("[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")
_SPACES = re.compile(r"\s+")
_SHRINKS = re.compile(r"\s\s|" + _INVISIBLE.pattern)
_ODD = re.compile(f"{_SHRINKS.pattern}|{_UNSAFE.pattern}")
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Snippet:
    """An excerpt in three forms with the same words."""

    text: str
    html: str
    """Escaped, with ``<mark>`` around the matches."""
    parts: tuple[tuple[str, bool], ...]
    """The text in pieces; True: a match. For terminals."""


def make_snippet(
    text: str, spans: Iterable[tuple[int, int]], *, length: int = SNIPPET_CHARS
) -> Snippet:
    """Cut about *length* characters of *text* where the most different matches are.

    *spans* are half-open spans of characters in *text*; those out of bounds are cut or left out. Without any
    the beginning is shown. Cuts are made between words and shown as an ellipsis, which *length* does not
    count.
    """
    matches = _normal_spans(spans, len(text))
    first, last = _best_window(text, matches, length)
    low, high = _surroundings(text, first, last, length)
    pieces = _clean(text, low, high, matches)
    clean = "".join(piece for piece, _, _ in pieces)
    focus_start = sum(len(piece) for piece, _, raw in pieces if raw < first)
    focus_end = sum(len(piece) for piece, _, raw in pieces if raw < last)
    start, end = _window(clean, focus_start, focus_end, length)
    parts = _cut(pieces, start, end)
    if (start > 0 or low > 0) and parts:
        parts.insert(0, (_ELLIPSIS, False))
    if (end < len(clean) or high < len(text)) and parts:
        parts.append((_ELLIPSIS, False))
    return _snippet(parts)


def _surroundings(text: str, first: int, last: int, length: int) -> tuple[int, int]:
    """Return what to read around the matches: *length* on each side, more where cleaning makes it shorter."""
    for times in (1, 3):
        reach = times * length
        low, high = max(0, first - reach), min(len(text), max(last, first + length) + reach)
        while low > 0 and low > first - reach - length and not text[low - 1].isspace():
            low -= 1
        if times == 3 or _SHRINKS.search(text, low, high) is None:
            break
    return low, high


def _normal_spans(spans: Iterable[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Sort, cut to the bounds and join what overlaps."""
    normal: list[tuple[int, int]] = []
    for start, end in sorted((max(0, start), min(length, end)) for start, end in spans):
        if start >= end:
            continue
        if normal and start < normal[-1][1]:
            normal[-1] = (normal[-1][0], max(end, normal[-1][1]))
        else:
            normal.append((start, end))
        if len(normal) >= SPANS_MAX:
            break
    return normal


def _best_window(text: str, spans: Sequence[tuple[int, int]], length: int) -> tuple[int, int]:
    """Return the span of the matches, close together, that hold the most different words."""
    if not spans:
        return 0, 0
    keys = [text[start : min(end, start + 64)].casefold() for start, end in spans]
    seen: Counter[str] = Counter()
    best, best_score, left = (spans[0][0], spans[0][1]), (0, 0), 0
    for right, (_, end) in enumerate(spans):
        seen[keys[right]] += 1
        while left < right and end - spans[left][0] > length:
            seen[keys[left]] -= 1
            if not seen[keys[left]]:
                del seen[keys[left]]
            left += 1
        score = (len(seen), right - left + 1)
        if score > best_score:
            best, best_score = (spans[left][0], end), score
    return best[0], min(best[1], best[0] + length)


def _clean(
    text: str, low: int, high: int, spans: Sequence[tuple[int, int]]
) -> list[tuple[str, bool, int]]:
    """Return ``text[low:high]`` as harmless words and single spaces: (piece, is a match, where it was)."""
    if _ODD.search(text, low, high) is None:
        marked = list(_marked(low, high, spans))
        if not any(
            is_match and text[start:end].strip() != text[start:end]
            for start, end, is_match in marked
        ):
            return _clean_plain(text, marked)
    pieces: list[tuple[str, bool, int]] = []
    ends_in_space = True
    for start, end, is_match in _marked(low, high, spans):
        position = start
        for match in _SPACES.finditer(text, start, end):
            ends_in_space = _add(
                pieces, text[position : match.start()], position, is_match, ends_in_space
            )
            if not ends_in_space:
                pieces.append(
                    (" ", is_match and match.end() < end and match.start() > start, match.start())
                )
                ends_in_space = True
            position = match.end()
        ends_in_space = _add(pieces, text[position:end], position, is_match, ends_in_space)
    return pieces


def _clean_plain(text: str, marked: Sequence[tuple[int, int, bool]]) -> list[tuple[str, bool, int]]:
    """The same where there is nothing to clean but line ends, as in most texts: in as few pieces as there can be."""
    pieces = [
        (_SPACES.sub(" ", text[start:end]), is_match, start) for start, end, is_match in marked
    ]
    if pieces and pieces[0][0].startswith(" "):
        pieces[0] = (pieces[0][0][1:], pieces[0][1], pieces[0][2])
    return [piece for piece in pieces if piece[0]]


def _add(
    pieces: list[tuple[str, bool, int]],
    raw: str,
    position: int,
    is_match: bool,
    ends_in_space: bool,
) -> bool:
    """Append one word made harmless; tell whether the text now ends in a space."""
    harmless = raw if raw.isalnum() else _UNSAFE.sub("\ufffd", _INVISIBLE.sub("", raw))
    if harmless:
        pieces.append((harmless, is_match, position))
    return ends_in_space and not harmless


def _marked(
    low: int, high: int, spans: Sequence[tuple[int, int]]
) -> Iterable[tuple[int, int, bool]]:
    """Split ``[low, high)`` into what is a match and what is not."""
    position = low
    for start, end in spans:
        if end <= low:
            continue
        if start >= high:
            break
        start, end = max(start, low), min(end, high)
        if position < start:
            yield position, start, False
        yield start, end, True
        position = end
    if position < high:
        yield position, high, False


def _window(clean: str, focus_start: int, focus_end: int, length: int) -> tuple[int, int]:
    """Place *length* characters around the focus and move both ends to the edges of words."""
    clean_length = len(clean.rstrip())
    if clean_length <= length:
        return 0, clean_length
    focus_end = min(max(focus_end, focus_start), focus_start + length)
    slack = length - (focus_end - focus_start)
    # A third before the matches, the rest after: what follows explains more than what precedes.
    start = max(0, min(focus_start - slack // 3, clean_length - length))
    end = min(clean_length, start + length)
    while 0 < start < focus_start and _is_within_word(clean, start):
        start += 1
    while 0 < start < focus_start and clean[start] == " ":
        start += 1
    shortest = max(focus_end, end - length // 4)
    cut = end
    while shortest < cut < clean_length and _is_within_word(clean, cut):
        cut -= 1
    if cut > shortest or not _is_within_word(clean, cut):
        end = cut
    while end > focus_end and clean[end - 1] == " ":
        end -= 1
    return start, end


def _is_within_word(clean: str, position: int) -> bool:
    """Whether a cut before *position* parts a word."""
    if position >= len(clean):
        return False
    return bool(_WORD.match(clean[position - 1]) and _WORD.match(clean[position]))


def _cut(pieces: Sequence[tuple[str, bool, int]], start: int, end: int) -> list[tuple[str, bool]]:
    """Take the characters from *start* to *end* and join neighbours of the same kind."""
    parts: list[tuple[str, bool]] = []
    position = 0
    for piece, is_match, _ in pieces:
        taken = piece[max(0, start - position) : max(0, end - position)]
        position += len(piece)
        if not taken:
            continue
        if parts and parts[-1][1] == is_match:
            parts[-1] = (parts[-1][0] + taken, is_match)
        else:
            parts.append((taken, is_match))
    return parts


def _snippet(parts: Sequence[tuple[str, bool]]) -> Snippet:
    escaped = [
        f"<mark>{html.escape(part)}</mark>" if is_match else html.escape(part)
        for part, is_match in parts
    ]
    return Snippet("".join(part for part, _ in parts), "".join(escaped), tuple(parts))
