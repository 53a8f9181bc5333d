"""Text out of bytes: charsets, control characters, and what is no text at all."""

from __future__ import annotations

import os
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sercha.adapters.parsing.mime import text_type
from sercha.adapters.parsing.text import PlainTextExtractor, clean_text, extract_text
from sercha.errors import ItemFailed
from sercha.services.ports import Item

RUSSIAN = "Привет, мир! Это обычный русский текст, который раньше писали в старой кодировке. " * 6
FRENCH = (
    "Où est passé l'été ? Le garçon naïf a mangé une crêpe à la crème brûlée près de l'église. " * 3
)
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n" * 12


@pytest.mark.parametrize(
    ("content", "text", "charset"),
    [
        (b"", "", "utf-8"),
        (b"plain", "plain", "utf-8"),
        ("Grüße".encode(), "Grüße", "utf-8"),
        (b"\xef\xbb\xbfmarked", "marked", "utf-8"),
        ("wide ünd marked".encode("utf-16"), "wide ünd marked", "utf-16-le"),
        ("\ufeffbig end".encode("utf-16-be"), "big end", "utf-16-be"),
        ("\ufeffvery wide".encode("utf-32-le"), "very wide", "utf-32-le"),
        ("no mark at all".encode("utf-16-le"), "no mark at all", "utf-16-le"),
        ("no mark at all".encode("utf-16-be"), "no mark at all", "utf-16-be"),
        ("нет метки, по-русски".encode("utf-16-le"), "нет метки, по-русски", "utf-16-le"),
        ("no mark at all".encode("utf-32-le"), "no mark at all", "utf-32-le"),
        ("no mark at all".encode("utf-32-be"), "no mark at all", "utf-32-be"),
        (b"caf\xe9 \x93quoted\x94", "café “quoted”", "cp1252"),
        (
            "# -*- coding: latin-1 -*-\nx = 'é'".encode("latin-1"),
            "# -*- coding: latin-1 -*-\nx = 'é'",
            "iso8859-1",
        ),
        (
            "# coding: iso-2022-jp\n# 猫".encode("iso-2022-jp"),
            "# coding: iso-2022-jp\n# 猫",
            "iso2022-jp",
        ),
        ("<?xml encoding='koi8-r'?>мир".encode("koi8-r"), "<?xml encoding='koi8-r'?>мир", "koi8-r"),
        (b"# coding: punycode\n\xe9t\xe9 de la", "# coding: punycode\nété de la", "cp1252"),
        (
            b"# coding: unicode_escape\n\\x41 \xe9t\xe9 l\xe0",
            "# coding: unicode_escape\n\\x41 été là",
            "cp1252",
        ),
        (b"# coding: rot13\n\xe9t\xe9 de la", "# coding: rot13\nété de la", "cp1252"),
    ],
)
def test_charset_is_found(content: bytes, text: str, charset: str) -> None:
    extracted = extract_text("/a/file.txt", content)
    assert (extracted.text, extracted.charset) == (text, charset)


@pytest.mark.parametrize(
    ("text", "charset"),
    [
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "koi8-r"),
        (JAPANESE, "shift_jis"),
        (JAPANESE, "euc_jp"),
        (FRENCH, "latin-1"),
    ],
)
def test_old_charsets_are_recognised_by_their_language(text: str, charset: str) -> None:
    assert extract_text("/a/b.txt", text.encode(charset)).text == text


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + b"text " * 100,
        b"%PDF-1.7\n" + b"text " * 100,
        b"PK\x03\x04" + b"text " * 100,
        b"\x7fELF" + b"text " * 100,
        b"\x1f\x8b\x08" + b"text " * 100,
        random.Random(1).randbytes(5_000),
        bytes(4_096),
        bytes(range(256)) * 20,
        b"\xa7\r\r\n" + b"\0\0\0\xe3" * 50 + b"name and more names" * 3,
    ],
    ids=["png", "pdf", "zip", "elf", "gzip", "random", "zeros", "all bytes", "pyc"],
)
def test_binary_is_skipped(content: bytes) -> None:
    with pytest.raises(ItemFailed) as caught:
        extract_text("/a/file.txt", content)
    assert caught.value.error_code == "binary"
    assert caught.value.is_skip


def test_stray_control_characters_become_spaces() -> None:
    extracted = extract_text("/a.log", b"before\0after \x1b[31mred\x1b[0m\x07 \tend \x7f")
    assert extracted.text == "before after  [31mred [0m  \tend  "


@pytest.mark.parametrize(
    "content", [b"before\0after", b"a\0bc\0d", b"name\0value\0\0end", b"ab\0cdefg"]
)
def test_stray_zeros_are_not_taken_for_utf_16(content: bytes) -> None:
    assert extract_text("/a.log", content).text == content.decode().replace("\0", " ")


def test_line_ends_become_newlines() -> None:
    assert clean_text("a\r\nb\rc\fd\x0be\x85f\n") == "a\nb\nc\nd\ne\nf\n"


def test_text_over_the_limit_is_cut_and_says_so() -> None:
    extracted = extract_text("/a.txt", b"x" * 100, text_chars_max=40)
    assert extracted.text == "x" * 40
    assert extracted.metadata == {"truncated": "40 of 100 characters"}


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["/a.py", "/b.md", "/c"]))
def test_any_bytes_give_clean_text_or_are_skipped(content: bytes, path: str) -> None:
    try:
        extracted = extract_text(path, content)
    except ItemFailed:
        return
    extracted.text.encode()  # no lone surrogates
    assert clean_text(extracted.text) == extracted.text
    assert "\0" not in extracted.text


@pytest.mark.parametrize(
    ("path", "head", "mime_type"),
    [
        ("/a/x.py", b"", "text/x-python"),
        ("/a/README.MD", b"", "text/markdown"),
        ("/a/Makefile", b"", "text/x-makefile"),
        ("/a/page.html", b"", "text/html"),
        ("/a/tool", b"#!/usr/bin/env python3\n", "text/x-python"),
        ("/a/py", b"", "text/plain"),
        ("/a.py/notes", b"", "text/plain"),
        ("/a/x.unheard-of", b"", "text/plain"),
    ],
)
def test_type_comes_from_the_name(path: str, head: bytes, mime_type: str) -> None:
    assert text_type(path, head) == mime_type


def test_only_markdown_has_a_title() -> None:
    assert extract_text("/a.md", b"intro\n\n# Title\n").title == "Title"
    assert extract_text("/a.py", b"# Title\n").title is None


def test_old_charset_of_many_megabytes_is_quick() -> None:
    content = b"var a=1;" * 500_000 + b" caf\xe9 " + b"x;" * 2_000_000
    started = time.monotonic()
    extracted = extract_text("/app.min.js", content)
    assert "café" in extracted.text or "truncated" in extracted.metadata
    assert time.monotonic() - started < 8


async def test_large_text_is_extracted_off_the_loop() -> None:
    extractor = PlainTextExtractor()
    item = Item("/a.txt", "/a.txt", "1", 1)
    assert (await extractor.extract(item, os.linesep.encode() * 50_000)).text == "\n" * 50_000
    assert (await extractor.extract(item, b"small")).text == "small"
