"""How a worker and its parser processes talk: frames over two pipes, each a head in JSON and a body of bytes.

::

    process -> worker   {"measures": {...}}                                    once, when it is ready
    worker -> process   {"kind", "path", "chars_max"}          the file's bytes
    process -> worker   {"mime_type", "title", ..., "memory", "cpu"}  the text in UTF-8
                        {"code", "reason", "is_skip", ..., "cpu"}                instead, when it has none

What a process answers may be written by a hostile file: it is checked as such, and nothing in it is ever run.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any, cast

from sercha.adapters.parsing.cleaning import clean_text
from sercha.domain.document import ExtractedText, Section

PREFIX = struct.Struct(">II")
HEAD_BYTES_MAX = 32 * 1024**2

_METADATA_MAX = 100
_WORD_CHARS_MAX = 2_000


class BadFrame(ValueError):
    """The other side does not keep to the protocol."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a process made no text of a file."""

    code: str
    reason: str
    is_skip: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process says of one file."""

    outcome: ExtractedText | Refusal
    memory: int
    """Bytes of memory that the process has."""
    cpu: float
    """Seconds of the processor that it has taken so far."""


def begin(head: dict[str, Any], body_bytes: int) -> bytes:
    """Return a frame up to its body."""
    raw = json.dumps(head, ensure_ascii=False).encode("utf-8", "replace")
    return PREFIX.pack(len(raw), body_bytes) + raw


def pack(head: dict[str, Any], body: bytes = b"") -> bytes:
    """Return a frame."""
    return begin(head, len(body)) + body


def sizes(prefix: bytes, body_bytes_max: int) -> tuple[int, int]:
    """Return the lengths of head and body that a frame begins with.

    Raises:
        BadFrame: they are out of bounds.
    """
    head, body = PREFIX.unpack(prefix)
    if head > HEAD_BYTES_MAX or body > body_bytes_max:
        raise BadFrame(f"a frame of {head} and {body} bytes")
    return head, body


def parse_head(raw: bytes) -> dict[str, Any]:
    """Return a frame's head.

    Raises:
        BadFrame: it is none.
    """
    try:
        head: object = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise BadFrame("a head that is no JSON") from error
    if not isinstance(head, dict):
        raise BadFrame("a head that is no object")
    return cast("dict[str, Any]", head)


def pack_answer(answer: Answer) -> bytes:
    """Return the frame of an answer."""
    outcome = answer.outcome
    if isinstance(outcome, Refusal):
        return pack(
            {
                "code": outcome.code,
                "reason": outcome.reason,
                "is_skip": outcome.is_skip,
                "memory": answer.memory,
                "cpu": answer.cpu,
            }
        )
    head = {
        "mime_type": outcome.mime_type,
        "title": outcome.title,
        "charset": outcome.charset,
        "metadata": outcome.metadata,
        "sections": [[s.start, s.title, s.level, s.is_apart] for s in outcome.sections],
        "memory": answer.memory,
        "cpu": answer.cpu,
    }
    return pack(head, outcome.text.encode("utf-8", "replace"))


def parse_answer(raw: bytes, body: bytes) -> Answer:
    """Return the answer in a frame.

    Raises:
        BadFrame: anything in it is not as a parser makes it.
    """
    head = parse_head(raw)
    memory, cpu = _whole(head.get("memory")), head.get("cpu")
    if not isinstance(cpu, float) or not cpu >= 0:
        raise BadFrame("no time where one must be")
    if "code" in head:
        refusal = Refusal(
            _word(head["code"]), _word(head.get("reason")), head.get("is_skip") is True
        )
        return Answer(refusal, memory, cpu)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadFrame("a text that is no UTF-8") from error
    if clean_text(text) != text:
        raise BadFrame("a text that is not clean")
    extracted = ExtractedText(
        text=text,
        mime_type=_word(head.get("mime_type")),
        title=_word_or_none(head.get("title")),
        charset=_word_or_none(head.get("charset")),
        metadata=_metadata(head.get("metadata")),
        sections=_sections(head.get("sections"), len(text)),
    )
    return Answer(extracted, memory, cpu)


def _sections(value: object, length: int) -> tuple[Section, ...]:
    if not isinstance(value, list):
        raise BadFrame("sections that are no list")
    sections: list[Section] = []
    last = 0
    for each in cast("list[object]", value):
        if not isinstance(each, list) or len(cast("list[object]", each)) != 4:
            raise BadFrame("a section that is none")
        start, title, level, is_apart = cast("list[object]", each)
        place = _whole(start)
        if not last <= place < length:
            raise BadFrame("a section out of bounds")
        sections.append(Section(place, _word(title), _whole(level), is_apart is True))
        last = place
    return tuple(sections)


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise BadFrame("metadata that are none")
    pairs = cast("dict[str, object]", value)
    if len(pairs) > _METADATA_MAX:
        raise BadFrame("too many metadata")
    return {_word(key): _word(each) for key, each in pairs.items()}


def _whole(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise BadFrame("no number where one must be")
    return value


def _word(value: object) -> str:
    if not isinstance(value, str) or len(value) > _WORD_CHARS_MAX or clean_text(value) != value:
        raise BadFrame("no clean word where one must be")
    return value


def _word_or_none(value: object) -> str | None:
    return None if value is None else _word(value)
