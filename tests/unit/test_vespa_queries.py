"""What is asked of Vespa: the shape of a search decides the YQL, and its words never do."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from random import Random
from typing import Any
from uuid import UUID

import pytest

from sercha.adapters.text_analysis.terms import TermPlan, plan_terms
from sercha.adapters.vespa.queries import text_query
from sercha.adapters.vespa.tokens import spell
from sercha.domain.query import SearchQuery, Term, parse_query
from sercha.errors import Rejected
from tests.support.hostile import hostile_texts
from tests.vespa.yql import parse_yql

TEXTS = int(os.environ.get("SERCHA_TEST_TEXTS", "10000"))
PRINCIPALS = frozenset({"team", "user:ann", "group:Ärzte, \"all\" 'of' them\\"})
SOURCES = (UUID(int=1), UUID(int=2))
VALUE = re.compile(r"[a-z0-9, ]+")
FIXED = {
    "yql", "queryProfile", "ranking", "hits", "offset", "presentation.summary", "presentation.format.tensors",
    "model.language",
}  # fmt: skip


def ask(plans: Sequence[TermPlan], query: SearchQuery) -> dict[str, Any] | None:
    return text_query(plans, query, PRINCIPALS, generation="g1")


def harmless(plan: TermPlan) -> TermPlan:
    """The same shape, of other words."""
    return replace(
        plan,
        words=tuple((at, "word") for at, _ in plan.words),
        parts=tuple((at, "part") for at, _ in plan.parts),
        fragment=plan.fragment and "fragment",
    )


def test_yql_of_hostile_texts_is_that_of_harmless_ones(seed: int) -> None:
    random = Random(seed)
    asked = 0
    shapes: set[str] = set()
    for text in islice(hostile_texts(random), TEXTS):
        sources = random.choice([(), SOURCES])
        try:
            query = parse_query(text, source_ids=sources)
        except Rejected:
            # What the parser would not let through is tried all the same, as one term.
            query = SearchQuery(
                text, (Term(text, is_phrase=random.random() < 0.5),), source_ids=sources
            )
        plans = plan_terms(query)
        body = ask(plans, query)
        if body is None:
            continue
        asked += 1
        twin = ask([harmless(plan) for plan in plans], query)
        assert twin is not None
        assert body["yql"] == twin["yql"]
        shapes.add(body["yql"])
        ours = body.keys() - FIXED
        assert all(name.startswith("sercha_") for name in ours)
        assert all(VALUE.fullmatch(body[name]) for name in ours)
        assert body["sercha_readers"] == twin["sercha_readers"]
        json.dumps(body).encode("ascii")
    assert asked > TEXTS / 2
    for yql in shapes:
        parse_yql(yql)


@pytest.mark.parametrize(
    ("token", "spelled"),
    [
        ("word", "word"),
        ("utf8", "utf8"),
        ("wait_readable", "0u"),
        ("東", "0u"),
        ("0u64", "0u"),
        ("", "0u"),
    ],
)
def test_tokens_of_letters_and_digits_stay_as_they_are(token: str, spelled: str) -> None:
    assert spell(token).startswith(spelled)
    assert re.fullmatch("[a-z0-9]+", spell(token))


def test_different_tokens_are_spelled_differently(seed: int) -> None:
    random = Random(seed)
    tokens = {"".join(random.choices("0u_abä東v9", k=random.randint(0, 5))) for _ in range(20_000)}

    assert len({spell(token) for token in tokens}) == len(tokens)


def test_nobody_finds_nothing_and_is_not_even_asked_for() -> None:
    query = parse_query("word")

    assert text_query(plan_terms(query), query, frozenset(), generation="g1") is None


def test_what_must_be_there_and_can_be_nowhere_is_not_asked_for() -> None:
    query = SearchQuery("", (Term("+" + "x" * 500),))

    assert ask(plan_terms(query), query) is None
