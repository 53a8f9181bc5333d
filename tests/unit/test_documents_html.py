"""Pages: what a reader reads, and nothing of what surrounds it."""

from __future__ import annotations

import time

import pytest

from tests.support.documents import headings, parse

PAGE = """<!doctype html><html lang="en"><head><title>Tea  in
winter</title><meta name="author" content="Ada Example"><style>p { color: red }</style>
<meta property="article:published_time" content="2025-03-04"></head><body>
<header>Our site</header><nav><a href=/>Home</a> <a href=/shop>Shop</a></nav>
<main><h1>Tea<a class="headerlink" href="#tea">¶</a></h1><p>Oolong is <b>half</b> oxidised,
green tea is not.<br>Second line. {more}</p><script>alert(1)</script>
<h2>Brewing</h2><p>{body}</p><table><tr><th>Kind<th>Minutes<tr><td>Sencha<td>2</table>
<pre>def  brew():
    pass</pre></main><aside>Advertisement</aside><footer>Imprint</footer></body></html>""".replace(
    "{body}", "Water must not boil. " * 20
).replace("{more}", "More of it. " * 20)


def test_the_text_of_a_page_is_read_without_what_surrounds_it() -> None:
    extracted = parse("/a.html", PAGE.encode())

    assert extracted.title == "Tea in winter"
    assert extracted.metadata == {
        "author": "Ada Example",
        "created": "2025-03-04",
        "language": "en",
    }
    assert extracted.text.startswith(
        "Tea\n\nOolong is half oxidised, green tea is not.\nSecond line. More of it. "
    )
    for noise in ("Our site", "Shop", "alert", "color", "Advertisement", "Imprint", "¶"):
        assert noise not in extracted.text, noise


def test_headings_of_a_page_are_sections() -> None:
    assert headings(parse("/a.html", PAGE.encode()), "Water") == ["Tea > Brewing"]


def test_rows_of_tables_are_lines_and_preformatted_text_keeps_its_spaces() -> None:
    text = parse("/a.html", PAGE.encode()).text

    assert "Sencha\t2\n" in text
    assert "def  brew():\n    pass\n" in text


def test_a_page_of_nothing_but_links_keeps_them() -> None:
    content = b"<html><body><nav>" + b"<p><a href=x>A chapter of the book</a>" * 20 + b"</nav>"

    assert parse("/a.html", content).text.count("A chapter") == 20


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/a.txt", b"<!DOCTYPE html><p>caf\xc3\xa9"),
        ("/a", b"\xef\xbb\xbf  <html><p>caf\xc3\xa9"),
        ("/a.htm", b"<p>caf\xc3\xa9"),
        ("/a.html", b"<meta charset=iso-8859-1><p>caf\xe9"),
        ("/a.html", "\ufeff<html><p>café".encode("utf-16-le")),
        ("/a.xhtml", b'<?xml version="1.0"?><!-- x --><html><body><p>caf&#233;</p></body></html>'),
        ("/a.xls", b"<!doctype html><table><tr><td>caf&eacute;</table>"),
    ],
)
def test_a_page_is_known_by_what_it_is(path: str, content: bytes) -> None:
    assert parse(path, content).text.strip() == "café"


@pytest.mark.parametrize(
    "content",
    [
        b"<div>" * 10_000 + b"alpha",
        b"<p><b>" * 20_000 + b"alpha",
        b"<table><tr><td>" * 20_000 + b"alpha",
        b"<a href='" + b"x" * 1_000_000 + b"'>alpha</a>",
        b"<nav>" * 5_000 + b"<p>alpha" + b"</nav>" * 5_000,
    ],
    ids=["deep", "unclosed", "tables", "attribute", "boilerplate"],
)
def test_a_hostile_page_takes_bounded_time_and_keeps_its_word(content: bytes) -> None:
    started = time.monotonic()

    assert "alpha" in parse("/a.html", content).text
    assert time.monotonic() - started < 20
