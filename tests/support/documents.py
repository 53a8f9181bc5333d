"""Documents of all formats, made by the formats' own writers, and parsed without a process of their own."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import docx
import openpyxl
import pptx
from fpdf import FPDF
from fpdf.enums import AccessPermission, EncryptionMethod

from sercha.adapters.parsing.builder import Job
from sercha.adapters.parsing.kinds import find_kind
from sercha.adapters.parsing.parsers import PARSERS
from sercha.domain.chunking import chunk_text
from sercha.domain.document import ExtractedText

CHARS_MAX = 4_000_000
WRITTEN_AT = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


def parse(path: str, content: bytes, *, chars_max: int = CHARS_MAX) -> ExtractedText:
    """Parse a document as a parser process would, in this one."""
    kind = find_kind(path, content)
    assert kind is not None, f"{path} is taken for text, or for nothing"
    return PARSERS[kind](Job(path, content, chars_max))


def headings(extracted: ExtractedText, word: str) -> list[str]:
    """Return the headings of the chunks that hold *word*."""
    chunks = chunk_text(extracted.text, extracted.mime_type, extracted.sections)
    return [each.heading for each in chunks if word in extracted.text[each.start : each.end]]


def make_pdf(
    pages: Sequence[str], *, password: str | None = None, bookmarks: bool = False
) -> bytes:
    """Return a PDF with one text on each page."""
    pdf = FPDF()
    pdf.set_title("Tea in winter")
    pdf.set_author("Ada Example")
    pdf.set_creation_date(WRITTEN_AT)
    pdf.set_font("Helvetica", size=12)
    for number, text in enumerate(pages, 1):
        pdf.add_page()
        if bookmarks:
            pdf.start_section(f"Chapter {number}")
        pdf.multi_cell(0, 6, text)
    if password is not None:
        pdf.set_encryption(
            owner_password="owner",
            user_password=password,
            encryption_method=EncryptionMethod.AES_256,
            permissions=AccessPermission.none(),
        )
    return bytes(pdf.output())


def make_docx(blocks: Sequence[tuple[str, str]], table: Sequence[Sequence[str]] = ()) -> bytes:
    """Return a Word document of (style, text), with a table at the end."""
    document = docx.Document()
    for style, text in blocks:
        document.add_paragraph(text, style=style or None)
    if table:
        made = document.add_table(rows=0, cols=len(table[0]))
        for row in table:
            for cell, text in zip(made.add_row().cells, row, strict=True):
                cell.text = text
    document.sections[0].footer.paragraphs[0].text = "Confidential footer"
    _describe(document.core_properties)
    return _saved(document)


def make_pptx(slides: Sequence[tuple[str, str, str]]) -> bytes:
    """Return a presentation of (title, text, notes)."""
    presentation = pptx.Presentation()
    for title, text, notes in slides:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = text
        if notes:
            slide.notes_slide.notes_text_frame.text = notes
    _describe(presentation.core_properties)
    return _saved(presentation)


def make_xlsx(sheets: Mapping[str, Sequence[Sequence[Any]]]) -> bytes:
    """Return a workbook."""
    book = openpyxl.Workbook()
    book.remove(book.active)  # type: ignore[arg-type]
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(list(row))
    book.properties.title = "Tea in winter"
    book.properties.creator = "Ada Example"
    return _saved(book)


def make_odt(blocks: Sequence[tuple[int, str]]) -> bytes:
    """Return an OpenDocument text of (level of heading or 0, text)."""
    from odf.opendocument import OpenDocumentText
    from odf.text import H, P

    document = OpenDocumentText()
    for level, text in blocks:
        element = H(outlinelevel=level, text=text) if level else P(text=text)
        document.text.addElement(element)
    return _odf(document)


def make_ods(sheets: Mapping[str, Sequence[Sequence[str]]]) -> bytes:
    """Return an OpenDocument workbook."""
    from odf.opendocument import OpenDocumentSpreadsheet
    from odf.table import Table, TableCell, TableRow
    from odf.text import P

    document = OpenDocumentSpreadsheet()
    for name, rows in sheets.items():
        table = Table(name=name)
        for values in rows:
            row = TableRow()
            for value in values:
                cell = TableCell(valuetype="string")
                cell.addElement(P(text=value))
                row.addElement(cell)
            table.addElement(row)
        document.spreadsheet.addElement(table)
    return _odf(document)


def make_odp(slides: Sequence[str]) -> bytes:
    """Return an OpenDocument presentation with one text on each slide."""
    from odf.draw import Frame, Page, TextBox
    from odf.opendocument import OpenDocumentPresentation
    from odf.style import MasterPage, PageLayout
    from odf.text import P

    document = OpenDocumentPresentation()
    layout = PageLayout(name="plain")
    document.automaticstyles.addElement(layout)
    document.masterstyles.addElement(MasterPage(name="master", pagelayoutname=layout))
    for number, text in enumerate(slides):
        page = Page(name=f"page{number}", masterpagename="master")
        frame, box = Frame(), TextBox()
        box.addElement(P(text=text))
        frame.addElement(box)
        page.addElement(frame)
        document.presentation.addElement(page)
    return _odf(document)


def make_epub(chapters: Sequence[str]) -> bytes:
    """Return a book of chapters, each the body of a page; the spine is in another order than the archive."""
    items = "".join(
        f'<item id="c{n}" href="text/c%20{n}.xhtml" media-type="application/xhtml+xml"/>'
        for n in range(len(chapters))
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters)))
    files = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": (
            '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
            '<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/>'
            "</rootfiles></container>"
        ),
        "OPS/book.opf": (
            '<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata>'
            "<dc:title>Tea in winter</dc:title><dc:creator>Ada Example</dc:creator>"
            f"<dc:language>en</dc:language></metadata><manifest>{items}</manifest><spine>{order}</spine></package>"
        ),
    }
    for number, chapter in reversed(list(enumerate(chapters))):
        files[f"OPS/text/c {number}.xhtml"] = (
            '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head>'
            f"<body>{chapter}</body></html>"
        )
    return make_zip(files)


def make_zip(files: Mapping[str, str | bytes]) -> bytes:
    """Return an archive, compressed."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def make_eml(
    text: str,
    *,
    html: str | None = None,
    attachment: bytes | None = None,
    charset: str = "utf-8",
    transfer: str = "quoted-printable",
) -> bytes:
    """Return a mail."""
    message = EmailMessage()
    message["From"] = "Ada Example <ada@example.org>"
    message["To"] = "team@example.org"
    message["Subject"] = "Grüße vom Tee"
    message["Date"] = "Tue, 04 Mar 2025 05:06:07 +0000"
    message["Message-ID"] = "<1@example.org>"
    if text:
        message.set_content(text, charset=charset, cte=transfer)
    if html is not None and text:
        message.add_alternative(html, subtype="html")
    elif html is not None:
        message.set_content(html, subtype="html", charset=charset, cte=transfer)
    if attachment is not None:
        message.add_attachment(
            attachment, maintype="application", subtype="pdf", filename="Rechnung März.pdf"
        )
    return message.as_bytes()


