"""Cuts a text into overlapping chunks at the places where a reader would cut it.

Invariants, held by property tests: spans are in bounds, not empty, at most `CHUNK_CHARS_MAX` long, ascending by
start and by end; together they cover every character that is not white space; a word (``\\w+``) of at most
200 characters lies wholly within one chunk, and no chunk reaches into a section that is apart. The time is
linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from sercha.domain.document import Chunk, Section
from sercha.domain.markdown import Heading, Outline, outline

CHUNK_CHARS_TARGET = 1_000
CHUNK_CHARS_MAX = 1_500
CHUNK_CHARS_MIN = 500
"""A chunk is cut shorter only at a heading, before a block of code, or at the end."""
SECTION_CHARS_MIN = 200
"""Sections shorter than this are put together with what follows."""
OVERLAP_CHARS = 150
HEADING_PATH_CHARS_MAX = 300

_INK = re.compile(r"\S")
_BLANK_LINE = re.compile(r"\n[ \t]*\n\s*")
_LINE = re.compile(r"\n")
_SENTENCE = re.compile(r"[.!?…][\])\"'’”»]*\s+|[。！？]+[」』）]*")
_SPACE = re.compile(r"\s+")
_ZERO_WIDTH_JOINER = "\u200d"

_PARAGRAPH_RANK, _LINE_RANK, _SENTENCE_RANK, _SPACE_RANK, _PUNCTUATION_RANK = 6, 4, 3, 2, 1
_NO_OVERLAP_RANK = 8


@dataclass(frozen=True, slots=True)
class _Cut:
    """A place to cut; higher ranks are better places."""

    at: int
    rank: int


def chunk_text(text: str, mime_type: str, sections: Sequence[Section] = ()) -> tuple[Chunk, ...]:
    """Cut *text* along headings, paragraphs and blocks of code.

    Markdown (``text/markdown``) is cut at its headings and keeps fenced code whole where it fits; everything
    else at its *sections*, if it has any, and at blank lines, of which those before an unindented line (a
    definition, in most languages) are the best. A text without anything but white space has no chunks.
    """
    if mime_type == "text/markdown":
        return _Chunker(text, outline(text)).run()
    headings = tuple(_heading(text, section) for section in sections)
    walls = [each.start for each in sections if each.is_apart]
    return _Chunker(text, Outline(headings, ()), walls).run()


class _Chunker:
    def __init__(self, text: str, parts: Outline, walls: Sequence[int] = ()) -> None:
        """*walls* are the places that no chunk reaches across, ascending."""
        self._text = text
        self._outline = parts
        self._walls = walls
        self._heading_starts = [heading.start for heading in self._outline.headings]
        self._heading_paths = _heading_paths(self._outline.headings)
        self._fence_starts = [start for start, _ in self._outline.fences]

    def run(self) -> tuple[Chunk, ...]:
        chunks: list[Chunk] = []
        start, covered = self._next_ink(0), 0
        while start is not None:
            cut = self._end_of_chunk(start, covered)
            end = self._trim(start, cut.at)
            new = max(start, self._next_ink(covered) or covered)
            chunks.append(Chunk(len(chunks), start, end, self._heading_path(new, end)))
            covered = cut.at
            start = self._next_ink(covered)
            if start is not None and cut.rank < _NO_OVERLAP_RANK:
                start = self._overlap_start(chunks[-1].start, end, start)
        return tuple(chunks)

    def _end_of_chunk(self, start: int, covered: int) -> _Cut:
        """Find where the chunk that begins at *start* ends, beyond *covered*."""
        section_end = self._section_end(start, covered)
        if section_end - start <= CHUNK_CHARS_MAX:
            return _Cut(section_end, _NO_OVERLAP_RANK)
        low, high = start + CHUNK_CHARS_MIN, start + CHUNK_CHARS_MAX
        assert covered < low, "an overlap is shorter than a chunk"
        remaining = section_end - start
        target = start + min(CHUNK_CHARS_TARGET, remaining // 2 + OVERLAP_CHARS)
        cuts = self._cuts(low, high)
        fence = self._fence_at(high)
        if fence and max(start, covered) < fence[0] and fence[1] - fence[0] <= CHUNK_CHARS_MAX:
            cuts = [cut for cut in cuts if cut.at <= fence[0]]
            cuts.append(_Cut(fence[0], _NO_OVERLAP_RANK))
        if not cuts:
            return self._forced_cut(low, high)
        return max(cuts, key=lambda cut: (cut.rank, -abs(cut.at - target)))

    def _section_end(self, start: int, covered: int) -> int:
        wall = bisect_right(self._walls, max(start, covered))
        end = self._walls[wall] if wall < len(self._walls) else len(self._text)
        index = bisect_left(self._heading_starts, max(start + SECTION_CHARS_MIN, covered + 1))
        return min([end, *self._heading_starts[index : index + 1]])

    def _cuts(self, low: int, high: int) -> list[_Cut]:
        """List the places of the best kinds there are between *low* and *high*, both included."""
        cuts = [
            _Cut(match.end(), self._rank(match.end()))
            for match in _BLANK_LINE.finditer(self._text, max(low - 2, 0), high)
            if match.end() >= low
        ]
        cuts.extend(_Cut(edge, _PARAGRAPH_RANK) for edge in self._fence_edges(low, high))
        if not cuts:
            cuts = self._matches(_LINE, low, high, _LINE_RANK)
        if not cuts:
            cuts = self._matches(_SENTENCE, low, high, _SENTENCE_RANK)
        if not cuts:
            cuts = self._matches(_SPACE, low, high, _SPACE_RANK)
        return [cut for cut in cuts if not self._splits(cut.at)]

    def _matches(self, pattern: re.Pattern[str], low: int, high: int, rank: int) -> list[_Cut]:
        found = pattern.finditer(self._text, low - 1, high)
        return [_Cut(match.end(), rank) for match in found if match.end() >= low]

    def _rank(self, position: int) -> int:
        """Rank a place after a blank line."""
        if self._fence_at(position) or self._follows_heading(position):
            return _LINE_RANK
        is_indented = position < len(self._text) and self._text[position - 1] in " \t"
        return _PARAGRAPH_RANK - 1 if is_indented else _PARAGRAPH_RANK

    def _follows_heading(self, position: int) -> bool:
        index = bisect_left(self._heading_starts, position) - 1
        if index < 0:
            return False
        heading_end = self._outline.headings[index].end
        return self._next_ink(heading_end) == self._next_ink(position)

    def _fence_at(self, position: int) -> tuple[int, int] | None:
        """Return the fenced code that *position* would split."""
        index = bisect_left(self._fence_starts, position) - 1
        if index < 0:
            return None
        fence = self._outline.fences[index]
        return fence if fence[0] < position < fence[1] else None

    def _fence_edges(self, low: int, high: int) -> list[int]:
        first = max(bisect_left(self._fence_starts, low) - 1, 0)
        last = bisect_right(self._fence_starts, high)
        edges = (edge for fence in self._outline.fences[first:last] for edge in fence)
        return [edge for edge in edges if low <= edge <= high]

    def _splits(self, position: int) -> bool:
        """Whether a cut before *position* tears a character from its marks."""
        if not 0 < position < len(self._text):
            return False
        return _is_mark(self._text[position]) or self._text[position - 1] == _ZERO_WIDTH_JOINER

    def _forced_cut(self, low: int, high: int) -> _Cut:
        """Cut where there is no white space: beside punctuation, within marks, or within an endless word."""
        text, high = self._text, min(high, len(self._text))
        within_marks = 0
        for at in range(high, low - 1, -1):
            if _is_mark(text[at]) if at < len(text) else False:
                if not within_marks and _is_mark(text[at - 1]):
                    within_marks = at
            elif not (_is_word(text[at - 1]) and _is_word(text[at])) and not self._splits(at):
                return _Cut(at, _PUNCTUATION_RANK)
        at = within_marks or high
        while not within_marks and at > low and self._splits(at):
            at -= 1
        return _Cut(at, _NO_OVERLAP_RANK)

    def _overlap_start(self, previous_start: int, end: int, following: int) -> int:
        """Choose where the next chunk begins: at the best place some way before *end*, else at *following*."""
        if (
            end - previous_start < CHUNK_CHARS_MIN - OVERLAP_CHARS
            or following - end > OVERLAP_CHARS
        ):
            return following
        low, high = end - OVERLAP_CHARS * 3 // 2, end - OVERLAP_CHARS // 2
        heading_index = bisect_right(self._heading_starts, end) - 1
        if heading_index >= 0:
            low = max(low, self._outline.headings[heading_index].end)
        if low >= high or low <= previous_start:
            return following
        cuts = self._cuts(low, high)
        if not cuts:
            return following
        best = max(cuts, key=lambda cut: (cut.rank, -abs(cut.at - (end - OVERLAP_CHARS))))
        start = self._next_ink(best.at)
        return start if start is not None and start < end else following

    def _heading_path(self, start: int, end: int) -> str:
        """Return the path that holds where the chunk's first text that is no heading stands."""
        index = bisect_right(self._heading_starts, start) - 1
        headings = self._outline.headings
        while index + 1 < len(headings) and headings[index + 1].start < end:
            below = headings[index].end if index >= 0 else start
            if self._next_ink(max(below, start)) != headings[index + 1].start:
                break
            index += 1
        return self._heading_paths[index] if index >= 0 else ""

    def _next_ink(self, position: int) -> int | None:
        match = _INK.search(self._text, position)
        return match.start() if match else None

    def _trim(self, start: int, end: int) -> int:
        text = self._text
        while end - CHUNK_CHARS_MAX > start and text[end - CHUNK_CHARS_MAX : end].isspace():
            end -= CHUNK_CHARS_MAX
        while end > start + 1 and text[end - 1].isspace():
            end -= 1
        return end


def _heading(text: str, section: Section) -> Heading:
    """Return the section's beginning; its title may be the first line of its text, or in no line."""
    is_written = text.startswith(section.title, section.start)
    end = section.start + len(section.title) * is_written
    return Heading(section.start, end, section.level, section.title)


def _heading_paths(headings: tuple[Heading, ...]) -> list[str]:
    """Join each heading with those it stands under."""
    paths: list[str] = []
    above: list[Heading] = []
    for heading in headings:
        while above and above[-1].level >= heading.level:
            above.pop()
        if heading.title:
            above.append(heading)
        path = " > ".join(each.title for each in above)
        paths.append(path[:HEADING_PATH_CHARS_MAX])
    return paths


def _is_word(char: str) -> bool:
    return char.isalnum() or char == "_"


def _is_mark(char: str) -> bool:
    """Whether *char* belongs to the one before it: a combining mark, a joiner or a skin tone."""
    if char < "\u0300":
        return False
    return (
        unicodedata.category(char).startswith("M")
        or char in "\u200c\u200d"
        or "\U0001f3fb" <= char <= "\U0001f3ff"
    )
