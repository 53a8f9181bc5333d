"""Workbooks (XLSX, XLSM), by openpyxl in its read-only mode: the values of each sheet with its name."""

from __future__ import annotations

import warnings
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from io import BytesIO
from typing import Any

import openpyxl

from sercha.adapters.parsing.builder import Facts, Full, Job, TextBuilder
from sercha.adapters.parsing.office import note_properties
from sercha.domain.document import ExtractedText

MIME_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ROWS_MAX = 1_048_576
"""What a sheet of Excel has; a damaged one may claim any number."""


def parse(job: Job) -> ExtractedText:
    """Read a workbook; the caller has checked what its archive unpacks to. Formulas count as their last value."""
    facts, builder = Facts(), TextBuilder(job.chars_max)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles that openpyxl does not know
        book = openpyxl.load_workbook(
            BytesIO(job.content), read_only=True, data_only=True, keep_links=False
        )
        note_properties(facts, book.properties)
        facts.note("sheets", len(book.worksheets))
        with suppress(Full):
            for sheet in book.worksheets:
                _add(sheet, builder)
    return builder.finish(MIME_TYPE, facts)


def _add(sheet: Any, builder: TextBuilder) -> None:
    builder.section(f"sheet {sheet.title}", is_apart=True)
    sheet.reset_dimensions()  # what the file claims of its size is not believed
    for number, row in enumerate(sheet.iter_rows(values_only=True)):
        if number >= ROWS_MAX:
            builder.cut(f"{ROWS_MAX} rows of a sheet")
        builder.line("\t".join(_shown(value) for value in row if value is not None))


def _shown(value: object) -> str:
    """Write a cell as people do: whole numbers without a point, days without a midnight."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime):
        is_day = (value.hour, value.minute, value.second) == (0, 0, 0)
        return value.date().isoformat() if is_day else value.isoformat(" ", "seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    return " ".join(str(value).split())
