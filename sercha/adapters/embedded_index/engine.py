"""The border to Tantivy: every call into it goes through here and fails as an ordinary exception.

A panic in Rust arrives as a ``BaseException`` that would end the whole process; inside `guarded` it
becomes `EngineFailure` like every other error of the engine.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol, cast

import tantivy

Hit = tuple[int, tantivy.DocAddress]
"""A whole-number score, and where the entry is."""


class EngineFailure(Exception):
    """Tantivy failed: damaged files, a full disk, or a bug. Never leaves this package."""


class _CountedResult(Protocol):
    count: int


@contextmanager
def guarded(doing: str) -> Generator[None]:
    """Raise `EngineFailure` for whatever Tantivy raises inside; everything else passes."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, SystemError, TypeError, KeyError) as error:
        raise EngineFailure(f"{doing}: {error}") from error
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise EngineFailure(f"{doing}: {error}") from error
        raise


def top(searcher: tantivy.Searcher, query: tantivy.Query, limit: int) -> tuple[list[Hit], int]:
    """The best *limit* entries as (whole-number score, address), and how many match in all."""
    result = searcher.search(query, limit=max(1, limit), count=True)
    hits = [(round(cast("float", score)), address) for score, address in result.hits]
    return hits, cast("_CountedResult", result).count


def count(searcher: tantivy.Searcher, query: tantivy.Query) -> int:
    """How many live entries match."""
    return top(searcher, query, 1)[1]


def integers(
    searcher: tantivy.Searcher, field: str, addresses: list[tantivy.DocAddress]
) -> list[int]:
    """Values of an integer field that every one of the entries has."""
    values = searcher.fast_field_values(field, addresses)
    if None in values:
        raise ValueError(f"the column {field} has gaps")
    return cast("list[int]", values)
