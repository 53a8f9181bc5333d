"""Which parser a file is given to: by its content first, then by its name; text stays text."""

from __future__ import annotations

import pytest

from sercha.adapters.parsing.kinds import Kind, find_kind, is_encrypted_package

MAIL = b"Return-Path: <a@b.c>\r\nReceived: from x\r\n  by y\r\nFrom: a@b.c\r\nSubject: s\r\n\r\nText\r\n"


@pytest.mark.parametrize(
    ("path", "content", "kind"),
    [
        ("/a.txt", b"%PDF-1.7\n", Kind.PDF),
        ("/a.pdf", b"\xff junk \xfe\n%PDF-1.4\n" + b"\xe2" * 9 + b"startxref\n9\n%%EOF", Kind.PDF),
        ("/a.exe", b"PK\x03\x04rest", Kind.PACKAGE),
        ("/a.txt", b"\xef\xbb\xbf{\\rtf1 x}", Kind.RTF),
        ("/a.txt", MAIL, Kind.MAIL),
        ("/a.eml", b"Subject: s\n\nText", Kind.MAIL),
        ("/a", b'{"cells": [], "nbformat": 4}', Kind.NOTEBOOK),
        ("/a.json", b'["\\u00e9"]', Kind.JSON),
        ("/a.json", b'["' + b"x" * 5_000 + b'"]', Kind.JSON),
        ("/a.tsv", b"a\tb\n", Kind.TABLE),
    ],
)
def test_kind_is_found(path: str, content: bytes, kind: Kind) -> None:
    assert find_kind(path, content) is kind


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/a.pdf", b"no PDF at all"),
        ("/a.docx", b"just words"),
        ("/a.md", b"# The mark %PDF- begins a PDF, and startxref is near its end"),
        ("/a.md", b"<html>in Markdown</html>"),
        ("/a.php", b"<!doctype html><?php echo 1 ?>"),
        ("/a.py", b"From: x\nTo: y\nSubject: z\nDate: d\n"),
        ("/a.txt", b"From: x\nTo: y\n\nA letter."),
        ("/a.txt", b"Subject: x\n\nA note."),
        ("/a.json", b'{\n "name": "plain"\n}\n'),
        ("/a.html", b"\x89PNG\r\n\x1a\n<html>"),
        ("/a.csv", bytes(range(256)) * 20),
        ("/a.eml", b"From: x\n" + bytes(4_000)),
        ("/a", b""),
    ],
)
def test_text_and_what_cannot_be_read_have_no_kind(path: str, content: bytes) -> None:
    assert find_kind(path, content) is None


def test_an_office_document_behind_a_password_is_recognised() -> None:
    container = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)

    assert is_encrypted_package(container + "EncryptedPackage".encode("utf-16-le"))
    assert not is_encrypted_package(container + "WordDocument".encode("utf-16-le"))
