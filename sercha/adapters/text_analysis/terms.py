"""The terms of a search after analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sercha.adapters.text_analysis.analysis import Token, normal, parts, set_apart, words
from sercha.domain.query import Occurrence, SearchQuery, Term

QUERIES_KEPT = 256
"""A query is analysed once for the engine, and again for each of its results."""
Tokens = tuple[tuple[int, str], ...]
"""Tokens with their distance from the first one."""


@dataclass(frozen=True, slots=True)
class TermPlan:
    """One term after analysis."""

    occurrence: Occurrence
    words: Tokens
    parts: Tokens
    fragment: str | None

    @property
    def is_empty(self) -> bool:
        """Nothing of it could ever be in the index."""
        return not (self.words or self.parts or self.fragment)


def plan_terms(query: SearchQuery) -> list[TermPlan]:
    """Analyse the terms, each distinct one once."""
    return list(_plan(query.terms))


@lru_cache(maxsize=QUERIES_KEPT)
def _plan(terms: tuple[Term, ...]) -> tuple[TermPlan, ...]:
    plans: dict[TermPlan, None] = {}
    for term in terms:
        text = normal(term.text)
        word_tokens = words(text)
        part_tokens = parts(set_apart(text)) if not term.is_phrase or not word_tokens else []
        single = word_tokens[0].text if len(word_tokens) == 1 else ""
        fragment = single if single.isascii() and single else None
        plan = TermPlan(term.occurrence, _relative(word_tokens), _relative(part_tokens), fragment)
        plans[plan] = None
    return tuple(plans)


def _relative(tokens: Sequence[Token]) -> Tokens:
    first = tokens[0].position if tokens else 0
    return tuple((token.position - first, token.text) for token in tokens)
