"""Highlighting and dynamic snippets, with the markers ``<hi>``, ``</hi>`` and ``<sep />``.

The text around the markers is not escaped, as in the real server. Which fragments are chosen, and how long they
are, is this server's own choice.
"""

from __future__ import annotations

from collections.abc import Collection

from tests.vespa.analysis import Token, tokens

START, END, SEPARATOR = "<hi>", "</hi>", "<sep />"
LENGTH_MAX = 256
"""A text of this length is given whole."""
FRAGMENTS_MAX = 3
SURROUND = 60
"""Characters before and after a match."""


def highlight(text: str, words: Collection[str]) -> str:
    """The whole text, with the words marked."""
    return _marked(text, [each for each in tokens(text) if each.word in words], 0, len(text))


def teaser(text: str, words: Collection[str]) -> str:
    """Fragments around the words; the start of the text when none of them occurs."""
    found = list(tokens(text))
    matches = [each for each in found if each.word in words]
    if not matches:
        return text if len(text) <= LENGTH_MAX else text[: _end_before(found, LENGTH_MAX)]
    if len(text) <= LENGTH_MAX:
        return _marked(text, matches, 0, len(text))
    windows = _windows(text, found, matches)
    parts = [_marked(text, matches, start, end) for start, end in windows]
    before = SEPARATOR if windows[0][0] > 0 else ""
    after = SEPARATOR if windows[-1][1] < len(text) else ""
    return before + SEPARATOR.join(parts) + after


def without_marks(text: str) -> str:
    """The text of a snippet without the marks around words, for ``presentation.bolding=false``."""
    return text.replace(START, "").replace(END, "")


def _windows(text: str, found: list[Token], matches: list[Token]) -> list[tuple[int, int]]:
    windows: list[tuple[int, int]] = []
    for match in matches:
        if windows and match.end <= windows[-1][1]:
            continue
        start = _start_after(found, match.start - SURROUND)
        end = len(text)
        if match.end + SURROUND < len(text):
            end = max(match.end, _end_before(found, match.end + SURROUND))
        if windows and start <= windows[-1][1]:
            windows[-1] = (windows[-1][0], end)
        elif len(windows) < FRAGMENTS_MAX:
            windows.append((start, end))
        if sum(end - start for start, end in windows) >= LENGTH_MAX:
            break
    return windows


def _start_after(found: list[Token], place: int) -> int:
    """The start of the first word at or after *place*; 0 for a place before the text."""
    if place <= 0:
        return 0
    return next(each.start for each in found if each.start >= place)


def _end_before(found: list[Token], place: int) -> int:
    """The end of the last word that ends at or before *place*, or *place* when there is none."""
    return max((each.end for each in found if each.end <= place), default=place)


def _marked(text: str, matches: list[Token], start: int, end: int) -> str:
    parts: list[str] = []
    at = start
    for match in matches:
        if match.start >= start and match.end <= end:
            parts += (text[at : match.start], START, text[match.start : match.end], END)
            at = match.end
    return "".join(parts) + text[at:end]
