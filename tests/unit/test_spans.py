"""The short way to the places of a query's words finds what the long way finds, in any script."""

from __future__ import annotations

import random

from sercha.adapters.text_analysis.spans import find_all_spans, find_spans
from sercha.adapters.text_analysis.terms import TermPlan, plan_terms
from sercha.domain.query import Occurrence, SearchQuery, Term, parse_query

CASES = 500
PIECES = (
    "the", "HTTPServer", "HTTPs", "URLs", "ABc", "A", "aA", "Aa", "getElementById", "fooBar", "wait_readable",
    "__init__", "_", "utf8", "123abc", "ab_cd9", "don't", "foo-bar", "x" * 170, "größe", "naïve", "Straße",
    "Москва", "ёлка", "İstanbul", "ﬁne", "a\u0301b", "\u0301x", "東京都", "한국어", "ไทย",
    "\u200b", "\u00a0", "\t", "\x00", "\u202e", "\ud800",
)  # fmt: skip
GAPS = (" ", " ", "  ", "", "-", "\n", ". ")


def covered(spans: list[tuple[int, int]]) -> set[int]:
    return {at for start, end in spans for at in range(start, end)}


def the_long_way(plans: list[TermPlan], text: str) -> list[tuple[int, int]]:
    wanted = [plan for plan in plans if plan.occurrence is not Occurrence.EXCLUDED]
    return list(find_all_spans(wanted, text))


def test_the_short_way_finds_the_same_places(seed: int) -> None:
    chance = random.Random(seed)
    marked = 0
    for _ in range(CASES):
        length = chance.choice((3, 10, 40, 200))
        text = "".join(chance.choice(PIECES) + chance.choice(GAPS) for _ in range(length))
        words = " ".join(chance.choice(PIECES) for _ in range(chance.randint(1, 3)))
        query = chance.choice((words, words.lower()))
        terms = [Term(word) for word in query.split(" ") if word]
        plans = plan_terms(
            SearchQuery(query, (*terms, Term(query, is_phrase=chance.random() < 0.5)))
        )
        found = find_spans(plans, text)
        assert found == sorted(found)
        assert covered(found) == covered(the_long_way(plans, text)), (query, text)
        marked += bool(found)
    assert marked > CASES // 10


def test_a_long_run_without_white_space_takes_no_longer_than_its_length() -> None:
    text = "a" * 200_000 + "é" + "b" * 200_000
    assert find_spans(plan_terms(parse_query("missing")), text) == []
