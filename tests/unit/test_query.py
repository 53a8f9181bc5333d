"""The one parser of searches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    ],
)
def test_what_cannot_be_searched_is_rejected_with_the_field_and_the_bound(
    text: str, options: dict[str, int], code: str, names: str
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
