"""Printing: tables for people, tab-separated lines for pipes, JSON for programs, nothing that moves a cursor."""

from __future__ import annotations

import html
import json
import re
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_MARK = re.compile(r"<mark>(.*?)</mark>", re.DOTALL)
_TAG = re.compile(r"</?mark>")


def safe(text: object) -> str:
    """Return text without characters that steer a terminal or break a line."""
    return _CONTROL.sub("\ufffd", str(text).replace("\n", " ").replace("\t", " "))


def safe_lines(text: str) -> list[str]:
    """Return the lines of a text, each harmless."""
    return [safe(line) for line in text.splitlines()] or [""]


def print_json(value: object) -> None:
    """Print a value as JSON, readable and ASCII only where the terminal wants it."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Print rows: a table on a terminal, else lines with tabs and no header. *empty* goes to stderr."""
    if not rows:
        print(empty, file=sys.stderr)
        return
    cells = [["" if cell is None else safe(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in cells:
            print("\t".join(row))
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    Output().print(table)


def highlighted(snippet: str) -> Text:
    """Turn a snippet (escaped HTML with ``<mark>``) into text with the matches in bold."""
    text = Text()
    for number, part in enumerate(_MARK.split(snippet)):
        words = safe(html.unescape(_TAG.sub("", part)))
        text.append(words, style="bold" if number % 2 else None)
    return text


class Output(Console):
    """A console that lets a broken pipe through: `sercha.cli.exits` knows what to do about it."""

    def on_broken_pipe(self) -> None:
        """Go on with the `BrokenPipeError` that is being handled."""
        raise


def is_terminal() -> bool:
    """Whether somebody watches the output."""
    return sys.stdout.isatty()
