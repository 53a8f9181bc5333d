"""Files that are made to harm who reads them: at least sixty of them, and any number of damaged ones."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from functools import cache

from tests.support import documents, hostile_packages

TRUNCATIONS = 100


@cache
def hostile_files() -> dict[str, bytes]:
    """Return all of them by name."""
    found: dict[str, bytes] = {}
    for family in (
        hostile_packages.archives,
        hostile_packages.word_documents,
        hostile_packages.workbooks,
        hostile_packages.open_documents,
        pdfs,
        pages,
        mails,
        others,
        polyglots,
    ):
        found.update(family())
    return found


def raw_pdf(*objects: bytes, trailer: bytes = b"") -> bytes:
    """Return a PDF of these objects, numbered from 1; the first one is the root."""
    content, places = b"%PDF-1.7\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(content))
        content += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    start = len(content)
    content += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    content += b"".join(b"%010d 00000 n \n" % place for place in places)
    content += b"trailer\n<</Size %d/Root 1 0 R%b>>\n" % (len(objects) + 1, trailer)
    return content + b"startxref\n%d\n%%%%EOF\n" % start


def _page(contents: bytes = b"4 0 R") -> bytes:
    return b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Resources<<>>/Contents %b>>" % contents


def _stream(content: bytes, entries: bytes = b"", length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return b"<</Length %d%b>>\nstream\n%b\nendstream" % (size, entries, content)


def pdfs() -> Iterator[tuple[str, bytes]]:
    root = b"<</Type/Catalog/Pages 2 0 R>>"
    one = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    text = _stream(b"BT (x) Tj ET")
    yield (
        "claims-a-million-pages.pdf",
        raw_pdf(root, b"<</Type/Pages/Kids[3 0 R]/Count 1000000>>", _page(), text),
    )
    kids = b" ".join([b"3 0 R"] * 50_000)
    yield (
        "same-page-50000-times.pdf",
        raw_pdf(root, b"<</Type/Pages/Kids[%b]/Count 50000>>" % kids, _page(), text),
    )
    yield "pages-in-a-loop.pdf", raw_pdf(root, b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 9>>")
    yield "stream-of-4-gigabytes.pdf", raw_pdf(root, one, _page(), _stream(b"BT", length=1 << 32))
    bomb = bytes(100_000_000)
    for _ in range(3):
        bomb = zlib.compress(bomb, 9)
    filters = b"/Filter[/FlateDecode/FlateDecode/FlateDecode]"
    yield "deflated-thrice.pdf", raw_pdf(root, one, _page(), _stream(bomb, filters))
    many = b"/Filter[%b]" % (b"/FlateDecode" * 5_000)
    yield "five-thousand-filters.pdf", raw_pdf(root, one, _page(), _stream(b"x", many))
    yield "password.pdf", documents.make_pdf(["secret"], password="x")
    handler = b"/Encrypt<</Filter/Unheard/V 9/R 9/O(x)/U(x)/P 0>>/ID[(x)(x)]"
    yield "unknown-protection.pdf", raw_pdf(root, one, _page(), text, trailer=handler)
    outline = b"<</Type/Catalog/Pages 2 0 R/Outlines 5 0 R>>"
    item = b"<</Title(x)/Parent 5 0 R/Next 6 0 R/First 6 0 R/Dest[3 0 R/Fit]>>"
    yield (
        "bookmarks-in-a-loop.pdf",
        raw_pdf(outline, one, _page(), text, b"<</First 6 0 R/Last 6 0 R/Count 9>>", item),
    )
    before = raw_pdf(root, one, _page(), text)
    start = before.rindex(b"xref\n0")
    yield "tables-in-a-loop.pdf", raw_pdf(root, one, _page(), text, trailer=b"/Prev %d" % start)
    yield "itself-as-root.pdf", raw_pdf(b"1 0 R")
    yield "deep-arrays.pdf", raw_pdf(root, one, b"[" * 500_000)
    yield "header-only.pdf", b"%PDF-1.7"
    yield (
        "draws-itself.pdf",
        raw_pdf(
            root,
            one,
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Resources<</XObject<</X 4 0 R>>>>/Contents 5 0 R>>",
            _stream(
                b"/X Do /X Do",
                b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 4 0 R>>>>",
            ),
            _stream(b"/X Do"),
        ),
    )
    yield "million-operators.pdf", raw_pdf(root, one, _page(), _stream(b"q " * 2_000_000))
    yield "contents-in-a-loop.pdf", raw_pdf(root, one, _page(b"[3 0 R 3 0 R]"), text)
    yield "no-objects.pdf", b"%PDF-1.7\n" + b"\xff" * 50_000 + b"\nstartxref\n99999999\n%%EOF"


def pages() -> Iterator[tuple[str, bytes]]:
    yield "deep.html", b"<div>" * 1_000_000 + b"x"
    yield "unclosed-attribute.html", b"<a title='" + b"x" * 5_000_000
    yield (
        "million-attributes.html",
        b"<p " + b" ".join(b"a%d=1" % n for n in range(100_000)) + b">x",
    )
    yield "entities.html", b"<p>" + b"&amp;&#x110000;&bogus;" * 300_000
    yield "tables.html", b"<table>" * 20_000 + b"x" + b"<td>" * 20_000
    yield "formatting.html", b"<b><i><u><p>" * 20_000 + b"x"
    yield "templates.html", b"<template>" * 100_000 + b"x"
    yield "comments.html", b"<!doctype html>" + b"<!--" * 500_000
    yield "half-a-character.html", b"<p>\xf0\x9f\x98" * 100_000


def mails() -> Iterator[tuple[str, bytes]]:
    head = b"From: a@b.c\nSubject: s\nMIME-Version: 1.0\n"
    levels = [
        b'Content-Type: multipart/mixed; boundary="b%d"\n\n--b%d\n' % (n, n) for n in range(3_000)
    ]
    yield "parts-in-parts.eml", head + b"".join(levels) + b"\n\nx"
    yield "mails-in-mails.eml", (head + b"Content-Type: message/rfc822\n\n") * 500 + b"\n\nx"
    part = b"--b\nContent-Type: text/plain\n\nx\n"
    multipart = b'Content-Type: multipart/mixed; boundary="b"\n\n'
    yield "many-parts.eml", head + multipart + part * 1_100 + b"--b--\n"
    yield "no-boundary.eml", head + b"Content-Type: multipart/mixed\n\n--\n--\n" * 500
    yield "long-header.eml", head + b"X-Long: " + b"=?utf-8?q?x?= " * 100_000 + b"\n\nx"
    yield "long-subject.eml", b"From: a@b.c\nSubject: " + b"=?utf-8?q?x?= " * 20_000 + b"\n\nx"
    yield "many-headers.eml", head + b"X-A: 1\n" * 300_000 + b"\nx"
    yield "bad-base64.eml", head + b"Content-Transfer-Encoding: base64\n\n" + b"=A=/\xff" * 300_000
    yield "unknown-charset.eml", head + b"Content-Type: text/plain; charset=rot13\n\ncaf\xe9"
    yield (
        "addresses.eml",
        b"From: " + b"(" * 100_000 + b"\nSubject: x\nDate: Mon, 99 Foo 99999\n\nx",
    )


def others() -> Iterator[tuple[str, bytes]]:
    yield "braces.rtf", b"{\\rtf1 " + b"{" * 1_000_000
    yield "binary.rtf", b"{\\rtf1 {\\pict\\bin4294967295 x}}"
    yield "no-number.rtf", b"{\\rtf1 {\\pict\\bin x}\\u}"
    yield "half-characters.rtf", b"{\\rtf1 " + b"\\u-10179?" * 200_000 + b"}"
    yield "large-numbers.rtf", b"{\\rtf1 \\u99999999999999999999? \\uc99999999999 x}"
    yield "fonts.rtf", b"{\\rtf1 {\\fonttbl" + b"{\\f0\\fcharset0 x" * 50_000
    yield "code-page.rtf", b"{\\rtf1\\ansi\\ansicpg99999 \\'e9}"
    yield "deep.json", b'{"\\u0061":' + b"[" * 1_000_000
    yield "long-number.json", b'["\\u0061", ' + b"9" * 1_000_000 + b"]"
    yield "half-characters.json", b'["\\ud800 \\udfff"]'
    yield "cells-are-none.ipynb", b'{"nbformat": 4, "cells": [1, null, {"source": {"a": 1}}, [[]]]}'
    yield "cells-are-a-number.ipynb", b'{"nbformat": 4, "cells": 5}'
    yield "deep.ipynb", b'{"nbformat": 4, "cells": ' + b"[" * 500_000
    yield "one-field.csv", b'"' + b"x" * 3_000_000 + b'",y\n'
    yield "million-columns.csv", b"x," * 1_000_000
    yield "quotes.csv", b'"' * 1_000_000
    yield "separators.csv", b'";,|\t' * 200_000


def polyglots() -> Iterator[tuple[str, bytes]]:
    pdf, package = documents.make_pdf(["in the PDF"]), documents.make_docx([("", "in the package")])
    yield "pdf-then-package.docx", pdf + package
    yield "package-then-pdf.pdf", package + pdf
    yield "page-then-pdf.html", b"<!doctype html><p>page<!--\n" + pdf
    yield "picture-then-page.html", b"GIF89a/*<html><p>page</p>*/"
    yield "pdf-named-as-package.xlsx", pdf
    yield "package-named-as-pdf.pdf", package
    yield "package-named-as-text.txt", package
    yield "old-container.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(9_000)


@cache
def samples() -> dict[str, bytes]:
    """Return a sound document of each format."""
    text = "Oolong is half oxidised, green tea is not. " * 40
    return {
        "a.pdf": documents.make_pdf([text, text]),
        "a.docx": documents.make_docx([("Heading 1", "Tea"), ("", text)], [["a", "b"]]),
        "a.pptx": documents.make_pptx([("Tea", text, "notes")]),
        "a.xlsx": documents.make_xlsx({"S": [[text, 1, 2.5]] * 20}),
        "a.odt": documents.make_odt([(1, "Tea"), (0, text)]),
        "a.ods": documents.make_ods({"S": [["a", text]]}),
        "a.epub": documents.make_epub([f"<h1>Tea</h1><p>{text}</p>"]),
        "a.rtf": documents.make_rtf(text),
        "a.eml": documents.make_eml(text, html=f"<p>{text}</p>", attachment=b"%PDF-"),
        "a.html": f"<!doctype html><main><h1>Tea</h1><p>{text}</p></main>".encode(),
        "a.ipynb": documents.make_notebook([("markdown", "# Tea", ""), ("code", "1", "2")]),
        "a.csv": f"plant;note\ntea;{text}\n".encode() * 5,
        "a.json": b'{"note": "\\u00e9", "list": [1, 2, {"a": null}]}',
    }


def damaged_files(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Give *count* damaged variants of the samples: bytes changed, taken out, doubled, or put together."""
    rng = random.Random(seed)
    sound = samples()
    names = sorted(sound)
    for number in range(count):
        name = rng.choice(names)
        content = bytearray(sound[name])
        for _ in range(rng.choice((1, 1, 2, 5, 30))):
            _damage(rng, content, sound[rng.choice(names)])
        yield f"{seed}-{number}-{name}", bytes(content)


def truncated_files(seed: int, count: int = TRUNCATIONS) -> Iterator[tuple[str, bytes]]:
    """Give the samples, each cut off at random places."""
    rng = random.Random(seed)
    sound = samples()
    for number in range(count):
        name = rng.choice(sorted(sound))
        yield f"{seed}-cut{number}-{name}", sound[name][: rng.randrange(len(sound[name]))]


def _damage(rng: random.Random, content: bytearray, other: bytes) -> None:
    if not content:
        return
    at = rng.randrange(len(content))
    size = min(rng.choice((1, 1, 4, 50, 2_000)), len(content) - at)
    match rng.randrange(6):
        case 0:
            content[at] ^= 1 << rng.randrange(8)
        case 1:
            content[at : at + size] = rng.randbytes(size)
        case 2:
            del content[at : at + size]
        case 3:
            content[at:at] = content[at : at + size] * rng.choice((1, 2, 100))
        case 4:
            start = rng.randrange(len(other))
            content[at : at + size] = other[start : start + size]
        case _:
            content[at : at + size] = rng.choice((b"\0", b"\xff", b"9", b"<", b"(")) * size
