"""PDF, by pdfium: the text of each page, with the page's number and the bookmark above it."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from itertools import islice
from typing import Any

from sercha.adapters.parsing.builder import Facts, Full, Job, TextBuilder
from sercha.domain.document import ExtractedText
from sercha.errors import ItemFailed

_pdfium: Any = import_module("pypdfium2")  # its types are incomplete

MIME_TYPE = "application/pdf"
PAGES_MAX = 10_000
BOOKMARKS_MAX = 2_000
PAGE_LEVEL = 9
"""Below all bookmarks."""

_PASSWORD_ERRORS = (4, 5)
"""A wrong password, and a way of protection that pdfium does not know."""
_HYPHEN = re.compile("[\x02\ufffe](?:\r\n?|\n)?")
"""How pdfium marks a hyphen at which a word was parted."""
_DATE = re.compile(r"D:(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:([+\-Z])(\d\d)?'?(\d\d)?)?")


def parse(job: Job) -> ExtractedText:
    """Read a PDF's pages.

    Raises:
        ItemFailed: ``encrypted`` (a skip) or ``broken``.
    """
    try:
        document = _pdfium.PdfDocument(job.content)
    except _pdfium.PdfiumError as error:
        if error.err_code in _PASSWORD_ERRORS:
            reason = "It is protected by a password."
            raise ItemFailed(reason, code="encrypted", is_skip=True) from error
        raise ItemFailed("It cannot be read as a PDF.", code="broken") from error
    with document:
        facts = _facts(document)
        builder = TextBuilder(job.chars_max)
        with suppress(Full):
            _add_pages(document, builder)
    return builder.finish(MIME_TYPE, facts)


def _add_pages(document: Any, builder: TextBuilder) -> None:
    bookmarks = _bookmarks(document)
    count = len(document)
    for index in range(count):
        if index >= PAGES_MAX:
            builder.cut(f"{PAGES_MAX} of {count} pages")
        for level, title in bookmarks.get(index, ()):
            builder.section(title, level)
        builder.section(f"page {index + 1}", PAGE_LEVEL, is_apart=True)
        # A page that is damaged costs its own text only.
        with suppress(_pdfium.PdfiumError):
            builder.add(_HYPHEN.sub("", _page_text(document, index)).strip())


def _page_text(document: Any, index: int) -> str:
    page = document[index]
    try:
        text = page.get_textpage()
        try:
            return text.get_text_range()
        finally:
            text.close()
    finally:
        page.close()


def _bookmarks(document: Any) -> dict[int, list[tuple[int, str]]]:
    """Return the bookmarks of each page, outermost first, as (level, title)."""
    found: dict[int, list[tuple[int, str]]] = {}
    with suppress(_pdfium.PdfiumError, RecursionError):
        for bookmark in islice(document.get_toc(max_depth=PAGE_LEVEL - 1), BOOKMARKS_MAX):
            destination = bookmark.get_dest()
            index = destination.get_index() if destination else None
            if index is not None and bookmark.level < PAGE_LEVEL - 1:
                found.setdefault(index, []).append((bookmark.level + 1, bookmark.get_title()))
    return found


def _facts(document: Any) -> Facts:
    facts = Facts()
    values = document.get_metadata_dict(skip_empty=True)
    facts.name(values.get("Title"))
    facts.note("author", values.get("Author"))
    facts.note("created", _date(values.get("CreationDate", "")))
    facts.note("modified", _date(values.get("ModDate", "")))
    facts.note("pages", len(document))
    return facts


def _date(text: str) -> datetime | None:
    match = _DATE.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(each or 0) for each in match.groups()[:6])
    sign, hours, minutes = match[7], int(match[8] or 0), int(match[9] or 0)
    offset = timedelta(hours=hours, minutes=minutes) * (-1 if sign == "-" else 1)
    try:
        zone = timezone(offset) if sign in ("+", "-") else UTC
        return datetime(year, month or 1, day or 1, hour, minute, second, tzinfo=zone)
    except ValueError:
        return None
