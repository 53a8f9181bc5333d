"""One search over all documents, as the port means it.

By words a document is found when it has all required terms, or where there are none at least one optional term, and no
excluded one. By vectors the nearest documents are found, and what must or must not be there still decides. The two
orders are fused by rank. Whoever may not read a document never learns of it: neither as a hit nor in a total.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import mul

from sercha.adapters.memory.entries import AnalysedView, Entry, stand_in
from sercha.adapters.text_analysis.terms import TermPlan, Tokens, plan_terms
from sercha.adapters.text_analysis.weights import (
    FRAGMENT,
    IMPACT_MAX,
    PARTS,
    PATH,
    PATH_PARTS,
    PHRASE,
    PHRASE_WORDS_COUNTED_MAX,
    TITLE,
    TITLE_PARTS,
    impact,
    level,
    rarity,
)
from sercha.domain.document import DocumentId
from sercha.domain.query import Occurrence, SearchMode, SearchQuery
from sercha.services.ports import IndexHit, IndexPage
from sercha.services.ports.vector_search import QueryVector

NEIGHBOURS_MAX = 1_000
"""So many of the nearest documents are found by vectors; all documents have some distance."""
FUSION_K = 60
"""What ranks are counted from when two orders are fused: the higher, the less the very first places count."""
SCORE_DIGITS = 9

EMPTY = IndexPage((), 0)

Entries = Mapping[DocumentId, Entry]
Scores = Mapping[DocumentId, float]


def search_text(entries: Entries, query: SearchQuery, principals: frozenset[str]) -> IndexPage:
    """Find documents by their words."""
    terms = Terms(entries, query)
    if terms.find_nothing:
        return EMPTY
    matching = terms.match(_allowed(entries, query, principals))
    return _page(terms.scores(matching), query, terms.best_chunk)


def search_vectors(
    entries: Entries, query: SearchQuery, principals: frozenset[str], vector: QueryVector
) -> IndexPage | None:
    """Find documents by *vector*, in hybrid mode by their words as well; None: none has vectors of that model."""
    if not any(vector.model in entry.vectors for entry in entries.values()):
        return None
    terms = Terms(entries, query)
    if terms.find_nothing:
        return EMPTY
    allowed = _allowed(entries, query, principals)
    near = _Neighbours(entries, vector, terms.keep(allowed))
    if query.mode is SearchMode.SEMANTIC:
        return _page(near.scores, query, near.best_chunk)

    def best_chunk(number: DocumentId) -> int:
        """Choose by words; by the vector where no chunk has any of them."""
        is_by_words = number not in near.scores or any(terms.chunk_scores(number))
        return terms.best_chunk(number) if is_by_words else near.best_chunk(number)

    by_words = terms.scores(terms.match(allowed))
    return _page(_fused(by_words, near.scores), query, best_chunk)


class Terms:
    """The terms of one search, and the documents that have them."""

    def __init__(self, entries: Entries, query: SearchQuery) -> None:
        self._entries = entries
        plans = plan_terms(query)
        self._worth = {plan: _worths(plan, entries) for plan in plans if not plan.is_empty}
        scored = [plan for plan in self._worth if plan.occurrence is not Occurrence.EXCLUDED]
        self._rarities = {
            plan: rarity(len(entries), len(self._worth[plan])) if len(scored) > 1 else 1.0
            for plan in scored
        }
        self.find_nothing = not scored or any(
            plan.is_empty and plan.occurrence is Occurrence.REQUIRED for plan in plans
        )
        """Nothing is looked for, or something that no index could have is required."""

    def keep(self, numbers: set[DocumentId]) -> set[DocumentId]:
        """Return those that have all required terms and no excluded one."""
        kept = set(numbers)
        for plan, having in self._worth.items():
            if plan.occurrence is Occurrence.REQUIRED:
                kept &= having.keys()
            elif plan.occurrence is Occurrence.EXCLUDED:
                kept -= having.keys()
        return kept

    def match(self, numbers: set[DocumentId]) -> set[DocumentId]:
        """Return those that are found: of those to keep, where nothing is required, any with an optional term."""
        kept = self.keep(numbers)
        if any(plan.occurrence is Occurrence.REQUIRED for plan in self._rarities):
            return kept
        return {
            number for number in kept if any(number in self._worth[plan] for plan in self._rarities)
        }

    def scores(self, numbers: Iterable[DocumentId]) -> Scores:
        """Weigh documents by their terms."""
        return {
            number: _sum(
                weight * self._worth[plan][number]
                for plan, weight in self._rarities.items()
                if number in self._worth[plan]
            )
            for number in numbers
        }

    def chunk_scores(self, number: DocumentId) -> list[float]:
        """Return how much of the search each chunk of a document has."""
        return [
            _sum(
                weight * worth
                for plan, weight in self._rarities.items()
                for worth in _ways_in_chunk(plan, chunk)
            )
            for chunk in self._entries[number].chunks
        ]

    def best_chunk(self, number: DocumentId) -> int:
        """Return the chunk with most of the search, the first among equals; of names alone the first."""
        return _first_best(self.chunk_scores(number))


class _Neighbours:
    """Of the given documents those whose vectors are nearest, at most `NEIGHBOURS_MAX`."""

    def __init__(
        self, entries: Entries, vector: QueryVector, numbers: Iterable[DocumentId]
    ) -> None:
        target = vector.vector.values()
        self._cosines = {
            number: [_cosine(target, each) for each in vectors]
            for number in numbers
            if any(vectors := entries[number].vectors.get(vector.model, ()))
        }
        """By document that of each chunk."""
        scores = {number: max(cosines) for number, cosines in self._cosines.items()}
        self.scores: Scores = {
            number: scores[number] for number in _ranked(scores)[:NEIGHBOURS_MAX]
        }

    def best_chunk(self, number: DocumentId) -> int:
        """Return the closest chunk, the first among equals."""
        return _first_best(self._cosines[number])


def _allowed(entries: Entries, query: SearchQuery, principals: frozenset[str]) -> set[DocumentId]:
    return {number for number, entry in entries.items() if entry.passes(query, principals)}


def _worths(plan: TermPlan, entries: Entries) -> Scores:
    """What a term is worth in each document that has it."""
    beginnings = {text for _, text in (*plan.words[:1], *plan.parts[:1])} | {plan.fragment}
    possible = {
        number: math.fsum(_ways(plan, entry))
        for number, entry in entries.items()
        if not entry.tokens.isdisjoint(beginnings)
    }
    return {number: worth for number, worth in possible.items() if worth}


def _ways(plan: TermPlan, entry: Entry) -> Iterator[float]:
    """Give what each way is worth in which the document has the term."""
    if stand_in(plan.words, entry.text.words):
        yield from _in_text(plan, entry.text)
    if any(stand_in(plan.words, title.words) for title in entry.titles):
        yield TITLE
    if any(stand_in(plan.words, path.words) for path in entry.paths):
        yield PATH
    if stand_in(plan.parts, entry.text.parts):
        yield PARTS
    if any(stand_in(plan.parts, title.parts) for title in entry.titles):
        yield TITLE_PARTS
    if any(stand_in(plan.parts, path.parts) for path in entry.paths):
        yield PATH_PARTS
    if plan.fragment in entry.fragments:
        yield FRAGMENT


def _in_text(plan: TermPlan, text: AnalysedView) -> Iterator[float]:
    """The more often its words occur there, the more; the mean of a phrase's, which is worth something of itself."""
    if len(plan.words) > 1:
        yield PHRASE
    counted = _distinct(plan.words)[:PHRASE_WORDS_COUNTED_MAX]
    for word in counted:
        yield impact(level(text.words.count(word), text.length)) / len(counted)


