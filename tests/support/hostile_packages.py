"""Archives that are made to harm who unpacks them, and office documents with hostile XML."""

from __future__ import annotations

import copy
import io
import struct
import zipfile
from collections.abc import Iterator, Mapping

from tests.support.documents import make_docx, make_epub, make_odt, make_pptx, make_xlsx, make_zip
from tests.support.quine import make_quine

LAUGHS = (
    "<!DOCTYPE x [<!ENTITY a0 'lol'>"
    + "".join(f"<!ENTITY a{n + 1} '{f'&a{n};' * 10}'>" for n in range(9))
    + "]>"
)
OUTSIDE = "<!DOCTYPE x [<!ENTITY out SYSTEM 'file:///etc/passwd'>]>"
W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
S = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
ODF = "urn:oasis:names:tc:opendocument:xmlns:"
CONTENT = "content.xml"
SHEET = "xl/worksheets/sheet1.xml"
WORD = "word/document.xml"


def replaced(package: bytes, parts: Mapping[str, str | bytes | None]) -> bytes:
    """Return a package with some parts in place of its own; None: left out."""
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        kept: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    for name, content in parts.items():
        kept.pop(name, None)
        if content is not None:
            kept[name] = content
    return make_zip(kept)


def word(body: str, doctype: str = "") -> bytes:
    xml = f'<?xml version="1.0"?>{doctype}<w:document xmlns:w="{W}"><w:body>{body}</w:body></w:document>'
    return replaced(make_docx([("", "x")]), {WORD: xml})


def sheet(rows: str, *, before: str = "") -> bytes:
    xml = f'<worksheet xmlns="{S}">{before}<sheetData>{rows}</sheetData></worksheet>'
    return replaced(make_xlsx({"S": [["x"]]}), {SHEET: xml})


def office_text(body: str, doctype: str = "", kind: str = "text") -> bytes:
    xml = (
        f'<?xml version="1.0"?>{doctype}<office:document-content xmlns:office="{ODF}office:1.0" '
        f'xmlns:text="{ODF}text:1.0" xmlns:table="{ODF}table:1.0"><office:body><office:{kind}>'
        f"{body}</office:{kind}></office:body></office:document-content>"
    )
    return replaced(make_odt([(0, "x")]), {CONTENT: xml})


def archives() -> Iterator[tuple[str, bytes]]:
    """Give archives, with names that say what they are."""
    plain = make_docx([("", "plain words")])
    yield "declares-4-gigabytes.docx", _declaring(plain, 0xFFFFFFF0)
    yield (
        "declares-less-than-it-holds.docx",
        _declaring(replaced(plain, {WORD: bytes(50_000_000)}), 9),
    )
    yield "ratio-of-a-thousand.docx", replaced(plain, {WORD: b"<x>" + bytes(190_000_000)})
    yield "unpacks-to-300-megabytes.xlsx", replaced(plain, {"xl/media/x.bin": bytes(300_000_000)})
    nested = b"core"
    for depth in range(12):
        nested = make_zip({f"{depth}-{n}.zip": nested for n in range(3)})
    yield "nested.zip", nested
    yield "nested.docx", replaced(plain, {"word/embeddings/x.docx": nested})
    for name in ("quine.zip", "quine.docx"):
        yield name, make_quine(name)
    yield "overlapping.docx", _overlapping(plain)
    yield (
        "many-parts.docx",
        make_zip({"[Content_Types].xml": "", **{f"p{n}": "" for n in range(25_000)}}),
    )
    yield "password.docx", _flagged(plain)
    yield "empty.docx", make_zip({})
    yield "directory-cut-off.docx", plain[:-30]
    yield (
        "out-of-its-folder.docx",
        make_zip({"../../../etc/cron.d/x": "x", "[Content_Types].xml": "x"}),
    )
    yield "no-document-part.docx", replaced(plain, {WORD: None})
    yield (
        "types-name-all.docx",
        replaced(
            plain,
            {"[Content_Types].xml": "<x>spreadsheetml.sheet.main presentationml.presentation</x>"},
        ),
    )
    yield "behind-junk.zip", b"PK\x03\x04" + bytes(1_000) + plain


def word_documents() -> Iterator[tuple[str, bytes]]:
    """Give Word documents and presentations with hostile parts."""
    yield "laughs.docx", word("<w:p><w:r><w:t>&a9;</w:t></w:r></w:p>", LAUGHS)
    yield "reads-a-file.docx", word("<w:p><w:r><w:t>&out;</w:t></w:r></w:p>", OUTSIDE)
    yield "deep.docx", word("<w:sdt><w:sdtContent>" * 50_000)
    deep = 80
    yield (
        "tables-in-tables.docx",
        word("<w:tbl><w:tr><w:tc>" * deep + "<w:p/>" + "</w:tc></w:tr></w:tbl>" * deep),
    )
    yield "many-paragraphs.docx", word("<w:p><w:r><w:t>x</w:t></w:r></w:p>" * 30_000)
    yield "no-xml.docx", replaced(make_docx([("", "x")]), {WORD: b"\xff\xfe\0\0" * 999})
    yield "styles-are-junk.docx", replaced(make_docx([("", "x")]), {"word/styles.xml": "<junk/>"})
    slides = make_pptx([("One", "text", "")])
    yield (
        "laughs.pptx",
        replaced(slides, {"ppt/slides/slide1.xml": f'{LAUGHS}<p:sld xmlns:p="x">&a9;</p:sld>'}),
    )
    rels = "ppt/slides/_rels/slide1.xml.rels"
    loop = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/'
        'notesSlide" Target="slide1.xml"/></Relationships>'
    )
    yield "is-its-own-notes.pptx", replaced(slides, {rels: loop})
    yield "no-slides.pptx", replaced(slides, {"ppt/slides/slide1.xml": None})


