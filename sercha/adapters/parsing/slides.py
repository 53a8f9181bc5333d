"""Presentations (PPTX), by python-pptx: the text of each slide with its number, then its notes."""

from __future__ import annotations

from contextlib import suppress
from io import BytesIO
from typing import Any

import pptx

from sercha.adapters.parsing.builder import Facts, Full, Job, TextBuilder
from sercha.adapters.parsing.office import FALLBACK, note_properties, walk
from sercha.domain.document import ExtractedText

MIME_TYPE = "application/vnd.openxmlformats-officedocument.presentationml.presentation"

_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_SKIPPED = frozenset({FALLBACK, f"{_A}rPr", f"{_A}pPr"})


def parse(job: Job) -> ExtractedText:
    """Read a presentation; the caller has checked what its archive unpacks to."""
    presentation: Any = pptx.Presentation(BytesIO(job.content))
    facts, builder = Facts(), TextBuilder(job.chars_max)
    note_properties(facts, presentation.core_properties)
    facts.note("slides", len(presentation.slides))
    with suppress(Full):
        for number, slide in enumerate(presentation.slides, 1):
            builder.section(f"slide {number}", is_apart=True)
            title = slide.shapes.title
            if number == 1 and title is not None:
                facts.name(title.text_frame.text)
            _add(slide.element, builder)
            if slide.has_notes_slide:
                builder.break_paragraph()
                _add(slide.notes_slide.element, builder)
    return builder.finish(MIME_TYPE, facts)


def _add(element: Any, builder: TextBuilder) -> None:
    """Append all paragraphs: of shapes, groups and tables alike."""
    line: list[str] = []
    for node in walk(element, _SKIPPED):
        if node.tag == f"{_A}p":
            builder.line("".join(line))
            line.clear()
        elif node.tag == f"{_A}t":
            line.append(node.text or "")
        elif node.tag == f"{_A}br":
            line.append("\n")
    builder.line("".join(line))
