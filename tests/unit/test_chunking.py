"""Chunks: what holds for every text, and where a reader would cut."""

from __future__ import annotations

import itertools
import re
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sercha.domain.chunking import CHUNK_CHARS_MAX, chunk_text
from sercha.domain.document import Chunk, Section
from sercha.domain.markdown import find_title, outline

MIME_TYPES = ("text/markdown", "text/plain", "text/x-python")

LUMPS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "\n",
            "\n\n",
            " ",
            "# Head\n",
            "## Sub\n\n",
            "Title\n===\n",
            "```\n",
            "~~~\n",
            "---\n",
            "\u0301",
            "word ",
            "a=b;",
            "“Quoted.” ",
            "नमस्ते",
            "漢字。",
            "e\u0301",
            "\U0001f469\u200d\U0001f469",
            "x\n\n    y",
        ]
    ),
)
LONG_LUMPS = st.tuples(LUMPS, st.integers(1, 700)).map(lambda pair: pair[0] * pair[1])
TEXTS = st.lists(st.one_of(LUMPS, LONG_LUMPS), max_size=30).map(
    lambda parts: "".join(parts)[:30_000]
)


def check(text: str, chunks: tuple[Chunk, ...]) -> None:
    covered = 0
    for position, chunk in enumerate(chunks):
        assert chunk.position == position
        assert 0 <= chunk.start < chunk.end <= len(text)
        assert chunk.end - chunk.start <= CHUNK_CHARS_MAX
        assert not text[chunk.start].isspace()
        assert not text[chunk.end - 1].isspace()
        assert not text[covered : chunk.start].strip(), "a character is in no chunk"
        assert chunk.end > covered
        assert position == 0 or chunk.start > chunks[position - 1].start
        covered = chunk.end
    assert not text[covered:].strip()
    index = 0
    for word in re.finditer(r"\w+", text):
        if len(word.group()) > 200:
            continue
        while chunks[index].end < word.end():
            index += 1
        assert chunks[index].start <= word.start(), f"{word} is in no chunk as a whole"


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.sampled_from(MIME_TYPES))
def test_spans_cover_every_word_whole(text: str, mime_type: str) -> None:
    check(text, chunk_text(text, mime_type))


@settings(max_examples=150, deadline=None)
@given(TEXTS, st.data())
def test_no_chunk_reaches_across_a_wall(text: str, data: st.DataObject) -> None:
    lines = [match.start() for match in re.finditer(r"^(?=.)", text, re.MULTILINE)]
    starts = data.draw(
        st.lists(st.sampled_from(lines), unique=True).map(sorted) if lines else st.just([])
    )
    sections = [
        Section(start, f"page {n}", data.draw(st.integers(1, 3)), data.draw(st.booleans()))
        for n, start in enumerate(starts)
    ]
    chunks = chunk_text(text, "application/pdf", sections)

    check(text, chunks)
    for section in sections:
        if section.is_apart:
            assert [c for c in chunks if c.start < section.start < c.end] == []
    for chunk in chunks:
        walls = [
            section for section in sections if section.is_apart and section.start <= chunk.start
        ]
        if walls and all(section.level >= walls[-1].level for section in sections):
            later = [s for s in sections if walls[-1].start < s.start < chunk.end]
            assert later or chunk.heading.endswith(walls[-1].title)


def test_short_pages_have_chunks_of_their_own_with_their_numbers() -> None:
    text = "one\n\ntwo\n\nthree"
    sections = [
        Section(0, "page 1", is_apart=True),
        Section(5, "page 2", is_apart=True),
        Section(10, "page 3", is_apart=True),
    ]

    assert chunk_text(text, "application/pdf", sections) == (
        Chunk(0, 0, 3, "page 1"),
        Chunk(1, 5, 8, "page 2"),
        Chunk(2, 10, 15, "page 3"),
    )


def test_a_run_of_headings_that_are_written_counts_as_one_place() -> None:
    body = "Words of the section follow here. " * 12
    text = f"Guide\n\nInstall\n\n{body}"
    sections = [Section(0, "Guide"), Section(7, "Install", 2)]

    assert [chunk.heading for chunk in chunk_text(text, "text/html", sections)] == [
        "Guide > Install"
    ]


@pytest.mark.parametrize("text", ["", " ", "\n\n\t\n", "\u2003" * 5_000])
def test_blank_text_has_no_chunks(text: str) -> None:
    assert chunk_text(text, "text/plain") == ()


def test_short_text_is_one_trimmed_chunk() -> None:
    assert chunk_text("\n  Hello there.\n", "text/plain") == (Chunk(0, 3, 15),)


