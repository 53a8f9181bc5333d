"""The outline of a Markdown text: its headings, fenced code and front matter, with their spans.

A scanner for lines, not a parser: containers (lists, quotes) are not followed, so a fence may be indented
by any amount. It looks only at lines that can matter and takes linear time on any input.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HEADING_CHARS_MAX = 120
"""A longer heading is cut."""

FRONT_MATTER_CHARS_MAX = 20_000

_CANDIDATE = re.compile(
    r"^(?:(?P<fence>[ \t]*(?:`{3,}|~{3,}))|(?P<atx> {0,3}#{1,6})(?=[ \t\n]|\Z)"
    r"|(?P<setext> {0,3}(?:=+|-+))[ \t]*$)",
    re.MULTILINE,
)
_NO_SETEXT_TITLE = re.compile(r"\s*(?:[-*+>|#]|\d{1,9}[.)]\s)|\s{4}|\t")
_FRONT_MATTER_END = re.compile(r"^(?:---|\.\.\.)[ \t]*$", re.MULTILINE)
_FRONT_MATTER_TITLE = re.compile(
    r"^title[ \t]*:[ \t]*(\S[^\n]{0,400})", re.MULTILINE | re.IGNORECASE
)
_LINK = re.compile(r"!?\[([^\[\]]{0,300})\](?:\([^()]{0,300}\)|\[[^\[\]]{0,300}\])")
_MARKUP = re.compile(r"`+|\*{1,3}|~~|(?<!\w)_{1,3}|_{1,3}(?!\w)|<[^<>]{1,300}>")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading; the span holds its lines without the last line end."""

    start: int
    end: int
    level: int
    title: str
    """Without markup; may be empty."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What structures a Markdown text. Everything is ascending; nothing overlaps."""

    headings: tuple[Heading, ...]
    fences: tuple[tuple[int, int], ...]
    """Fenced code with its fences, half-open, the last line end not counted."""
    front_matter: tuple[int, int] | None = None
    """Span of the lines between the two rulers at the very beginning."""


def outline(text: str) -> Outline:
    """Find the headings, fences and front matter of *text*."""
    front_matter = _front_matter(text)
    position = front_matter[1] + 3 if front_matter else 0
    headings: list[Heading] = []
    fences: list[tuple[int, int]] = []
    fence: tuple[int, str] | None = None
    for match in _CANDIDATE.finditer(text, position):
        line_end = _line_end(text, match.start())
        if match.lastgroup == "fence":
            marks = match.group().strip()
            if fence is None:
                # A line such as ```code``` opens nothing: backticks may not follow an opening fence.
                if marks[0] == "~" or "`" not in text[match.end() : line_end]:
                    fence = (match.start(), marks)
            elif marks.startswith(fence[1]) and not text[match.end() : line_end].strip():
                fences.append((fence[0], line_end))
                fence = None
        elif fence is None:
            heading = _heading(text, match, line_end, position)
            if heading is not None:
                headings.append(heading)
    if fence is not None:
        fences.append((fence[0], len(text)))
    return Outline(tuple(headings), tuple(fences), front_matter)


def find_title(text: str) -> str | None:
    """Return the title: the front matter's ``title``, else the first heading; None where there is neither."""
    parts = outline(text)
    if parts.front_matter:
        match = _FRONT_MATTER_TITLE.search(text, *parts.front_matter)
        title = _plain(match[1].strip().strip("'\"")) if match else ""
        if title:
            return title
    return next((heading.title for heading in parts.headings if heading.title), None)


def _front_matter(text: str) -> tuple[int, int] | None:
    if not text.startswith("---\n"):
        return None
    end = _FRONT_MATTER_END.search(text, 4, FRONT_MATTER_CHARS_MAX)
    return (4, end.start()) if end else None


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    return len(text) if end < 0 else end


def _heading(text: str, match: re.Match[str], line_end: int, floor: int) -> Heading | None:
    if match.lastgroup == "atx":
        level = match.group().count("#")
        # Four times the limit leaves room for markup and still bounds the work on one endless line.
        raw = text[match.end() : min(line_end, match.end() + 4 * HEADING_CHARS_MAX)].strip()
        closed = raw.rstrip("#")
        if closed != raw and (not closed or closed[-1] in " \t"):
            raw = closed
        return Heading(match.start(), line_end, level, _plain(raw))
    return _setext(text, match, line_end, floor)


def _setext(text: str, match: re.Match[str], line_end: int, floor: int) -> Heading | None:
    above_end = match.start() - 1
    if above_end <= floor:
        return None
    above_start = max(text.rfind("\n", floor, above_end) + 1, floor)
    if above_end - above_start > 4 * HEADING_CHARS_MAX:
        return None
    above = text[above_start:above_end]
    if not above.strip() or _NO_SETEXT_TITLE.match(above):
        return None
    level = 1 if "=" in match.group() else 2
    return Heading(above_start, line_end, level, _plain(above))


def _plain(raw: str) -> str:
    without_links = _LINK.sub(r"\1", raw)
    plain = " ".join(_MARKUP.sub("", without_links).split())
    if len(plain) > HEADING_CHARS_MAX:
        plain = plain[: HEADING_CHARS_MAX - 1].rstrip() + "…"
    return plain
