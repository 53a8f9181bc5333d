"""What may stand in a document's text, whatever it was made from."""

from __future__ import annotations

import re

_LINE_END = re.compile("\r\n?|[\x0b\x0c\x85]")
# What PostgreSQL refuses (NUL, surrogates) and what only moves a cursor.
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_SPACES = re.compile(r"\s+")


def clean_text(text: str) -> str:
    """Make all line ends ``\\n`` and all other control characters but the tabulator spaces."""
    return _CONTROL.sub(" ", _LINE_END.sub("\n", text))


def clean_line(text: str, chars_max: int) -> str:
    """Make one line of *text* with single spaces; a longer one is cut and ends in an ellipsis."""
    # Four times the limit leaves room for white space and still bounds the work.
    line = _SPACES.sub(" ", clean_text(text[: 4 * chars_max])).strip()
    return line if len(line) <= chars_max else line[: chars_max - 1].rstrip() + "…"