def test_sections_are_cut_at_headings_with_the_chain_above() -> None:
    body = "Words of the section follow here. " * 12
    text = f"# Guide\n\n{body}\n\n## Install\n\n{body}\n\nOn Linux\n--------\n\n{body}\n\n# End\n\n{body}\n"
    chunks = chunk_text(text, "text/markdown")
    assert [chunk.heading for chunk in chunks] == [
        "Guide",
        "Guide > Install",
        "Guide > On Linux",
        "End",
    ]
    assert text[chunks[1].start :].startswith("## Install")
    assert chunks[1].start >= chunks[0].end, "nothing overlaps across a heading"


def test_headings_in_fences_and_front_matter_are_none() -> None:
    text = "---\ntitle: The *Real* Title\n# a comment\n---\n```sh\n# not a heading\n```\n~~~\n# neither\n~~~\n# Real\n"
    assert [heading.title for heading in outline(text).headings] == ["Real"]
    assert find_title(text) == "The Real Title"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("# A [link](http://x) and `code` #\n", "A link and code"),
        ("Intro\n\nThe title\n====\n", "The title"),
        ("#\n\n##Nothing\n\n## Something", "Something"),
        ("a | b\n--- | ---\n\n- item\n---\n", None),
        ("```x``` is inline\n# Head\n", "Head"),
        ("# " + "long " * 100, None),
        ("# snake_case_name and __init__", "snake_case_name and init"),
    ],
)
def test_title_is_the_first_heading(text: str, title: str | None) -> None:
    found = find_title(text)
    if text.startswith("# long"):
        assert found is not None
        assert len(found) <= 120
    else:
        assert found == title


def test_fence_that_fits_stays_whole() -> None:
    words = "Some words of prose before the code. " * 24
    code = "```python\n" + "print('a line of code')\n\n" * 50 + "```"
    text = f"{words}\n\n{code}\n\n{words}\n"
    chunks = chunk_text(text, "text/markdown")
    start = text.index("```")
    assert any(chunk.start <= start and start + len(code) <= chunk.end for chunk in chunks)


def test_tiny_sections_are_put_together() -> None:
    text = "".join(f"## {number}\n\nShort.\n\n" for number in range(1_000))
    chunks = chunk_text(text, "text/markdown")
    check(text, chunks)
    assert len(chunks) < 100


def test_source_code_is_cut_before_definitions() -> None:
    definition = "def name(argument):\n    first = argument\n\n    return first + 1\n"
    text = "\n\n".join([definition] * 60)
    chunks = chunk_text(text, "text/x-python")
    ends = [text[chunk.end :].lstrip()[:4] for chunk in chunks[:-1]]
    assert set(ends) == {"def "}
    assert all(text[chunk.start :].startswith(("def ", "return")) for chunk in chunks)


def test_prose_chunks_overlap_by_about_the_same() -> None:
    text = "This is a sentence of prose that says little. " * 300
    chunks = chunk_text(text, "text/plain")
    overlaps = [before.end - after.start for before, after in itertools.pairwise(chunks)]
    assert all(60 <= overlap <= 230 for overlap in overlaps), overlaps
    assert all(text[chunk.start :].startswith("This") for chunk in chunks)


def test_marks_are_never_torn_from_their_letter() -> None:
    text = "e\u0301" * 4_000
    for chunk in chunk_text(text, "text/plain"):
        assert not unicodedata.combining(text[chunk.start])


def test_marks_after_spaces_are_never_torn_off() -> None:
    for chunk in chunk_text("word \u0301" * 2_000, "text/plain"):
        assert not unicodedata.combining("word \u0301"[chunk.start % 6])


def test_nothing_is_repeated_across_a_large_gap() -> None:
    text = "word " * 120 + "\n" * 3_000 + "word " * 400
    chunks = chunk_text(text, "text/plain")
    check(text, chunks)
    assert chunks[1].start == 3_600


@pytest.mark.parametrize(
    "text",
    [
        "a=b;" * 250_000,
        "x" + " " * 1_000_000 + "y",
        "\n" * 1_000_000,
        "a" * 1_000_000,
        "# a\n" * 250_000,
        "a" + "\u0301" * 1_000_000,
        "```\n" * 250_000,
        "-" * 1_000_000,
        "#" * 1_000_000,
        "# " + " #" * 500_000,
        "[" * 1_000_000,
        "a\n" * 500_000,
    ],
    ids=lambda text: repr(text[:6]),
)
def test_odd_texts_of_a_million_characters_take_linear_time(text: str) -> None:
    started = time.thread_time()
    chunk_text(text, "text/markdown")
    # About 0.4 s at worst on a slow core; anything quadratic would take minutes.
    assert time.thread_time() - started < 8
