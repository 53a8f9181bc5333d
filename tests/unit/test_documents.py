"""Documents of all formats: their words, titles, authors and dates, and the page, slide or sheet of each word."""

from __future__ import annotations

import random

import pytest

from sercha.domain.document import TRUNCATED
from sercha.errors import ItemFailed
from tests.support import documents
from tests.support.documents import headings, parse

OOLONG = "Oolong is half oxidised, green tea is not. Grüße, Ärger, naïve café."
WORDS = ("Oolong", "oxidised", "Grüße", "naïve")

SAMPLES: dict[str, bytes] = {
    "a.pdf": documents.make_pdf([OOLONG]),
    "a.docx": documents.make_docx([("", OOLONG)]),
    "a.pptx": documents.make_pptx([("Tea", OOLONG, "")]),
    "a.xlsx": documents.make_xlsx({"Sales": [[OOLONG]]}),
    "a.odt": documents.make_odt([(0, OOLONG)]),
    "a.ods": documents.make_ods({"Sales": [[OOLONG]]}),
    "a.odp": documents.make_odp([OOLONG]),
    "a.epub": documents.make_epub([f"<p>{OOLONG}</p>"]),
    "a.rtf": documents.make_rtf(OOLONG),
    "a.eml": documents.make_eml(OOLONG),
    "a.ipynb": documents.make_notebook([("markdown", OOLONG, "")]),
    "a.html": f"<!doctype html><meta charset=utf-8><p>{OOLONG}</p>".encode(),
    "a.csv": f"plant,note\ntea,{OOLONG!r}\n".encode(),
    "a.json": b'{"note": "' + OOLONG.encode("unicode_escape").replace(b"\\x", b"\\u00") + b'"}',
}
TITLED = ("a.pdf", "a.docx", "a.pptx", "a.xlsx", "a.odt", "a.ods", "a.odp", "a.epub", "a.rtf")


@pytest.mark.parametrize("name", SAMPLES)
def test_all_words_of_a_document_are_in_its_text(name: str) -> None:
    text = parse(f"/{name}", SAMPLES[name]).text

    assert [word for word in WORDS if word not in text] == []


@pytest.mark.parametrize("name", TITLED)
def test_title_and_author_come_from_the_document(name: str) -> None:
    extracted = parse(f"/{name}", SAMPLES[name])

    assert extracted.title == "Tea in winter"
    assert extracted.metadata["author"] == "Ada Example"


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("a.pdf", "created", "2025-03-04T05:06:07+00:00"),
        ("a.docx", "created", "2025-03-04T05:06:07"),
        ("a.pptx", "language", "en-GB"),
        ("a.rtf", "created", "2025-03-04"),
        ("a.eml", "created", "2025-03-04T05:06:07+00:00"),
        ("a.eml", "author", "Ada Example <ada@example.org>"),
        ("a.epub", "language", "en"),
        ("a.pdf", "pages", "1"),
        ("a.pptx", "slides", "1"),
        ("a.odp", "slides", "1"),
        ("a.xlsx", "sheets", "1"),
        ("a.ods", "sheets", "1"),
        ("a.ipynb", "programming_language", "python"),
    ],
)
def test_metadata_that_a_format_has_are_kept(name: str, key: str, value: str) -> None:
    found = parse(f"/{name}", SAMPLES[name]).metadata[key]

    assert found.startswith(value)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_document_that_is_too_long_is_cut_and_says_so(name: str) -> None:
    extracted = parse(f"/{name}", SAMPLES[name], chars_max=30)

    assert len(extracted.text) == 30
    assert extracted.metadata[TRUNCATED] == "30 characters"
    assert all(each.start < 30 for each in extracted.sections)


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.xlsx", "a.odt", "a.epub", "a.rtf"])
@pytest.mark.parametrize("wrong", ["b.txt", "b", "b.zip", "b.pdf", "b.docx"])
def test_a_wrong_suffix_does_not_matter(name: str, wrong: str) -> None:
    assert parse(f"/{wrong}", SAMPLES[name]) == parse(f"/{name}", SAMPLES[name])


def test_each_page_of_a_pdf_is_named_with_its_bookmark() -> None:
    content = documents.make_pdf(["first alpha", "", "third gamma " * 150], bookmarks=True)
    extracted = parse("/a.pdf", content)

    assert headings(extracted, "alpha") == ["Chapter 1 > page 1"]
    assert set(headings(extracted, "gamma")) == {"Chapter 3 > page 3"}


def test_each_slide_is_named_and_has_its_notes() -> None:
    content = documents.make_pptx([("One", "alpha", "noted beta"), ("Two", "gamma", "")])
    extracted = parse("/a.pptx", content)

    assert headings(extracted, "alpha") == headings(extracted, "beta") == ["slide 1"]
    assert headings(extracted, "gamma") == ["slide 2"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xlsx", documents.make_xlsx({"Sales": [["alpha"]], "Stock Ä": [["gamma"]]})),
        ("a.ods", documents.make_ods({"Sales": [["alpha"]], "Stock Ä": [["gamma"]]})),
    ],
)
def test_each_sheet_is_named(name: str, content: bytes) -> None:
    extracted = parse(f"/{name}", content)

    assert headings(extracted, "alpha") == ["sheet Sales"]
    assert headings(extracted, "gamma") == ["sheet Stock Ä"]


