"""What counts as a word: for the index, for queries and for the marks in a text."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
import tantivy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sercha.adapters.embedded_index.engine import count
from sercha.adapters.embedded_index.entries import build_schema, entries, register_analyzers
from sercha.adapters.embedded_index.queries import QueryBuilder
from sercha.adapters.text_analysis.analysis import (
    PIECE_CHARS,
    TOKEN_BYTES_MAX,
    analyse,
    normal,
    parts,
    set_apart,
    words,
)
from sercha.adapters.text_analysis.spans import find_spans
from sercha.adapters.text_analysis.terms import plan_terms
from sercha.domain.document import TEAM, Chunk, DocumentId, IndexedDocument
from sercha.domain.query import SearchQuery, Term, parse_query

SCHEMA = build_schema()


def one_document(text: str) -> tantivy.Searcher:
    document = IndexedDocument(
        DocumentId(1), UUID(int=1), "p", "t", "text/plain", text, (Chunk(0, 0, len(text)),), (TEAM,), 1, None
    )  # fmt: skip
    index = tantivy.Index(SCHEMA)
    register_analyzers(index)
    writer = index.writer(15_000_000, 1)
    for entry in entries(document):
        writer.add_document(entry)
    writer.commit()
    writer.wait_merging_threads()
    index.reload()
    return index.searcher()


def is_found(searcher: tantivy.Searcher, text: str) -> bool:
    builder = QueryBuilder(
        SCHEMA, plan_terms(parse_query(text)), lambda query: count(searcher, query)
    )
    query = builder.documents(frozenset({TEAM}), ())
    return query is not None and count(searcher, query) == 1


def marked(query: str, text: str) -> list[str]:
    return [text[start:end] for start, end in find_spans(plan_terms(parse_query(query)), text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("getElementById", ["get", "element", "by", "id"]),
        ("HTTPServer", ["http", "server"]),
        ("parseURLs", ["parse", "url", "s"]),
        ("PDFs", ["pdf", "s"]),
        ("XMLHTTPRequest2", ["xmlhttp", "request", "2"]),
        ("wait_readable", ["wait", "readable"]),
        ("MAX_LEN", ["max", "len"]),
        ("utf8", ["utf", "8"]),
        ("ОченьДлинноеИмя", ["очень", "длинное", "имя"]),
        ("ABCd", ["abcd"]),
    ],
)
def test_identifiers_fall_into_parts(text: str, expected: list[str]) -> None:
    assert [token.text for token in parts(set_apart(text))] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Café CAFÉ Cafe\u0301", ["cafe", "cafe", "cafe"]),
        ("Ещё ЁЛКА", ["еще", "елка"]),
        ("ﬁne ｗｉｄｅ", ["fine", "wide"]),
        ("soft\u00adhyphen", ["softhyphen"]),
        ("Python中文", ["python", "中", "文"]),
        ("サーバー", ["サ", "ー", "バ", "ー"]),
        ("İstanbul", ["istanbul"]),
        ("half\ud800pair", ["half", "pair"]),
        ("don't", ["don", "t"]),
    ],
)
def test_texts_are_folded(text: str, expected: list[str]) -> None:
    assert [token.text for token in words(normal(text))] == expected


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("größe", "gr"),
        ("naïve_foo", "ve_foo"),
        ("x² squared", "x"),
        ("日本foo語", "foo"),
        ("é" + "a" * 79, "a" * 79),
        ("BaseHTTPServer", "httpserver"),
        ("BaseHTTPServer", "http"),
        ("see trio.lowlevel.wait_readable", "trio.lowlevel.wait_readable"),
        ("see trio.lowlevel.wait_readable", "lowlevel"),
        ("see trio.lowlevel.wait_readable", "waitReadable"),
        ("x" * 200_000 + " needle", "needle"),
        ("a,b;" * 20_000 + "needle" + ",c" * 9, "needle"),
        ("=" * (PIECE_CHARS - 3) + "needle=", "needle"),
        ("она сказала что ещё", "ЕЩЕ"),
        ("私は東京都に住んでいます", "東京"),
        ("한국어를 배워요", "한국어"),
        ("ภาษาไทยสวย", "ไทย"),
    ],
)
def test_word_inside_a_text_is_found(text: str, query: str) -> None:
    assert is_found(one_document(text), query)


@pytest.mark.parametrize(
    ("text", "query"), [("readable", "read"), ("東 京", "京東"), ("a b", '"b a"')]
)
def test_what_is_not_there_is_not_found(text: str, query: str) -> None:
    assert not is_found(one_document(text), query)


LETTERS = st.one_of(
    st.text(st.sampled_from("abzABZ019_"), min_size=1, max_size=12),
    st.text(st.sampled_from("éßёЖ中文ー한ǅﬁ²Ⅷ①ำ\u0301\u00ad\u200dİ"), max_size=3),
    st.text(st.sampled_from(" .,-/:()\n\t'\"+*\\"), max_size=3),
    st.text(max_size=4),
)
TEXTS = st.lists(LETTERS, min_size=1, max_size=30).map("".join)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
@example("a" * TOKEN_BYTES_MAX)
@example("_" * 40 + "é")
def test_every_word_that_grep_sees_is_found(text: str) -> None:
    """Bounded by anything but ASCII letters, digits and underscores, as ``grep -w`` in the C locale."""
    seen = {it for it in re.findall(r"[A-Za-z0-9_]+", text) if len(it) <= 80}
    searcher = one_document(text)

    for word in sorted(seen):
        assert is_found(searcher, word), word
        assert any(word.lower() in it.lower() for it in marked(word, text)), word


@settings(max_examples=200, deadline=None)
@given(TEXTS, TEXTS)
def test_spans_lie_inside_the_text_ascend_and_do_not_overlap(text: str, query: str) -> None:
    plans = plan_terms(SearchQuery(query, (Term(query), Term(query[:9], is_phrase=True))))

    ends = [0]
    for start, end in find_spans(plans, text):
        assert ends[-1] <= start < end <= len(text)
        ends.append(end)


def test_pieces_of_a_long_text_count_as_one_text() -> None:
    text = "some words, größe; and_so_on\n" * 4_000

    whole = analyse(text)

    assert len(text) > 3 * PIECE_CHARS
    assert whole.words_text == text
    assert whole.counts["and_so_on"] == 4_000
    assert whole.length == 16_000
    assert whole.fragments == {"gr", "e"}


def test_marks_are_in_the_original_characters() -> None:
    text = "ﬁﬁ Cafe\u0301s — ｗｉｄｅ İx 東京"

    assert marked("fifi", text) == ["ﬁﬁ"]
    assert marked("cafés", text) == ["Cafe\u0301s"]
    assert marked("wide ix 京", text) == ["ｗｉｄｅ", "İx", "京"]
