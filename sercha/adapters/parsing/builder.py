"""What all parsers write their text into: clean, with sections, and never longer than allowed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sercha.adapters.parsing.cleaning import clean_line, clean_text
from sercha.adapters.parsing.language import LANGUAGE, find_language
from sercha.domain.document import TRUNCATED, ExtractedText, Section
from sercha.domain.markdown import HEADING_CHARS_MAX

SECTIONS_MAX = 100_000
TITLE_CHARS_MAX = 500
VALUE_CHARS_MAX = 1_000
"""A longer value of the metadata is cut."""


class Full(Exception):
    """The text is as long as it may be."""


@dataclass(frozen=True, slots=True)
class Job:
    """One file to parse."""

    path: str
    content: bytes
    chars_max: int


@dataclass(slots=True)
class Facts:
    """What a format says about its document."""

    title: str | None = None
    metadata: dict[str, str] = field(default_factory=dict[str, str])

    def note(self, key: str, value: object) -> None:
        """Keep a value under a key of the reference page, unless it is empty or was there before."""
        text = value.isoformat() if isinstance(value, datetime) else value
        if text is not None and key not in self.metadata:
            line = clean_line(str(text), VALUE_CHARS_MAX)
            if line:
                self.metadata[key] = line

    def name(self, title: str | None) -> None:
        """Take a title, unless it is blank or there is one already."""
        if not self.title and title:
            self.title = clean_line(title, TITLE_CHARS_MAX) or None


class TextBuilder:
    """Collects a document's text; `Full` is raised when no more of it is kept."""

    def __init__(self, chars_max: int) -> None:
        self._chars_max = chars_max
        self._pieces: list[str] = []
        self._sections: list[Section] = []
        self._length = 0
        self._end = "\n\n"
        """The last two characters, as if a blank line came before the text."""
        self._cut: str | None = None

    @property
    def length(self) -> int:
        """Characters so far."""
        return self._length

    def add(self, text: str) -> None:
        """Append *text* as it is, but cleaned.

        Raises:
            Full: not all of it fits, or no more will.
        """
        room = self._chars_max - self._length
        piece = clean_text(text[: room + 1])
        if len(piece) > room:
            self._append(piece[:room])
            self.cut(f"{self._chars_max} characters")
        self._append(piece)

    def line(self, text: str) -> None:
        """Append *text* on lines of its own, if there is anything in it."""
        if text and not text.isspace():
            self.break_line()
            self.add(text.strip("\r\n"))
            self.add("\n")

    def paragraph(self, text: str) -> None:
        """Append *text* with a blank line before it, if there is anything in it."""
        if text and not text.isspace():
            self.break_paragraph()
            self.add(text.strip())
            self.add("\n")

    def break_line(self) -> None:
        """Let what follows begin on a new line."""
        if not self._end.endswith("\n"):
            self.add("\n")

    def break_paragraph(self) -> None:
        """Let what follows come after a blank line."""
        self.break_line()
        if self._end != "\n\n":
            self.add("\n")

    def section(self, title: str, level: int = 1, *, is_apart: bool = False) -> None:
        """Begin a section, after a blank line; its title is not added to the text."""
        line = clean_line(title, HEADING_CHARS_MAX)
        if not line:
            return
        if len(self._sections) >= SECTIONS_MAX:
            self.cut(f"{SECTIONS_MAX} sections")
        self.break_paragraph()
        self._sections.append(Section(self._length, line, level, is_apart))

    def heading(self, text: str, level: int) -> None:
        """Append a heading that is part of the text."""
        line = clean_line(text, HEADING_CHARS_MAX)
        if line:
            self.section(line, level)
            self.paragraph(" ".join(text.split()))

    def cut(self, kept: str) -> None:
        """Note that only *kept* is kept of the document.

        Raises:
            Full: always.
        """
        self._cut = self._cut or kept
        raise Full

    def finish(self, mime_type: str, facts: Facts, charset: str | None = None) -> ExtractedText:
        """Return all that was added."""
        metadata = dict(facts.metadata)
        if self._cut is not None:
            metadata[TRUNCATED] = self._cut
        text = "".join(self._pieces)
        if LANGUAGE not in metadata and (language := find_language(text, mime_type)):
            metadata[LANGUAGE] = language
        sections = tuple(each for each in self._sections if each.start < len(text))
        return ExtractedText(text, mime_type, facts.title, charset, metadata, sections)

    def _append(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            self._length += len(piece)
            self._end = (self._end + piece)[-2:]