def test_values_of_a_sheet_are_written_as_people_write_them() -> None:
    row = [3, 2.5, True, documents.WRITTEN_AT.replace(tzinfo=None), None, "two\nlines", "=1+1"]
    extracted = parse("/a.xlsx", documents.make_xlsx({"S": [row, [], ["next"]]}))

    assert extracted.text == "3\t2.5\tTrue\t2025-03-04 05:06:07\ttwo lines\nnext\n"


def test_headings_tables_and_footers_of_a_word_document_are_read() -> None:
    body = "Words of the section follow here. " * 12
    blocks = [("Heading 1", "Guide"), ("", body), ("Heading 2", "Install"), ("", f"alpha {body}")]
    extracted = parse("/a.docx", documents.make_docx(blocks, [["cell one", "cell two"]]))

    assert headings(extracted, "alpha") == ["Guide > Install"]
    assert "cell one\tcell two" in extracted.text
    assert extracted.text.rstrip().endswith("Confidential footer")


def test_headings_of_an_opendocument_text_are_sections() -> None:
    body = "Words of the section follow here. " * 12
    content = documents.make_odt([(1, "Guide"), (0, body), (2, "Install"), (0, f"alpha {body}")])

    assert headings(parse("/a.odt", content), "alpha") == ["Guide > Install"]


def test_chapters_of_a_book_come_in_the_order_of_reading() -> None:
    body = "Words of the chapter follow here. " * 12
    content = documents.make_epub([f"<h1>One</h1><p>alpha {body}", f"<h1>Two</h1><p>gamma {body}"])
    extracted = parse("/a.epub", content)

    assert headings(extracted, "alpha") == ["One"]
    assert headings(extracted, "gamma") == ["Two"]


@pytest.mark.parametrize("attached", [None, b"%PDF-"])
def test_a_mail_shows_its_headers_its_text_once_and_what_is_attached(
    attached: bytes | None,
) -> None:
    content = documents.make_eml("alpha text", html="<p>alpha text</p>", attachment=attached)
    extracted = parse("/a.eml", content)

    assert extracted.title == "Grüße vom Tee"
    assert "From: Ada Example <ada@example.org>" in extracted.text
    assert extracted.text.count("alpha text") == 1
    assert ("Attachment: Rechnung März.pdf" in extracted.text) == (attached is not None)


def test_a_mail_that_is_html_only_is_read_and_known_by_its_headers() -> None:
    extracted = parse(
        "/saved", documents.make_eml("", html="<style>p{}</style><p>alpha <b>b</b>eta")
    )

    assert "alpha beta" in extracted.text
    assert "p{}" not in extracted.text


def test_cells_of_a_notebook_are_read_with_what_they_printed() -> None:
    cells = [
        ("markdown", "# Analysis\n\nOf *tea*.", ""),
        ("code", "print(alpha)", "printed beta\n"),
    ]
    extracted = parse("/a.ipynb", documents.make_notebook(cells))

    assert extracted.title == "Analysis"
    assert (
        headings(extracted, "print(alpha)") == headings(extracted, "printed beta") == ["Analysis"]
    )


def test_columns_of_a_table_stand_above_its_rows() -> None:
    rows = "\n".join(f'"tea, green {number}";{number}' for number in range(500))
    extracted = parse("/a.csv", f"plant;price\n{rows}\n".encode())

    assert set(headings(extracted, "tea, green")) == {"plant, price"}
    assert "tea, green 7\t7\n" in extracted.text


def test_json_in_one_line_is_laid_out_and_unescaped() -> None:
    extracted = parse(
        "/a.json", b'{"name": "caf\\u00e9", "list": [' + b'"x", ' * 2_000 + b'"alpha"]}'
    )

    assert extracted.title == "café"
    assert '"name": "café"' in extracted.text
    assert max(map(len, extracted.text.splitlines())) < 40


def test_a_password_is_the_reason_that_is_given() -> None:
    with pytest.raises(ItemFailed) as caught:
        parse("/a.pdf", documents.make_pdf(["secret"], password="x"))

    assert (caught.value.error_code, caught.value.is_skip) == ("encrypted", True)


def test_an_archive_of_other_things_is_no_document() -> None:
    with pytest.raises(ItemFailed) as caught:
        parse("/a.zip", documents.make_zip({"one.txt": "x", "two.txt": "y"}))

    assert (caught.value.error_code, caught.value.is_skip) == ("binary", True)


def test_text_in_many_scripts_survives_every_office_format() -> None:
    seed = 7
    chars = "漢字かなКириллицаελληνικάעבריתالعربيةहिन्दी😀"
    text = "".join(random.Random(seed).choices(chars, k=200)) + "."

    for name, content in {
        "a.docx": documents.make_docx([("", text)]),
        "a.xlsx": documents.make_xlsx({"S": [[text]]}),
        "a.odt": documents.make_odt([(0, text)]),
        "a.epub": documents.make_epub([f"<p>{text}</p>"]),
    }.items():
        assert text in parse(f"/{name}", content).text, name