def make_rtf(text: str) -> bytes:
    """Return a document in rich text, with characters as their numbers."""
    body = "".join(char if char.isascii() else f"\\u{ord(char)}?" for char in text)
    body = body.replace("\n", "\\par\n")
    return (
        "{\\rtf1\\ansi\\ansicpg1252\\deff0{\\fonttbl{\\f0 Arial;}}"
        "{\\info{\\title Tea in winter}{\\author Ada Example}{\\creatim\\yr2025\\mo3\\dy4}}"
        f"\\f0\\b {body}\\b0}}"
    ).encode("ascii")


def make_notebook(cells: Sequence[tuple[str, str, str]]) -> bytes:
    """Return a notebook of (type, source, what was printed)."""
    made = []
    for kind, source, printed in cells:
        cell: dict[str, Any] = {
            "cell_type": kind,
            "metadata": {},
            "source": source.splitlines(True),
        }
        if kind == "code":
            outputs = [{"output_type": "stream", "name": "stdout", "text": [printed]}]
            cell |= {"outputs": outputs if printed else [], "execution_count": 1}
        made.append(cell)
    metadata = {"kernelspec": {"language": "python", "name": "python3"}}
    book = {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(book).encode()


def _describe(properties: Any) -> None:
    properties.title = "Tea in winter"
    properties.author = "Ada Example"
    properties.language = "en-GB"
    properties.created = WRITTEN_AT.replace(tzinfo=None)


def _saved(document: Any) -> bytes:
    stream = io.BytesIO()
    document.save(stream)
    return stream.getvalue()


def _odf(document: Any) -> bytes:
    from odf.dc import Creator, Title

    document.meta.addElement(Title(text="Tea in winter"))
    document.meta.addElement(Creator(text="Ada Example"))
    return _saved(document)