def workbooks() -> Iterator[tuple[str, bytes]]:
    """Give workbooks that claim to be larger than any."""
    columns = "".join(f'<c r="{_column(n)}1"><v>1</v></c>' for n in range(0, 1_000_000, 7))
    yield "million-columns.xlsx", sheet(f'<row r="1">{columns}</row>')
    yield "last-column-only.xlsx", sheet('<row r="1"><c r="XFD1"><v>7</v></c></row>' * 20_000)
    yield (
        "row-of-a-billion.xlsx",
        sheet('<row r="1000000000"><c r="A1000000000"><v>7</v></c></row>'),
    )
    yield (
        "claims-all-cells.xlsx",
        sheet('<row r="1"><c r="A1"><v>7</v></c></row>', before='<dimension ref="A1:XFD1048576"/>'),
    )
    yield "no-such-string.xlsx", sheet('<row r="1"><c r="A1" t="s"><v>999999999</v></c></row>')
    yield "negative-row.xlsx", sheet('<row r="-5"><c r="A-5"><v>1</v></c></row>')
    yield (
        "laughs.xlsx",
        replaced(
            make_xlsx({"S": [["x"]]}),
            {SHEET: f'{LAUGHS}<worksheet xmlns="{S}"><sheetData>&a9;</sheetData></worksheet>'},
        ),
    )
    book = make_xlsx({"S": [["x"]]})
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        listed = archive.read("xl/workbook.xml").decode()
    start, end = listed.index("<sheet "), listed.index("</sheets>")
    many = listed[:start] + listed[start:end] * 30_000 + listed[end:]
    yield "many-sheets.xlsx", replaced(book, {"xl/workbook.xml": many})
    yield "no-sheet.xlsx", replaced(book, {SHEET: None})


def open_documents() -> Iterator[tuple[str, bytes]]:
    """Give OpenDocument files and books."""
    yield "laughs.odt", office_text("<text:p>&a9;</text:p>", LAUGHS)
    yield "reads-a-file.odt", office_text("<text:p>&out;</text:p>", OUTSIDE)
    yield (
        "deep.odt",
        office_text(f"<text:p>{'<text:span>' * 30_000}x{'</text:span>' * 30_000}</text:p>"),
    )
    yield "billion-spaces.odt", office_text('<text:p>a<text:s text:c="1000000000"/>b</text:p>')
    yield (
        "repeated.ods",
        office_text(
            '<table:table table:name="S"><table:table-row table:number-rows-repeated="1000000000">'
            '<table:table-cell table:number-columns-repeated="1000000000"><text:p>x</text:p></table:table-cell>'
            "</table:table-row></table:table>",
            kind="spreadsheet",
        ),
    )
    manifest = (
        f'<m:manifest xmlns:m="{ODF}manifest:1.0"><m:file-entry m:full-path="content.xml">'
        "<m:encryption-data/></m:file-entry></m:manifest>"
    )
    yield "password.odt", replaced(make_odt([(0, "x")]), {"META-INF/manifest.xml": manifest})
    yield "no-content.odt", replaced(make_odt([(0, "x")]), {CONTENT: None})
    book = make_epub(["<p>x</p>"])
    spine = '<itemref idref="c0"/>'
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        package = archive.read("OPS/book.opf").decode()
    yield (
        "same-chapter-a-million-times.epub",
        replaced(book, {"OPS/book.opf": package.replace(spine, spine * 300_000)}),
    )
    yield (
        "chapter-out-of-the-book.epub",
        replaced(book, {"OPS/book.opf": package.replace("text/c%200", "../../../../etc/passwd")}),
    )
    yield "no-package.epub", replaced(book, {"OPS/book.opf": None})
    yield "laughs.epub", replaced(book, {"OPS/book.opf": f"{LAUGHS}<x>&a9;</x>"})
    yield "deep-chapter.epub", replaced(book, {"OPS/text/c 0.xhtml": "<div>" * 200_000})
    locked = (
        '<encryption xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:EncryptionMethod '
        'Algorithm="http://www.w3.org/2001/04/xmlenc#aes256-cbc"/></encryption>'
    )
    yield "copy-protected.epub", replaced(book, {"META-INF/encryption.xml": locked})


def _column(number: int) -> str:
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def _directory(package: bytes) -> int:
    return package.index(b"PK\x01\x02")


def _declaring(package: bytes, size: int) -> bytes:
    """Let the directory declare another size for the document's part."""
    at = package.index(WORD.encode(), _directory(package)) - 46
    return package[: at + 24] + struct.pack("<I", size) + package[at + 28 :]


def _flagged(package: bytes) -> bytes:
    at = _directory(package)
    return package[: at + 8] + b"\x01\x00" + package[at + 10 :]


def _overlapping(package: bytes) -> bytes:
    stream = io.BytesIO(package)
    with zipfile.ZipFile(stream, "a") as archive:
        for number in range(2_000):
            again = copy.copy(archive.filelist[0])
            again.filename = f"again{number}"
            archive.filelist.append(again)
        archive.writestr("x", "x")  # so that the directory is written anew
    return stream.getvalue()
