"""What is asked of Vespa: the shape of a search decides the YQL, and its words never do."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from random import Random
from typing import Any
from uuid import UUID

import pytest

from sercha.adapters.text_analysis.terms import TermPlan, plan_terms
from sercha.adapters.vespa.queries import text_query
from sercha.adapters.vespa.tokens import spell
from sercha.domain.filters import microseconds
from sercha.domain.query import SearchQuery, Term, parse_query
from sercha.errors import Rejected
from tests.support.hostile import hostile_texts
from tests.vespa.yql import parse_yql

TEXTS = int(os.environ.get("SERCHA_TEST_TEXTS", "10000"))
PRINCIPALS = frozenset({"team", "user:ann", "group:Ärzte, \"all\" 'of' them\\"})
SOURCES = (UUID(int=1), UUID(int=2))
VALUE = re.compile(r"[a-z0-9, ]+")
NUMBER = re.compile(r"-?[0-9]+")
DATES = {"sercha_modified_from", "sercha_modified_before"}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
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


def hostile_filters(random: Random, hostile: Iterator[str]) -> SearchQuery:
    """Draw filters that no parser has seen."""
    moments = [None, EPOCH + timedelta(seconds=random.randint(-(10**10), 10**11))]
    return SearchQuery(
        "",
        (),
        source_ids=random.choice([(), SOURCES]),
        mime_types=tuple(islice(hostile, random.choice([0, 0, 1, 20]))),
        modified_from=random.choice(moments),
        modified_before=random.choice(moments),
        path=random.choice(["", next(hostile)]),
    )


def harmless_filters(query: SearchQuery) -> SearchQuery:
    """The same filters, of other values."""
    return replace(
        query,
        mime_types=("text/plain",) if query.mime_types else (),
        modified_from=query.modified_from and EPOCH,
        modified_before=query.modified_before and EPOCH,
        path=query.path and "docs",
    )


def test_yql_of_hostile_texts_is_that_of_harmless_ones(seed: int) -> None:
    random = Random(seed)
    asked = 0
    shapes: set[str] = set()
    filters = hostile_texts(random)
    for text in islice(hostile_texts(random), TEXTS):
        filtered = hostile_filters(random, filters)
        try:
            terms = parse_query(text).terms
        except Rejected:
            # What the parser would not let through is tried all the same, as one term.
            terms = (Term(text, is_phrase=random.random() < 0.5),)
        query = replace(filtered, text=text, terms=terms)
        plans = plan_terms(query)
        body = ask(plans, query)
        if body is None:
            continue
        asked += 1
        twin = ask([harmless(plan) for plan in plans], harmless_filters(query))
        assert twin is not None
        assert body["yql"] == twin["yql"]
        shapes.add(body["yql"])
        ours = body.keys() - FIXED
        assert all(name.startswith("sercha_") for name in ours)
        assert ours == twin.keys() - FIXED
        assert all(VALUE.fullmatch(body[name]) for name in ours - DATES)
        assert all(NUMBER.fullmatch(body[name]) for name in ours & DATES)
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


def test_open_end_of_a_span_of_time_is_closed_beyond_all_dates() -> None:
    """Where a document has no date, Vespa has the smallest number of all."""
    query = parse_query("word", modified_before=EPOCH)

    body = ask(plan_terms(query), query)

    assert body is not None
    assert "modified >= @sercha_modified_from and modified < @sercha_modified_before" in body["yql"]
    assert (
        -(2**63)
        < int(body["sercha_modified_from"])
        < microseconds(datetime.min.replace(tzinfo=UTC))
    )
    assert body["sercha_modified_before"] == "0"
