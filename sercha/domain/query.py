"""A search as one value, made by one parser for all engines.

Syntax: words; ``"a phrase"``; ``-word`` or ``-"a phrase"`` leaves out documents that have it; ``+word``
must be there. A sign counts only before a letter, a digit, ``_`` or a quote, so that ``--verbose`` and
``->next`` are words. Everything else is just text: there is no way to write engine syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sercha.domain.filters import check_modified, check_path, check_types
from sercha.errors import Rejected

QUERY_CHARS_MAX = 2_000
TERMS_MAX = 64
LIMIT_MAX = 100
WINDOW_MAX = 10_000
"""The furthest result (offset + limit) that paging reaches."""


_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»＂", '"'))
_UNPRINTABLE = re.compile("[\0\ud800-\udfff]")
"""NUL, which no text has, and halves of surrogate pairs, which cannot be encoded."""
_TERM = re.compile(
    r"""
    (?:(?<![^\s"]) (?P<sign>[+-]) (?=[\w"]))?     # only where a term begins
    (?: "(?P<phrase>[^"]*) (?:"|$) | (?P<word>[^\s"]+) )
    """,
    re.VERBOSE,
)


class SearchMode(StrEnum):
    """How documents are matched."""

    TEXT = "text"
    SEMANTIC = "semantic"
    HYBRID = "hybrid"


class Occurrence(StrEnum):
    """What a term asks of a document."""

    OPTIONAL = "optional"
    """Adds to the score; where nothing is required, at least one optional term must match."""
    REQUIRED = "required"
    """Every result has it, somewhere in the document."""
    EXCLUDED = "excluded"
    """No result has it, anywhere in the document: what a search for it alone would find is left out."""


_SIGNS = {"": Occurrence.OPTIONAL, "+": Occurrence.REQUIRED, "-": Occurrence.EXCLUDED}


@dataclass(frozen=True, slots=True)
class Term:
    """A word or phrase in the user's own spelling; engines analyse it with their own analyser."""

    text: str
    occurrence: Occurrence = Occurrence.OPTIONAL
    is_phrase: bool = False


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """One parsed search with its filters and page."""

    text: str
    terms: tuple[Term, ...]
    mode: SearchMode = SearchMode.TEXT
    source_ids: tuple[UUID, ...] = ()
    """Only these sources; empty: all."""
    limit: int = 20
    offset: int = 0
    mime_types: tuple[str, ...] = ()
    """Only documents of one of these types or families (``text/*``), in lower case; empty: all."""
    modified_from: datetime | None = None
    """Only documents that were last changed then or later; those of which it is not known never are."""
    modified_before: datetime | None = None
    """Only documents that were last changed earlier."""
    path: str = ""
    """Only the document of this path, and those below it; empty: all."""


def parse_query(
    text: str,
    *,
    mode: SearchMode = SearchMode.TEXT,
    source_ids: tuple[UUID, ...] = (),
    limit: int = 20,
    offset: int = 0,
    mime_types: Sequence[str] = (),
    modified_from: datetime | None = None,
    modified_before: datetime | None = None,
    path: str = "",
) -> SearchQuery:
    """Parse what a user typed.

    Raises:
        Rejected: empty, longer than `QUERY_CHARS_MAX` characters, more than `TERMS_MAX` terms, only exclusions,
            paging outside the bounds, or a filter that means nothing; the message names the field.
    """
    text = _UNPRINTABLE.sub(" ", text)
    if len(text) > QUERY_CHARS_MAX:
        raise Rejected(
            f"query: {len(text)} characters are too many; at most {QUERY_CHARS_MAX} are allowed",
            code="query-too-long",
        )
    if not 1 <= limit <= LIMIT_MAX:
        raise Rejected(f"limit: {limit} is outside 1 to {LIMIT_MAX}", code="bad-limit")
    if not 0 <= offset <= WINDOW_MAX - limit:
        raise Rejected(
            f"offset: {offset} is outside 0 to {WINDOW_MAX - limit} (offset + limit may reach {WINDOW_MAX})",
            code="bad-offset",
        )
    types = check_types(mime_types)
    check_modified(modified_from, modified_before)
    check_path(path)
    terms = tuple(_terms(text))
    if len(terms) > TERMS_MAX:
        raise Rejected(
            f"query: {len(terms)} words are too many; at most {TERMS_MAX} are allowed",
            code="query-too-long",
        )
    if not any(term.occurrence is not Occurrence.EXCLUDED for term in terms):
        raise Rejected("query: give at least one word to look for", code="empty-query")
    return SearchQuery(
        text=text,
        terms=terms,
        mode=mode,
        source_ids=source_ids,
        limit=limit,
        offset=offset,
        mime_types=types,
        modified_from=modified_from,
        modified_before=modified_before,
        path=path,
    )


def _terms(text: str) -> Iterator[Term]:
    for match in _TERM.finditer(text.translate(_QUOTES)):
        occurrence = _SIGNS[match["sign"] or ""]
        if (phrase := match["phrase"]) is not None:
            if occurrence is Occurrence.OPTIONAL:
                occurrence = Occurrence.REQUIRED
            term = Term(" ".join(phrase.split()), occurrence, is_phrase=True)
        else:
            term = Term(match["word"], occurrence)
        if any(char.isalnum() or char == "_" for char in term.text):
            yield term
