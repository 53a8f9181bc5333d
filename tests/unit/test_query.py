"""The one parser of searches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sercha.domain.filters import PATH_CHARS_MAX, TYPES_MAX, microseconds, parse_instant
from sercha.domain.query import (
    LIMIT_MAX,
    QUERY_CHARS_MAX,
    TERMS_MAX,
    WINDOW_MAX,
    Occurrence,
    SearchMode,
    Term,
    parse_query,
)
from sercha.errors import Rejected

OPTIONAL, REQUIRED, EXCLUDED = Occurrence.OPTIONAL, Occurrence.REQUIRED, Occurrence.EXCLUDED


NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


def word(text: str, occurrence: Occurrence = OPTIONAL) -> Term:
    return Term(text, occurrence)


def phrase(text: str, occurrence: Occurrence = REQUIRED) -> Term:
    return Term(text, occurrence, is_phrase=True)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("one two", [word("one"), word("two")]),
        ("  one\t\n two  ", [word("one"), word("two")]),
        ("+one -two three", [word("one", REQUIRED), word("two", EXCLUDED), word("three")]),
        ('"a phrase"', [phrase("a phrase")]),
        ('"  a \n phrase "', [phrase("a phrase")]),
        ('-"a phrase" x', [phrase("a phrase", EXCLUDED), word("x")]),
        ('+"a phrase"', [phrase("a phrase")]),
        ('x "open end', [word("x"), phrase("open end")]),
        ("“curly” «angled»", [phrase("curly"), phrase("angled")]),
        ('say"hello you"now', [word("say"), phrase("hello you"), word("now")]),
        ("--verbose ->next -.env", [word("--verbose"), word("->next"), word("-.env")]),
        ("a-b c+d e-mail c++", [word("a-b"), word("c+d"), word("e-mail"), word("c++")]),
        ("x - y + z", [word("x"), word("y"), word("z")]),
        ('"" x "!?" ...', [word("x")]),
        ("_ __init__", [word("_"), word("__init__")]),
        ("-_private x", [word("_private", EXCLUDED), word("x")]),
        ("nul\0char \ud800half", [word("nul"), word("char"), word("half")]),
        ("title:x OR (y)", [word("title:x"), word("OR"), word("(y)")]),
        ("東京 -大阪", [word("東京"), word("大阪", EXCLUDED)]),
    ],
)
def test_text_becomes_terms(text: str, terms: list[Term]) -> None:
    assert list(parse_query(text).terms) == terms


@pytest.mark.parametrize(
    ("text", "options", "code", "names"),
    [
        ("", {}, "empty-query", "query"),
        (" \n\t ", {}, "empty-query", "query"),
        ("!!! ... ~~ 🎉", {}, "empty-query", "query"),
        ("-only -exclusions", {}, "empty-query", "query"),
        ("x" * (QUERY_CHARS_MAX + 1), {}, "query-too-long", f"{QUERY_CHARS_MAX}"),
        ("x" * 100_000, {}, "query-too-long", "100000"),
        ("x " * (TERMS_MAX + 1), {}, "query-too-long", f"{TERMS_MAX}"),
        ("x", {"limit": 0}, "bad-limit", "limit: 0"),
        ("x", {"limit": -1}, "bad-limit", "limit: -1"),
        ("x", {"limit": 10**9}, "bad-limit", f"{LIMIT_MAX}"),
        ("x", {"offset": -1}, "bad-offset", "offset: -1"),
        ("x", {"offset": WINDOW_MAX - 19}, "bad-offset", f"{WINDOW_MAX}"),
        ("x", {"offset": 10**18}, "bad-offset", f"{WINDOW_MAX}"),
        ("x", {"mime_types": ["a/b"] * (TYPES_MAX + 1)}, "bad-types", f"types: {TYPES_MAX + 1}"),
        ("x", {"mime_types": ["a/b", "markdown"]}, "bad-types", "types: 'markdown'"),
        *(
            ("x", {"mime_types": [each]}, "bad-types", "types: ")
            for each in [
                "",
                "/",
                "*/*",
                "*",
                "a/",
                "/b",
                "a/b/c",
                "a/b*",
                "a/b;c=d",
                "a b/c",
                "a/b\n",
                "ä/b",
                "a/" + "b" * 999,
            ]
        ),
        ("x", {"modified_from": NOON, "modified_before": NOON}, "bad-modified", "modified_before"),
        ("x", {"modified_from": NOON.replace(tzinfo=None)}, "bad-modified", "modified_from"),
        ("x", {"path": "x" * (PATH_CHARS_MAX + 1)}, "bad-path", f"path: {PATH_CHARS_MAX + 1}"),
    ],
)
def test_what_cannot_be_searched_is_rejected_with_the_field_and_the_bound(
    text: str, options: dict[str, Any], code: str, names: str
) -> None:
    with pytest.raises(Rejected) as caught:
        parse_query(text, **options)

    assert caught.value.error_code == code
    assert names in caught.value.message
    assert len(caught.value.message) < 200


def test_query_keeps_its_options() -> None:
    query = parse_query("x" * QUERY_CHARS_MAX, mode=SearchMode.HYBRID, limit=100, offset=9_900)

    assert (query.mode, query.limit, query.offset) == (SearchMode.HYBRID, 100, 9_900)
    assert len(parse_query("x " * TERMS_MAX).terms) == TERMS_MAX


def test_query_keeps_its_filters_with_types_in_one_spelling() -> None:
    path = "/a/' or 1\udcff/.."
    query = parse_query(
        "x",
        mime_types=["Text/Markdown", "text/*", "TEXT/markdown", "image/svg+xml"],
        modified_from=NOON,
        modified_before=NOON + timedelta(microseconds=1),
        path=path,
    )

    assert query.mime_types == ("text/markdown", "text/*", "image/svg+xml")
    assert (query.modified_from, query.path) == (NOON, path)
    assert query.modified_before == NOON + timedelta(microseconds=1)
    most = parse_query("x", mime_types=["a/b"] * TYPES_MAX, path="x" * PATH_CHARS_MAX)
    assert len(most.path) == PATH_CHARS_MAX


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-01T12:00:00Z", NOON),
        ("2026-11-01t12:00:00.000000999z", NOON),
        ("2026-11-01T12:00:00.5+00:00", NOON + timedelta(seconds=0.5)),
        ("2026-11-01T06:30:00-05:30", NOON),
        ("0001-01-01T00:00:00+14:00", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))),
    ],
)
def test_instants_are_read_as_the_standard_writes_them(text: str, instant: datetime) -> None:
    assert microseconds(parse_instant(text)) == microseconds(instant)


@pytest.mark.parametrize(
    "text",
    [
        "", "2026-11-01", "2026-11-01T12:00:00", "2026-11-01 12:00:00Z", "2026-11-01T12:00Z", "20261101T120000Z",
        "2026-02-30T00:00:00Z", "2026-11-01T24:00:00Z", "2026-11-01T12:00:60Z", "1793534400", "٢٠٢٦-11-01T12:00:00Z",
        "2026-11-01T12:00:00.Z", "2026-11-01T12:00:00+25:00", "0000-01-01T00:00:00Z", "2026-11-01T12:00:00Z\n", "now",
    ],
)  # fmt: skip
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_instant(text)


@given(st.datetimes(timezones=st.timezones()), st.datetimes(timezones=st.timezones()))
def test_microseconds_keep_the_order_of_instants(first: datetime, second: datetime) -> None:
    assert (microseconds(first) < microseconds(second)) == (first - second < timedelta(0))


@given(st.text(max_size=300))
def test_any_text_is_parsed_or_rejected(text: str) -> None:
    try:
        query = parse_query(text)
    except Rejected:
        return
    assert query.terms
    for term in query.terms:
        term.text.encode()
        assert '"' not in term.text
        assert term.is_phrase or not any(char.isspace() for char in term.text)


@given(st.lists(st.from_regex(r"[a-z0-9_]{1,8}", fullmatch=True), min_size=1, max_size=30))
def test_plain_words_come_back_in_order(words: list[str]) -> None:
    assert [term.text for term in parse_query(" ".join(words)).terms] == words
