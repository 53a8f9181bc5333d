"""The name server of the test cluster: right answers, and nothing that could end it."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from sercha.testing.cluster.dns import answer, read_names

NAMES = {"sercha-api-1": ["192.0.2.7"], "apis": ["192.0.2.7", "192.0.2.8"]}
HEAD = struct.pack("!HHHHHH", 0xBEEF, 0x0100, 1, 0, 0, 0)


def asked_for(name: str, kind: int = 1) -> bytes:
    labels = b"".join(bytes([len(each)]) + each.encode() for each in name.split("."))
    return labels + b"\0" + struct.pack("!HH", kind, 1)


def addresses_in(reply: bytes, question: bytes) -> list[str]:
    records = reply[len(HEAD) + len(question) :]
    assert len(records) % 16 == 0
    return [socket.inet_ntoa(records[at + 12 : at + 16]) for at in range(0, len(records), 16)]


def test_a_name_gets_all_its_addresses_whatever_its_case() -> None:
    question = asked_for("APIs")
    reply = answer(HEAD + question, NAMES)
    assert reply is not None
    number, flags, questions, answers, *_ = struct.unpack_from("!HHHHHH", reply)
    assert (number, questions, answers) == (0xBEEF, 1, 2)
    assert flags == 0x8500, "an answer, from who knows, to a question that asks to look further"
    assert addresses_in(reply, question) == NAMES["apis"]


def test_an_unknown_name_does_not_exist_and_a_known_one_has_no_other_records() -> None:
    for question, code in [(asked_for("other"), 3), (asked_for("apis", kind=28), 0)]:
        reply = answer(HEAD + question, NAMES)
        assert reply is not None
        assert reply[3] & 0x0F == code
        assert addresses_in(reply, question) == []


def test_what_comes_after_the_question_is_not_repeated() -> None:
    question = asked_for("apis")
    plain = answer(HEAD + question, NAMES)
    assert answer(HEAD + question + b"\0\0\x29\x10\0\0\0\0\0\0\0", NAMES) == plain


def test_a_question_that_was_cut_off_is_not_answered() -> None:
    whole = HEAD + asked_for("sercha-api-1")
    for length in range(len(whole)):
        assert answer(whole[:length], NAMES) is None, length


def test_answers_and_compressed_names_are_not_answered() -> None:
    assert answer(struct.pack("!HHHHHH", 1, 0x8000, 1, 0, 0, 0) + asked_for("apis"), NAMES) is None
    assert answer(HEAD + b"\xc0\x0c\0\x01\0\x01", NAMES) is None


@given(st.one_of(st.binary(max_size=520), st.binary(max_size=520).map(HEAD.__add__)))
def test_no_message_ends_the_name_server(message: bytes) -> None:
    reply = answer(message, NAMES)
    assert reply is None or reply[:2] == message[:2]


def test_the_file_may_have_empty_lines_and_several_names(tmp_path: Path) -> None:
    file = tmp_path / "names"
    file.write_text("192.0.2.7 Sercha-API-1 apis\n\n192.0.2.8 apis\n")
    assert read_names(file) == NAMES
