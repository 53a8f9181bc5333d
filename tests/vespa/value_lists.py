"""Lists of values in one parameter, for ``field in (@list)``.

Values are separated by commas. One that starts with a quote runs to the next quote of the same kind; there
are no escapes. Another one ends at the next comma, and the spaces around it are dropped.
"""

from __future__ import annotations

import re

_INTEGER = re.compile(r"[+-]?\d+\Z")


def strings_of(text: str) -> list[str]:
    """Split a list of strings.

    Raises:
        ValueError: a quote is not closed.
    """
    values: list[str] = []
    at = 0
    while at < len(text):
        start = _after_spaces(text, at)
        quote = text[start : start + 1]
        if quote in ("'", '"'):
            end = text.find(quote, start + 1)
            if end < 0:
                raise ValueError(f"Expected one of [{quote}] after {start + 1}")
            values.append(text[start + 1 : end])
            end += 1
        else:
            comma = text.find(",", at)
            end = len(text) if comma < 0 else comma
            values.append(text[at:end].strip())
        at = _after_comma(text, end)
    return values


def integers_of(text: str) -> list[int]:
    """Split a list of integers.

    Raises:
        ValueError: one is none.
    """
    values: list[int] = []
    at = 0
    while at < len(text):
        comma = text.find(",", at)
        end = len(text) if comma < 0 else comma
        part = text[at:end]
        if not _INTEGER.match(part.strip()):
            raise ValueError(
                f"Expected an integer between positions {at} and {end}, but got {part}"
            )
        values.append(int(part))
        at = _after_comma(text, end)
    return values


def _after_spaces(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _after_comma(text: str, at: int) -> int:
    after = _after_spaces(text, at)
    return after + 1 if text[after : after + 1] == "," else at
