"""From a parsed search to what is asked of Vespa.

The YQL says only how many terms of which kind there are and which filters apply; every value, the user's words
first of all, is a parameter. A word is spelled before it gets there (see `sercha.adapters.vespa.tokens`), so a parameter
is nothing but letters, digits and spaces. The caller's principals are one of the conditions, always.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sercha.adapters.text_analysis.folder_keys import folder_key
from sercha.adapters.text_analysis.terms import TermPlan, Tokens
from sercha.adapters.vespa.fields import list_parameter
from sercha.adapters.vespa.names import (
    DOCUMENT,
    QUERY_PROFILE,
    SUMMARY,
    TEXT_PROFILE,
    vector_profile,
    vectors_field,
)
from sercha.adapters.vespa.package import FUSED
from sercha.adapters.vespa.tokens import spell, spell_all
from sercha.domain.filters import microseconds
from sercha.domain.query import Occurrence, SearchMode, SearchQuery
from sercha.services.ports.vector_search import QueryVector

PREFIX = "sercha_"
"""Begins the names of our parameters: Vespa has its own, `sources` among them."""
MODIFIED_MIN, MODIFIED_MAX = -(10**17), 10**18
"""Beyond any date; a document without one has a value far below, which no condition may let through."""


@dataclass(slots=True)
class _Terms:
    """Clauses by what they ask, with the parameters that they name."""

    parameters: dict[str, str] = field(default_factory=dict[str, str])
    required: list[str] = field(default_factory=list[str])
    optional: list[str] = field(default_factory=list[str])
    excluded: list[str] = field(default_factory=list[str])
    chunks: list[str] = field(default_factory=list[str])
    """Only to score chunks: these decide nothing about documents."""

    def add(self, plan: TermPlan) -> None:
        """Add one term."""
        clause = f"({' or '.join(self._views(plan))})"
        if plan.occurrence is Occurrence.EXCLUDED:
            self.excluded.append(clause)
            return
        (self.required if plan.occurrence is Occurrence.REQUIRED else self.optional).append(clause)

    def _views(self, plan: TermPlan) -> Iterator[str]:
        is_scored = plan.occurrence is not Occurrence.EXCLUDED
        for fields, tokens in (("text_words", plan.words), ("text_parts", plan.parts)):
            if tokens:
                name = self._name(_phrase(tokens))
                yield f"{fields} contains @{name}"
                if is_scored:
                    self.chunks.append(f"chunk_words contains @{name}")
        if plan.fragment is not None:
            name = self._name(spell(plan.fragment))
            yield f"fragments contains @{name}"
            if is_scored:
                self.chunks.append(f"chunk_words contains @{name}")

    def _name(self, value: str) -> str:
        name = f"{PREFIX}{len(self.parameters)}"
        self.parameters[name] = value
        return name


def _phrase(tokens: Tokens) -> str:
    """Write tokens that stand side by side: Vespa makes a phrase of several words of one parameter.

    A word that is too long for any index leaves a gap, as it does in a text.
    """
    places = dict(tokens)
    return spell_all(places.get(place, "") for place in range(max(places) + 1))


def text_query(
    plans: Sequence[TermPlan],
    query: SearchQuery,
    principals: frozenset[str],
    *,
    generation: str,
) -> dict[str, Any] | None:
    """Return the body of a request to ``/search/``; None when nothing can match.

    Args:
        plans: the terms of *query*, analysed.
        query: its filters and page.
        principals: whose documents may be found; nobody's: none.
        generation: the one that is searched.
    """
    terms = _terms(plans)
    if terms is None or not principals:
        return None
    parameters: dict[str, str] = dict(terms.parameters)
    conditions = [*terms.required] or [f"({' or '.join(terms.optional)})"]
    conditions += _filters(query, principals, generation, parameters)
    conditions += [f"!{clause}" for clause in terms.excluded]
    ranked = [*(terms.optional if terms.required else ()), *terms.chunks]
    where = f"rank({', '.join([' and '.join(conditions), *ranked])})"
    return {**_request(where, query, TEXT_PROFILE), **parameters}


def vector_query(
    plans: Sequence[TermPlan],
    query: SearchQuery,
    principals: frozenset[str],
    vector: QueryVector,
    *,
    generation: str,
) -> dict[str, Any] | None:
    """Return the body of a request in the query's mode, semantic or hybrid; None when nothing can match.

    What must be there or must not be there holds in both modes; the vector only ever stands beside optional terms.
    """
    terms = _terms(plans)
    if terms is None or not principals:
        return None
    parameters: dict[str, str] = dict(terms.parameters)
    near = f"({{targetHits:{FUSED}}}nearestNeighbor({vectors_field(vector.model)}, vector))"
    is_semantic = query.mode is SearchMode.SEMANTIC
    if is_semantic:
        conditions, ranked = [near, *terms.required], []
    elif terms.required:
        conditions, ranked = [*terms.required], [near, *terms.optional, *terms.chunks]
    else:
        conditions, ranked = [f"({' or '.join([near, *terms.optional])})"], terms.chunks
    conditions += _filters(query, principals, generation, parameters)
    conditions += [f"!{clause}" for clause in terms.excluded]
    where = " and ".join(conditions)
    if ranked:
        where = f"rank({', '.join([where, *ranked])})"
    return {
        **_request(where, query, vector_profile(query.mode, vector.model)),
        "input.query(vector)": vector.vector.values(),
        **parameters,
    }


def _request(where: str, query: SearchQuery, profile: str) -> dict[str, Any]:
    return {
        "yql": f"select number, matchfeatures from {DOCUMENT} where {where}",
        "queryProfile": QUERY_PROFILE,
        "ranking": profile,
        "hits": query.limit,
        "offset": query.offset,
        "presentation.summary": SUMMARY,
        "presentation.format.tensors": "short-value",
        "model.language": "en",
    }


def _terms(plans: Sequence[TermPlan]) -> _Terms | None:
    terms = _Terms()
    for plan in plans:
        if not plan.is_empty:
            terms.add(plan)
        elif plan.occurrence is Occurrence.REQUIRED:
            return None
    return terms if terms.required or terms.optional else None


def _filters(
    query: SearchQuery, principals: frozenset[str], generation: str, parameters: dict[str, str]
) -> Iterator[str]:
    """Give the conditions that are no terms; each stands at the top, joined to the others by ``and``."""
    parameters[f"{PREFIX}readers"] = list_parameter(map(spell, principals))
    yield f"readers in (@{PREFIX}readers)"
    parameters[f"{PREFIX}generation"] = generation
    yield f"generation contains @{PREFIX}generation"
    yield "deleted = 0"
    if query.source_ids:
        parameters[f"{PREFIX}sources"] = list_parameter(each.hex for each in query.source_ids)
        yield f"source in (@{PREFIX}sources)"
    if query.mime_types:
        parameters[f"{PREFIX}types"] = list_parameter(map(spell, query.mime_types))
        yield f"types in (@{PREFIX}types)"
    if query.modified_from is not None or query.modified_before is not None:
        start, end = query.modified_from, query.modified_before
        first = MODIFIED_MIN if start is None else microseconds(start)
        last = MODIFIED_MAX if end is None else microseconds(end)
        parameters[f"{PREFIX}modified_from"] = str(first)
        parameters[f"{PREFIX}modified_before"] = str(last)
        yield f"modified >= @{PREFIX}modified_from"
        yield f"modified < @{PREFIX}modified_before"
    if query.path:
        parameters[f"{PREFIX}path"] = folder_key(query.path)
        yield f"folders contains @{PREFIX}path"
