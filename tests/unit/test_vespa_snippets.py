"""Snippets and the parameters of requests in the stand-in for Vespa."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.vespa.model import QueryProfile, SearchRequest
from tests.vespa.query_errors import QueryError, status_of
from tests.vespa.query_parameters import Parameters, read_parameters
from tests.vespa.rendering import finite
from tests.vespa.teasers import highlight, teaser, without_marks

DEFAULT = QueryProfile("default")
LONG = " ".join(f"word{at}" for at in range(100))


@pytest.mark.parametrize(
    ("text", "words", "snippet"),
    [
        ("A Red fox", {"red"}, "A <hi>Red</hi> fox"),
        ("Crème", {"creme"}, "<hi>Crème</hi>"),
        ("<b>red & blue</b>", {"blue"}, "<b>red & <hi>blue</hi></b>"),
        ("nothing here", {"red"}, "nothing here"),
        ("", {"red"}, ""),
        ("reddish", {"red"}, "reddish"),
    ],
)
def test_short_texts_are_whole(text: str, words: set[str], snippet: str) -> None:
    assert teaser(text, words) == snippet
    assert highlight(text, words) == snippet


def test_long_texts_are_cut_around_the_words() -> None:
    found = teaser(f"{LONG} red {LONG} blue {LONG}", {"red", "blue"})

    fragments = found.split("<sep />")
    assert fragments[0] == fragments[-1] == ""
    assert len(fragments) == 4
    assert "<hi>red</hi>" in fragments[1]
    assert "<hi>blue</hi>" in fragments[2]
    assert all(
        word.startswith(("word", "<hi>")) for part in fragments[1:-1] for word in part.split()
    )
    assert without_marks(found) == found.replace("<hi>", "").replace("</hi>", "")


def test_a_word_at_the_start_has_no_separator_before_it() -> None:
    found = teaser(f"red {LONG}", {"red"})

    assert found.startswith("<hi>red</hi> word0")
    assert found.endswith("<sep />")
    assert found.count("<sep />") == 1


def test_a_long_text_without_the_words_gives_its_start() -> None:
    found = teaser(LONG, {"red"})

    assert LONG.startswith(found)
    assert 200 < len(found) <= 256
    assert LONG[len(found)] == " "


@pytest.mark.parametrize(
    ("text", "limit", "seconds"),
    [
        (None, None, 0.5),
        (None, 2.0, 2.0),
        ("3", None, 3.0),
        ("3", 2.0, 2.0),
        ("250 ms", None, 0.25),
        ("250ms", 0.1, 0.1),
        ("1.5s", None, 1.5),
        ("2ks", None, 2000.0),
        ("7µs", None, 7e-6),
        ("1e1s", None, 10.0),
    ],
)
def test_timeouts(text: str | None, limit: float | None, seconds: float) -> None:
    given = {} if text is None else {"timeout": text}

    assert Parameters(given, DEFAULT).timeout(limit) == pytest.approx(seconds)


def read(body: Any, query: str = "", kind: str = "application/json; charset=utf-8") -> Parameters:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_parameters(SearchRequest("POST", query, kind, content), {"default": DEFAULT})


def test_nested_parameters_are_flattened_and_aliases_are_the_same() -> None:
    found = read(
        {"ranking": {"profile": "x"}, "count": 3, "input": {"query(e)": {"a": 1}}, "timing": True},
        "presentation.summary=s&count=4",
    )

    assert found.text("ranking.profile") == "x"
    assert found.text("hits") == found.text("count") == "4"
    assert found.text("summary") == found.text("presentation.summary") == "s"
    assert found.inputs() == {"query(e)": {"a": 1}}
    assert found.flag("presentation.timing", default=False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"a":1}}',
        b'{"a":NaN}',
        pytest.param(b'{"a":' * 100_000, id="deep"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(QueryError) as caught:
        read(body)

    assert caught.value.code == 3


def test_a_body_of_another_media_type_is_not_read() -> None:
    assert read(b"{", "hits=2", "text/plain").hits() == 2


def test_numbers_that_json_does_not_have() -> None:
    nan, infinity = float("nan"), float("inf")

    assert finite({"relevance": nan, "fields": {"a": nan, "b": [infinity, 1.5]}}) == {
        "relevance": "NaN",
        "fields": {"a": None, "b": [None, 1.5]},
    }
    assert finite({"relevance": -infinity}) == {"relevance": "-Infinity"}


@pytest.mark.parametrize(
    ("codes", "has_hits", "status"),
    [
        ([], False, 200),
        ([4], False, 400),
        ([4], True, 200),
        ([12, 4], False, 504),
        ([8, 15], True, 403),
        ([0], False, 503),
        ([1], False, 500),
        ([503], True, 503),
    ],
)
def test_the_status_rule(codes: list[int], has_hits: bool, status: int) -> None:
    errors = [QueryError(code, "") for code in codes]

    assert status_of(errors, has_filled_hits=has_hits) == status
