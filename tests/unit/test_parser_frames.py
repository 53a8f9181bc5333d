"""What a parser process answers is checked as something that a hostile file may have written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sercha.adapters.parsing.frames import (
    HEAD_BYTES_MAX,
    PREFIX,
    Answer,
    BadFrame,
    Refusal,
    pack_answer,
    parse_answer,
    sizes,
)
from sercha.domain.document import ExtractedText, Section

TEXT = ExtractedText(
    text="one\n\ntwo é",
    mime_type="application/pdf",
    title="Tea",
    metadata={"author": "Ada"},
    sections=(Section(0, "page 1", 9, is_apart=True), Section(5, "page 2", 9, is_apart=True)),
)


def parts(frame: bytes) -> tuple[bytes, bytes]:
    head, body = sizes(frame[: PREFIX.size], 1_000)
    assert len(frame) == PREFIX.size + head + body
    return frame[PREFIX.size : PREFIX.size + head], frame[PREFIX.size + head :]


@pytest.mark.parametrize("outcome", [TEXT, Refusal("broken", "It is damaged.", is_skip=False)])
def test_an_answer_arrives_as_it_was_sent(outcome: ExtractedText | Refusal) -> None:
    answer = Answer(outcome, memory=5, cpu=0.5)

    assert parse_answer(*parts(pack_answer(answer))) == answer


@pytest.mark.parametrize(
    "change",
    [
        {"memory": -1},
        {"memory": "1"},
        {"cpu": "x"},
        {"cpu": float("nan")},
        {"mime_type": None},
        {"mime_type": "a\0b"},
        {"title": ["x"]},
        {"title": "x" * 5_000},
        {"title": "two\r\nlines"},
        {"metadata": None},
        {"metadata": {"a": 1}},
        {"metadata": {str(n): "" for n in range(200)}},
        {"sections": None},
        {"sections": [[0, "x", 1]]},
        {"sections": [["0", "x", 1, True]]},
        {"sections": [[5, "x", 1, True], [0, "y", 1, True]]},
        {"sections": [[10, "x", 1, True]]},
        {"sections": [[-1, "x", 1, True]]},
    ],
)
def test_an_answer_that_no_parser_makes_is_refused(change: dict[str, Any]) -> None:
    head, body = parts(pack_answer(Answer(TEXT, memory=5, cpu=0.5)))
    changed = json.dumps(json.loads(head) | change).encode()

    with pytest.raises(BadFrame):
        parse_answer(changed, body)


@pytest.mark.parametrize("body", [b"\xff", b"a\0b", b"a\r\n", "\x85".encode(), b"\xed\xa0\x80"])
def test_a_text_that_is_not_clean_is_refused(body: bytes) -> None:
    head, _ = parts(pack_answer(Answer(ExtractedText("", "text/plain"), memory=5, cpu=0.5)))

    with pytest.raises(BadFrame):
        parse_answer(head, body)


@pytest.mark.parametrize("head", [b"", b"[]", b"\xff", b"{", b"[" * 100_000, b"1"])
def test_a_head_that_is_no_object_is_refused(head: bytes) -> None:
    with pytest.raises(BadFrame):
        parse_answer(head, b"")


@pytest.mark.parametrize("claimed", [(HEAD_BYTES_MAX + 1, 0), (1, 1_001)])
def test_a_frame_that_is_too_long_is_refused_before_it_is_read(claimed: tuple[int, int]) -> None:
    with pytest.raises(BadFrame):
        sizes(PREFIX.pack(*claimed), 1_000)
