"""Notebooks, JSON that hides its words, and tables of values (CSV, TSV), by the standard library."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

from sercha.adapters.parsing.builder import Facts, Full, Job, TextBuilder
from sercha.adapters.parsing.charset import decode
from sercha.adapters.parsing.cleaning import clean_text
from sercha.adapters.parsing.mime import text_type
from sercha.domain.document import ExtractedText
from sercha.domain.markdown import find_title, outline

NOTEBOOK_TYPE = "application/x-ipynb+json"
OUTPUT_CHARS_MAX = 20_000
"""Of what one cell of a notebook printed."""

_SAMPLE_CHARS = 4_000
_FIELD_CHARS_MAX = 1_000_000
_DELIMITERS = ",;\t|"
_JSON_TITLES = ("title", "name")


def parse_json(job: Job) -> ExtractedText:
    """Lay JSON out in lines, without escapes; what is no JSON is kept as it is."""
    text, charset = decode(job.content)
    facts, builder = Facts(), TextBuilder(job.chars_max)
    try:
        value: Any = json.loads(text)
    except ValueError:
        shown = text
    else:
        shown = json.dumps(value, ensure_ascii=False, indent=1)
        if isinstance(value, dict):
            top = cast("dict[str, Any]", value)
            for key in _JSON_TITLES:
                if isinstance(top.get(key), str):
                    facts.name(top[key])
    with suppress(Full):
        builder.add(shown)
    return builder.finish("application/json", facts, charset)


def parse_notebook(job: Job) -> ExtractedText:
    """Read a notebook's cells: its Markdown with the headings, its code, and what that printed."""
    text, charset = decode(job.content)
    try:
        value: Any = json.loads(text)
        cells = list(value["cells"])
    except (ValueError, KeyError, TypeError):
        return parse_json(job)
    facts, builder = Facts(), TextBuilder(job.chars_max)
    with suppress(AttributeError, KeyError, TypeError):
        facts.note("programming_language", value["metadata"]["kernelspec"]["language"])
    with suppress(Full):
        for cell in cells:
            if isinstance(cell, dict):
                _add_cell(cast("dict[str, Any]", cell), builder, facts)
    return builder.finish(NOTEBOOK_TYPE, facts, charset)


def _add_cell(cell: dict[str, Any], builder: TextBuilder, facts: Facts) -> None:
    source = _joined(cell.get("source"))
    if cell.get("cell_type") == "markdown":
        facts.name(find_title(source))
        _add_markdown(source, builder)
        return
    builder.paragraph(source)
    outputs = cell.get("outputs")
    for output in cast("list[Any]", outputs) if isinstance(outputs, list) else ():
        if isinstance(output, dict):
            builder.paragraph(_printed(cast("dict[str, Any]", output))[:OUTPUT_CHARS_MAX])


def _add_markdown(source: str, builder: TextBuilder) -> None:
    """Append the text; headings without their marks, so that each is known as the title of its section."""
    text = clean_text(source)
    position = 0
    for heading in outline(text).headings:
        builder.paragraph(text[position : heading.start])
        builder.section(heading.title, heading.level)
        builder.paragraph(text[heading.start : heading.end].lstrip("# \t"))
        position = heading.end
    builder.paragraph(text[position:])


def _printed(output: dict[str, Any]) -> str:
    if "text" in output:
        return _joined(output["text"])
    shown = output.get("data")
    return (
        _joined(cast("dict[str, Any]", shown).get("text/plain")) if isinstance(shown, dict) else ""
    )


def _joined(lines: object) -> str:
    """Return a cell's text: one string, or a list of lines."""
    if isinstance(lines, str):
        return lines
    if isinstance(lines, list):
        return "".join(str(line) for line in cast("list[object]", lines))
    return ""


def parse_table(job: Job) -> ExtractedText:
    """Read a table; its first row stands above every chunk if it names the columns."""
    text, charset = decode(job.content)
    mime_type = text_type(job.path)
    facts, builder = Facts(), TextBuilder(job.chars_max)
    with suppress(Full):
        try:
            for number, row in enumerate(_rows(text, mime_type)):
                if number == 0 and _names_columns(row):
                    builder.section(", ".join(row))
                builder.line("\t".join(" ".join(cell.split()) for cell in row))
        except csv.Error:
            builder = TextBuilder(job.chars_max)
            builder.add(text)
    return builder.finish(mime_type, facts, charset)


def _rows(text: str, mime_type: str) -> Iterator[list[str]]:
    csv.field_size_limit(_FIELD_CHARS_MAX)
    lines = text.replace("\0", " ").splitlines(keepends=True)
    if mime_type == "text/tab-separated-values":
        return csv.reader(lines, delimiter="\t")
    try:
        dialect = csv.Sniffer().sniff(text[:_SAMPLE_CHARS].rpartition("\n")[0], _DELIMITERS)
    except csv.Error:
        return csv.reader(lines)
    return csv.reader(lines, delimiter=dialect.delimiter)


def _names_columns(row: list[str]) -> bool:
    """Whether a row has words in all its cells and no numbers, as heads of columns do."""
    return len(row) > 1 and all(cell.strip() and not any(map(str.isdigit, cell)) for cell in row)
