"""What a search may be limited to besides its words: kinds of documents, when they were changed, where they are.

Engines compare whole values made here of documents and of queries alike, so a filter means the same in all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath

from sercha.errors import Rejected

TYPES_MAX = 20
PATH_CHARS_MAX = 4_096
ROOT = "/"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAME = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}"
_TYPE = re.compile(rf"{_NAME}/(?:{_NAME}|\*)")
_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_CHARS_SHOWN = 40


def type_names(mime_type: str) -> tuple[str, str]:
    """Give the names that a document's type goes by: the type without parameters, and its family."""
    name = mime_type.partition(";")[0].strip().lower()
    return name, f"{name.partition('/')[0]}/*"


def folders(path: str) -> Iterator[str]:
    """Give all folders that a path lies in, outermost first, and the path itself."""
    whole = _whole(path)
    for folder in [*reversed(whole.parents), whole]:
        yield str(folder)


def folder(path: str) -> str:
    """Return a path as `folders` gives it: slashes that are repeated, or end it, do not count."""
    return str(_whole(path))


def microseconds(instant: datetime) -> int:
    """Return the microseconds from 1970 to *instant*, exactly."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def parse_instant(text: str) -> datetime:
    """Read an instant as RFC 3339 writes it; digits beyond microseconds are dropped.

    Raises:
        ValueError: it is none.
    """
    if not _INSTANT.fullmatch(text):
        raise ValueError(f"{text!r} is no instant such as 2026-11-01T09:30:00Z")
    return datetime.fromisoformat(text.upper())


def check_types(types: Sequence[str]) -> tuple[str, ...]:
    """Return the types in lower case, each once.

    Raises:
        Rejected: ``bad-types``.
    """
    if len(types) > TYPES_MAX:
        raise Rejected(
            f"types: {len(types)} are too many; at most {TYPES_MAX} are allowed", code="bad-types"
        )
    names = tuple(dict.fromkeys(each.lower() for each in types))
    for name in names:
        if not _TYPE.fullmatch(name):
            raise Rejected(
                f"types: {_shown(name)} is neither a type such as text/markdown nor a family such as text/*",
                code="bad-types",
            )
    return names


def check_modified(start: datetime | None, end: datetime | None) -> None:
    """Check a span of time, either end of which may be open.

    Raises:
        Rejected: ``bad-modified``.
    """
    for name, instant in (("modified_from", start), ("modified_before", end)):
        if instant is not None and instant.utcoffset() is None:
            raise Rejected(f"{name}: {instant.isoformat()} has no time zone", code="bad-modified")
    if start is not None and end is not None and start >= end:
        raise Rejected(
            f"modified_before: {end.isoformat()} is not after modified_from, {start.isoformat()}",
            code="bad-modified",
        )


def check_path(path: str) -> None:
    """Check a folder or file; any characters are allowed.

    Raises:
        Rejected: ``bad-path``.
    """
    if len(path) > PATH_CHARS_MAX:
        raise Rejected(
            f"path: {len(path)} characters are too many; at most {PATH_CHARS_MAX} are allowed",
            code="bad-path",
        )


def _whole(path: str) -> PurePosixPath:
    return PurePosixPath(ROOT) / path.lstrip(ROOT)


def _shown(text: str) -> str:
    short = text if len(text) <= _CHARS_SHOWN else text[:_CHARS_SHOWN] + "…"
    return ascii(short) if not short.isprintable() else repr(short)
