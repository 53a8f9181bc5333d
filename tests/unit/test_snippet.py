"""Snippets: safe whatever the text holds, cut where the matches are."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sercha.domain.snippet import make_snippet

ODD = st.sampled_from(
    [" ", "\n", "\t", "<b>", "&amp;", "\u202e", "\x1b[31m", "\0", "é", "漢", "word", "\ud800"]
)
TEXTS = st.lists(st.one_of(ODD, st.text(max_size=8)), max_size=300).map("".join)
SPANS = st.lists(st.tuples(st.integers(-5, 900), st.integers(-5, 900)), max_size=12)


@settings(max_examples=300, deadline=None)
@given(TEXTS, SPANS, st.integers(10, 300))
def test_all_forms_are_safe_and_say_the_same(
    text: str, spans: list[tuple[int, int]], length: int
) -> None:
    snippet = make_snippet(text, spans, length=length)
    assert "".join(part for part, _ in snippet.parts) == snippet.text
    assert html.unescape(re.sub(r"</?mark>", "", snippet.html)) == snippet.text
    assert len(snippet.text) <= length + 2
    assert not re.search(
        "[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", snippet.text
    )
    assert "  " not in snippet.text
    assert re.findall(r"<[^>]*>", snippet.html) == ["<mark>", "</mark>"] * sum(
        is_match for _, is_match in snippet.parts
    )


def spans_of(text: str, *words: str) -> list[tuple[int, int]]:
    return sorted(match.span() for word in words for match in re.finditer(re.escape(word), text))


def test_window_with_the_most_different_matches_wins() -> None:
    filler = "nothing to see " * 60
    text = f"apple apple apple {filler} apple and pear {filler}"
    snippet = make_snippet(text, spans_of(text, "apple", "pear"))
    assert "<mark>apple</mark> and <mark>pear</mark>" in snippet.html
    assert snippet.text.startswith("…")
    assert snippet.text.endswith("…")


def test_every_match_in_the_window_is_marked() -> None:
    text = "one two one\n\n  three one"
    snippet = make_snippet(text, spans_of(text, "one"))
    assert snippet.html == "<mark>one</mark> two <mark>one</mark> three <mark>one</mark>"
    assert snippet.parts[:2] == (("one", True), (" two ", False))


def test_without_spans_the_beginning_is_shown() -> None:
    text = "The beginning of it all. " * 40
    snippet = make_snippet(text, [], length=30)
    assert snippet.text == "The beginning of it all. The…"


def test_cuts_are_made_between_words() -> None:
    text = " ".join(f"word{number}" for number in range(400))
    snippet = make_snippet(text, spans_of(text, "word200"))
    words = snippet.text.strip("…").split()
    assert all(re.fullmatch(r"word\d+", word) for word in words)
    assert set(words) <= set(text.split())
    assert "<mark>word200</mark>" in snippet.html


def test_markup_of_the_text_is_escaped() -> None:
    text = "<script>alert('x')</script> & more"
    snippet = make_snippet(text, spans_of(text, "alert"))
    assert snippet.html == (
        "&lt;script&gt;<mark>alert</mark>(&#x27;x&#x27;)&lt;/script&gt; &amp; more"
    )


def test_matches_deep_in_white_space_are_shown_with_their_surroundings() -> None:
    text = "before" + "\n" * 500 + "needle" + " " * 500 + "after"
    snippet = make_snippet(text, spans_of(text, "needle"))
    assert "needle" in snippet.text


@pytest.mark.parametrize("spans", [[(5, 2)], [(900, 950)], [(-9, -2)], [(3, 3)]])
def test_senseless_spans_are_ignored(spans: list[tuple[int, int]]) -> None:
    snippet = make_snippet("some text", spans)
    assert snippet.html == "some text"


def test_match_longer_than_the_snippet_is_cut() -> None:
    snippet = make_snippet("x" * 5_000, [(100, 4_900)], length=50)
    assert snippet.text == "…" + "x" * 50 + "…"
    assert snippet.parts[1] == ("x" * 50, True)


def test_long_text_with_many_matches_is_quick() -> None:
    text = "needle in a haystack " * 100_000
    snippet = make_snippet(text, spans_of(text, "needle"))
    assert snippet.html.count("<mark>") > 5