def _ways_in_chunk(plan: TermPlan, chunk: AnalysedView) -> Iterator[float]:
    """Also a part of a phrase counts there: it may go across the border of two chunks."""
    if stand_in(plan.words, chunk.words):
        yield IMPACT_MAX
    if len(plan.words) > 1:
        yield from (
            PARTS / len(plan.words) for word in _distinct(plan.words) if word in chunk.words
        )
    yield from (PARTS / len(plan.parts) for part in _distinct(plan.parts) if part in chunk.parts)
    if plan.fragment in chunk.fragments:
        yield FRAGMENT


def _distinct(tokens: Tokens) -> list[str]:
    return list(dict.fromkeys(text for _, text in tokens))


def _cosine(first: Sequence[float], second: Sequence[float] | None) -> float:
    """Compare vectors of length one; a chunk without a vector is as far away as can be."""
    return math.fsum(map(mul, first, second)) if second else -math.inf


def _fused(*orders: Scores) -> Scores:
    """Fuse orders by rank, each place worth its reciprocal; whoever is not in an order gets nothing by it."""
    places = [
        {number: place for place, number in enumerate(_ranked(scores), 1)} for scores in orders
    ]
    return {
        number: math.fsum(1 / (FUSION_K + each[number]) for each in places if number in each)
        for number in set[DocumentId]().union(*places)
    }


def _sum(parts: Iterable[float]) -> float:
    """Add exactly, without the last digits: what is worth the same has the same score, however it is made up."""
    return round(math.fsum(parts), SCORE_DIGITS)


def _ranked(scores: Scores) -> list[DocumentId]:
    """Best first, equals by their number."""
    return sorted(scores, key=lambda number: (-scores[number], number))


def _first_best(scores: Sequence[float]) -> int:
    return scores.index(max(scores)) if scores else 0


def _page(scores: Scores, query: SearchQuery, best_chunk: Callable[[DocumentId], int]) -> IndexPage:
    numbers = _ranked(scores)[query.offset : query.offset + query.limit]
    hits = tuple(IndexHit(number, best_chunk(number), scores[number]) for number in numbers)
    return IndexPage(hits, len(scores))
