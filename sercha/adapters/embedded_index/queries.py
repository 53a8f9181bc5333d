"""From a parsed search to Tantivy's query objects; user text is only ever tokens, never syntax.

Each way in which a term can be met is a clause of constant score, and all scores are whole numbers whose
sum stays below 2**24: Tantivy adds in 32-bit floats, which are exact there, so the order of addition and
the layout of the segments cannot change a score. Weights come from counts of live documents alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import tantivy
from tantivy import FieldType, Occur, Query

from sercha.adapters.embedded_index.entries import KIND_CHUNK, KIND_DOCUMENT
from sercha.adapters.text_analysis.folder_keys import folder_key
from sercha.adapters.text_analysis.terms import TermPlan, Tokens
from sercha.adapters.text_analysis.weights import (
    FRAGMENT,
    IMPACT_MAX,
    LEVELS,
    PARTS,
    PATH,
    PATH_PARTS,
    PHRASE,
    PHRASE_WORDS_COUNTED_MAX,
    TITLE,
    TITLE_PARTS,
    impact,
    rarity,
)
from sercha.domain.filters import microseconds
from sercha.domain.query import Occurrence, SearchQuery

SCORE_SUM_MAX = 2**24 - 1
SCALE_MAX = 1_000_000
"""How many steps of score one unit of relevance has, at most."""
TERM_SET_MIN = 500
"""From this many values on one set query is faster than a union of terms."""
_FACTOR_SUM = IMPACT_MAX + PHRASE + TITLE + TITLE_PARTS + PATH + PATH_PARTS + PARTS + FRAGMENT


@dataclass(frozen=True, slots=True)
class _Weights:
    """Turns relevance into whole-number scores; without a scale everything weighs nothing."""

    idf: float
    scale: float

    def of(self, factor: float) -> float:
        return float(round(self.idf * factor * self.scale))


_UNWEIGHTED = _Weights(0.0, 0.0)


class QueryBuilder:
    """Builds queries for one search against one state of the index."""

    def __init__(
        self, schema: tantivy.Schema, plans: Sequence[TermPlan], count: Callable[[Query], int]
    ) -> None:
        self._schema = schema
        self._plans = plans
        scoring = [
            plan
            for plan in plans
            if plan.occurrence is not Occurrence.EXCLUDED and not plan.is_empty
        ]
        if len(scoring) == 1:  # rarity only tells terms apart
            idfs = {scoring[0]: 1.0}
        else:
            live = count(self._term("kind", KIND_DOCUMENT))
            idfs = {plan: rarity(live, count(self._matches(plan, _UNWEIGHTED))) for plan in scoring}
        bound = sum(idfs.values()) * _FACTOR_SUM or 1.0
        room = SCORE_SUM_MAX - len(idfs) * (PHRASE_WORDS_COUNTED_MAX + 8)  # what rounding may add
        self.scale = min(float(SCALE_MAX), float(int(room / bound)))
        self._weights = {plan: _Weights(idf, self.scale) for plan, idf in idfs.items()}

    def documents(self, principals: frozenset[str], filters: Iterable[Query]) -> Query | None:
        """The query over documents that meet all *filters*; None when nothing can match."""
        if not self._can_match():
            return None
        clauses: list[tuple[Occur, Query]] = []
        optional = [
            (Occur.Should, self._matches(plan, self._weights[plan]))
            for plan in self._of(Occurrence.OPTIONAL)
        ]
        required = [
            (Occur.Must, self._matches(plan, self._weights[plan]))
            for plan in self._of(Occurrence.REQUIRED)
        ]
        if required:
            clauses += [*required, *optional]
        else:
            clauses.append((Occur.Must, Query.boolean_query(optional)))
        return Query.boolean_query([*clauses, *self._conditions(principals, filters)])

    def passing(self, principals: frozenset[str], filters: Iterable[Query]) -> Query | None:
        """The query over documents that meet all conditions, words apart that need not be there.

        None when nothing can match, also where *no* word that is looked for could be in any document.
        """
        if not self._can_match():
            return None
        required = [
            (Occur.Must, self._matches(plan, _UNWEIGHTED)) for plan in self._of(Occurrence.REQUIRED)
        ]
        return Query.boolean_query([*required, *self._conditions(principals, filters)])

    def among(self, numbers: Sequence[int]) -> Query:
        """The query over these documents, and their chunks."""
        return self._any_of("document_id", numbers)

    def all_chunks(self) -> Query:
        """The query over the chunks of all documents."""
        return self._term("kind", KIND_CHUNK)

    def _can_match(self) -> bool:
        wanted = [plan for plan in self._plans if plan.occurrence is not Occurrence.EXCLUDED]
        if any(plan.is_empty and plan.occurrence is Occurrence.REQUIRED for plan in wanted):
            return False
        return any(not plan.is_empty for plan in wanted)

    def _of(self, occurrence: Occurrence) -> Iterator[TermPlan]:
        return (p for p in self._plans if p.occurrence is occurrence and not p.is_empty)

    def _conditions(
        self, principals: frozenset[str], filters: Iterable[Query]
    ) -> Iterator[tuple[Occur, Query]]:
        """What every result meets, whatever it is ranked by; only documents have readers."""
        for plan in self._of(Occurrence.EXCLUDED):
            yield Occur.MustNot, self._matches(plan, _UNWEIGHTED)
        yield Occur.Must, self._any_of("readers", sorted(principals))
        for condition in filters:
            yield Occur.Must, condition

    def filters(self, query: SearchQuery) -> Iterator[Query]:
        """The conditions of a search that are no terms; they weigh nothing."""
        if query.source_ids:
            yield self._any_of("source", sorted(map(str, query.source_ids)))
        if query.mime_types:
            yield self._any_of("types", query.mime_types)
        if query.modified_from is not None or query.modified_before is not None:
            start, end = query.modified_from, query.modified_before
            span = Query.range_query(
                self._schema,
                "modified",
                FieldType.Integer,
                None if start is None else microseconds(start),
                None if end is None else microseconds(end) - 1,  # both ends belong to it
            )
            yield Query.const_score_query(span, 0.0)
        if query.path:
            yield self._any_of("folders", [folder_key(query.path)])

    def chunks(self, numbers: Sequence[int]) -> Query:
        """The query over the chunks of these documents."""
        clauses = [
            (Occur.Should, clause)
            for plan, weights in self._weights.items()
            for clause in self._chunk_clauses(plan, weights)
        ]
        return Query.boolean_query(
            [
                (Occur.Must, self._any_of("document_id", numbers)),
                (Occur.Must, Query.boolean_query(clauses)),
            ]
        )

    def _matches(self, plan: TermPlan, weights: _Weights) -> Query:
        """Documents that meet the term in any of its ways."""
        clauses: list[Query] = []
        if plan.words:
            clauses.append(self._text_clause(plan.words, weights))
            clauses.append(self._const("title_words", plan.words, weights.of(TITLE)))
            clauses.append(self._const("path_words", plan.words, weights.of(PATH)))
        if plan.parts:
            clauses.append(self._const("parts", plan.parts, weights.of(PARTS)))
            clauses.append(self._const("title_parts", plan.parts, weights.of(TITLE_PARTS)))
            clauses.append(self._const("path_parts", plan.parts, weights.of(PATH_PARTS)))
        if plan.fragment is not None:
            clauses.append(self._const("fragments", ((0, plan.fragment),), weights.of(FRAGMENT)))
        return Query.boolean_query([(Occur.Should, clause) for clause in clauses])

    def _text_clause(self, tokens: Tokens, weights: _Weights) -> Query:
        """The words in the text, weighed by how often each occurs."""
        is_phrase = len(tokens) > 1
        base = PHRASE if is_phrase else 0.0
        clauses = [(Occur.Must, self._const("words", tokens, weights.of(base + impact(0))))]
        if weights is not _UNWEIGHTED:
            counted = list(_distinct(tokens))[:PHRASE_WORDS_COUNTED_MAX]
            share = 1.0 / len(counted)
            for _, text in counted:
                clauses.extend(
                    (Occur.Should, self._const("impacts", ((0, f"{level}{text}"),), extra))
                    for level in range(1, LEVELS)
                    if (extra := weights.of((impact(level) - impact(0)) * share)) > 0
                )
        return Query.boolean_query(clauses)

    def _chunk_clauses(self, plan: TermPlan, weights: _Weights) -> Iterator[Query]:
        if plan.words:
            yield self._const("chunk_words", plan.words, weights.of(IMPACT_MAX))
            if len(plan.words) > 1:  # a phrase across the border of two chunks
                share = weights.of(PARTS / len(plan.words))
                for pair in _distinct(plan.words):
                    yield self._const("chunk_words", (pair,), share)
        if plan.parts:
            share = weights.of(PARTS / len(plan.parts))
            for pair in _distinct(plan.parts):
                yield self._const("chunk_parts", (pair,), share)
        if plan.fragment is not None:
            yield self._const("chunk_fragments", ((0, plan.fragment),), weights.of(FRAGMENT))

    def _const(self, field: str, tokens: Tokens, score: float) -> Query:
        if len(tokens) == 1:
            query = self._term(field, tokens[0][1])
        else:
            query = Query.phrase_query(self._schema, field, list(tokens))
        return Query.const_score_query(query, score)

    def _any_of(self, field: str, values: Sequence[str] | Sequence[int]) -> Query:
        if len(values) >= TERM_SET_MIN:
            union = Query.term_set_query(self._schema, field, values)
        else:
            union = Query.boolean_query([(Occur.Should, self._term(field, it)) for it in values])
        return Query.const_score_query(union, 0.0)

    def _term(self, field: str, value: str | int) -> Query:
        return Query.term_query(self._schema, field, value, "basic")


def _distinct(tokens: Tokens) -> Iterator[tuple[int, str]]:
    """Each text once, in order."""
    return iter({text: (0, text) for _, text in tokens}.values())
