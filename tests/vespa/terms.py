"""Makes the terms of a query as the fields need them: words of text, whole strings, numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.vespa.analysis import whole, words
from tests.vespa.items import AnyOf, Equivalent, Item, Nothing, Term
from tests.vespa.model import Field
from tests.vespa.query_errors import BAD_REQUEST, QueryError
from tests.vespa.searchable import Kind, element_of, kind_of, single

_INTEGER = re.compile(r"[+-]?\d+\Z")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?\Z")


def number(text: str) -> int | float | None:
    """The number that *text* is, or None."""
    text = text.strip()
    if _INTEGER.match(text):
        return int(text)
    return float(text) if _NUMBER.match(text) else None


def refuse_tensor(fields: Sequence[Field], name: str) -> None:
    """Refuse terms in tensors.

    Raises:
        QueryError: one of *fields* is a tensor.
    """
    if any(kind_of(each) is Kind.TENSOR for each in fields):
        raise QueryError(
            BAD_REQUEST,
            f"Invalid search request: Cannot search for terms in '{name}': It is a tensor field",
        )


@dataclass(frozen=True, slots=True)
class TermMaker:
    """Makes terms; the settings are the annotations of the term.

    Without *normalizes_case* the words stay as they are written, so that in an index, which is in lower
    case, only such words are found.
    """

    is_ranked: bool = True
    is_prefix: bool = False
    normalizes_case: bool = True

    def term(self, fields: Sequence[Field], text: str) -> Item:
        """A term in any of *fields*; text is a phrase of its words."""
        refuse_tensor(fields, fields[0].name if len(fields) == 1 else "")
        by_words: dict[tuple[str | int | float | bool, ...], list[str]] = {}
        for field in fields:
            key = self._words(field, text)
            if key:
                by_words.setdefault(key, []).append(field.name)
        terms = [
            Term(tuple(names), key, self.is_ranked, self.is_prefix)
            for key, names in by_words.items()
        ]
        if len(terms) > 1:
            return AnyOf(tuple(terms))
        return terms[0] if terms else Nothing()

    def equivalent(self, fields: Sequence[Field], texts: Sequence[str]) -> Item:
        """Terms that count as one."""
        found = [self.term(fields, text) for text in texts]
        terms = tuple(each for each in found if isinstance(each, Term))
        return Equivalent(terms, self.is_ranked) if terms else Nothing()

    def _words(self, field: Field, text: str) -> tuple[str | int | float | bool, ...]:
        match kind_of(field):
            case Kind.TEXT:
                if self.normalizes_case:
                    return tuple(words(text))
                return tuple(re.findall(r"[^\W_]+", text))
            case Kind.WHOLE:
                return (whole(text, is_cased=field.is_cased),)
            case Kind.NUMBER:
                value = number(text)
                if value is None:
                    return ()
                return (single(value) if element_of(field.type) == "float" else value,)
            case Kind.BOOLEAN:
                return (text == "true",) if text in ("true", "false") else ()
            case _:
                return ()
