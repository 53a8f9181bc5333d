"""OpenDocument: texts, sheets and slides (ODT, ODS, ODP), from the XML in their archive."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from defusedxml import ElementTree

from sercha.adapters.parsing.archive import open_archive, read_part
from sercha.adapters.parsing.builder import Facts, Full, Job, TextBuilder
from sercha.domain.document import ExtractedText
from sercha.errors import ItemFailed

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_OASIS = "urn:oasis:names:tc:opendocument:xmlns:"
_TEXT, _TABLE, _DRAW = (f"{{{_OASIS}{name}:1.0}}" for name in ("text", "table", "drawing"))
_META, _OFFICE, _MANIFEST = (f"{{{_OASIS}{name}:1.0}}" for name in ("meta", "office", "manifest"))
_DC = "{http://purl.org/dc/elements/1.1/}"
_SKIPPED = frozenset({f"{_TEXT}tracked-changes", f"{_TEXT}note-citation", f"{_TABLE}shapes"})
_NOTED = (
    (f"{_DC}creator", "author"),
    (f"{_META}initial-creator", "author"),
    (f"{_META}creation-date", "created"),
    (f"{_DC}date", "modified"),
    (f"{_DC}language", "language"),
)
_SPACES_MAX = 100


def parse(job: Job) -> ExtractedText:
    """Read a document of any of the three.

    Raises:
        ItemFailed: ``encrypted`` (a skip) or ``broken``.
    """
    facts, builder = Facts(), TextBuilder(job.chars_max)
    with open_archive(job.content) as archive:
        names = archive.namelist()
        if "META-INF/manifest.xml" in names:
            _check_manifest(_tree(read_part(archive, "META-INF/manifest.xml")))
        mime_type = read_part(archive, "mimetype")[:200].decode("ascii", "replace").strip()
        if "meta.xml" in names:
            _note(_tree(read_part(archive, "meta.xml")), facts)
        root = _tree(read_part(archive, "content.xml"))
    with suppress(Full):
        _Reader(builder, facts).read(root)
    return builder.finish(mime_type, facts)


def _tree(content: bytes) -> Element:
    return ElementTree.fromstring(content)


def _check_manifest(manifest: Element) -> None:
    if manifest.find(f".//{_MANIFEST}encryption-data") is not None:
        raise ItemFailed("It is protected by a password.", code="encrypted", is_skip=True)


def _note(meta: Element, facts: Facts) -> None:
    facts.name(meta.findtext(f".//{_DC}title"))
    for tag, key in _NOTED:
        facts.note(key, meta.findtext(f".//{tag}"))


class _Reader:
    """Walks the content; documents nested deeper than Python's stack raise `RecursionError`."""

    def __init__(self, builder: TextBuilder, facts: Facts) -> None:
        self._builder = builder
        self._facts = facts
        self._slides = self._sheets = 0

    def read(self, root: Element) -> None:
        """Append all text below *root*."""
        for body in root.iter(f"{_OFFICE}body"):
            for kind in body:
                self._blocks(kind, is_workbook=kind.tag == f"{_OFFICE}spreadsheet")
        if self._slides:
            self._facts.note("slides", self._slides)
        if self._sheets:
            self._facts.note("sheets", self._sheets)

    def _blocks(self, parent: Element, *, is_workbook: bool = False) -> None:
        for child in parent:
            tag = child.tag
            if tag in _SKIPPED:
                continue
            if tag == f"{_TEXT}h":
                text = _text(child)
                self._facts.name(text)
                self._builder.heading(text, _level(child))
            elif tag == f"{_TEXT}p":
                self._builder.line(_text(child))
            elif tag == f"{_TABLE}table-row":
                self._builder.line("\t".join(_cells(child)))
            else:
                self._begin(child, is_workbook=is_workbook)
                self._blocks(child)

    def _begin(self, element: Element, *, is_workbook: bool) -> None:
        if element.tag == f"{_DRAW}page":
            self._slides += 1
            self._builder.section(f"slide {self._slides}", is_apart=True)
        elif element.tag == f"{_TABLE}table" and is_workbook:
            self._sheets += 1
            name = element.get(f"{_TABLE}name") or str(self._sheets)
            self._builder.section(f"sheet {name}", is_apart=True)


def _level(heading: Element) -> int:
    level = heading.get(f"{_TEXT}outline-level", "1")
    return int(level) if level in set("123456789") else 1


def _cells(row: Element) -> list[str]:
    """Return the cells' texts; one that is repeated counts once, however often a file says it is."""
    texts = (" ".join(_text(part) for part in cell.iter(f"{_TEXT}p")) for cell in row)
    return [text for text in texts if text.strip()]


def _text(element: Element) -> str:
    """Return the text within a paragraph."""
    pieces = [element.text or ""]
    for child in element:
        if child.tag == f"{_TEXT}s":
            count = child.get(f"{_TEXT}c", "1")
            pieces.append(" " * (min(int(count), _SPACES_MAX) if count.isdecimal() else 1))
        elif child.tag == f"{_TEXT}tab":
            pieces.append("\t")
        elif child.tag == f"{_TEXT}line-break":
            pieces.append("\n")
        elif child.tag not in _SKIPPED:
            inner = _text(child)
            is_note = child.tag in (f"{_TEXT}note", f"{_OFFICE}annotation")
            pieces.append(f" ({inner.strip()}) " if is_note else inner)
        pieces.append(child.tail or "")
    return "".join(pieces)
