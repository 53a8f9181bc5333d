"""Word documents (DOCX, DOCM, DOTX), by python-docx: headings, paragraphs and tables in their order, then notes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any

from docx.opc.package import OpcPackage
from docx.opc.part import PartFactory
from docx.parts.document import DocumentPart

from sercha.adapters.parsing.builder import Facts, Full, Job, TextBuilder
from sercha.adapters.parsing.office import FALLBACK, note_properties, parse_xml, walk
from sercha.domain.document import ExtractedText

MIME_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_PARAGRAPH, _TABLE, _ROW, _CELL = (f"{_W}{name}" for name in ("p", "tbl", "tr", "tc"))
_SKIPPED = frozenset({FALLBACK, f"{_W}del", f"{_W}moveFrom", f"{_W}rPr", f"{_W}pPr"})
_MARKS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n", f"{_W}noBreakHyphen": "-"}
_HEADING = re.compile(r"heading (\d)", re.IGNORECASE)
_ASIDE = ("/header", "/footer", "/footnotes", "/endnotes", "/comments")
"""Ends of the relations to parts whose text comes after the body."""
_OTHER_DOCUMENTS = (
    "application/vnd.ms-word.document.macroEnabled.main+xml",
    "application/vnd.ms-word.template.macroEnabledTemplate.main+xml",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml",
)
for _type in _OTHER_DOCUMENTS:
    PartFactory.part_type_for[_type] = DocumentPart


def parse(job: Job) -> ExtractedText:
    """Read a document; the caller has checked what its archive unpacks to."""
    part: Any = OpcPackage.open(BytesIO(job.content)).main_document_part
    document = part.document
    facts, builder = Facts(), TextBuilder(job.chars_max)
    note_properties(facts, document.core_properties)
    with suppress(Full):
        _add_body(document, builder, facts)
        _add_asides(part, builder)
    return builder.finish(MIME_TYPE, facts)


def _add_body(document: Any, builder: TextBuilder, facts: Facts) -> None:
    levels = _heading_levels(document)
    for text, style in _blocks(document.element.body):
        level = levels.get(style)
        if level is not None and text.strip():
            if level <= 1:
                facts.name(text)
            builder.heading(text, max(level, 1))
        else:
            builder.line(text)


def _heading_levels(document: Any) -> dict[str, int]:
    """Return the levels of those styles that are headings, 0 for the title; names are English in every file."""
    levels: dict[str, int] = {}
    with suppress(KeyError, AttributeError, ValueError):
        styles: Any = document.styles.element
        for style in styles.style_lst:
            name = str(style.name_val or "")
            match = _HEADING.match(name)
            if match:
                levels[style.styleId] = int(match[1])
            elif name.lower() == "title":
                levels[style.styleId] = 0
    return levels


def _add_asides(part: Any, builder: TextBuilder) -> None:
    """Append headers, footers, notes and comments, each text once."""
    seen: set[str] = set()
    for relation in part.rels.values():
        if relation.is_external or not relation.reltype.endswith(_ASIDE):
            continue
        for text, _ in _blocks(parse_xml(relation.target_part.blob)):
            if text not in seen:
                seen.add(text)
                builder.line(text)


def _blocks(parent: Any) -> Iterator[tuple[str, str]]:
    """Give the paragraphs and rows of tables below *parent*, each with the id of its style."""
    for child in parent:
        if child.tag == _PARAGRAPH:
            yield _text(child), _style(child)
        elif child.tag == _TABLE:
            yield from ((row, "") for row in _rows(child))
        elif isinstance(child.tag, str) and child.tag not in _SKIPPED:
            yield from _blocks(child)


def _rows(table: Any) -> Iterator[str]:
    for row in _nearest(table, _ROW):
        cells = (" ".join(text for text, _ in _blocks(cell)) for cell in _nearest(row, _CELL))
        yield "\t".join(cells)


def _nearest(parent: Any, tag: str) -> Iterator[Any]:
    """Give the rows or cells that belong to *parent*, none of tables within it: those come with their cell."""
    for child in parent:
        if child.tag == tag:
            yield child
        elif isinstance(child.tag, str) and child.tag not in (_TABLE, _PARAGRAPH):
            yield from _nearest(child, tag)


def _text(paragraph: Any) -> str:
    pieces: list[str] = []
    for node in walk(paragraph, _SKIPPED):
        if node.tag == f"{_W}t":
            pieces.append(node.text or "")
        elif node.tag == _PARAGRAPH:  # of a text box
            pieces.append("\n")
        else:
            pieces.append(_MARKS.get(node.tag, ""))
    return "".join(pieces)


def _style(paragraph: Any) -> str:
    style = paragraph.find(f"{_W}pPr/{_W}pStyle")
    return "" if style is None else style.get(f"{_W}val") or ""
