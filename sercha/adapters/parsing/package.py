"""Finds out which document a ZIP is, by what is in it."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from importlib import import_module

from sercha.adapters.parsing.archive import open_archive, read_part
from sercha.adapters.parsing.builder import Job
from sercha.domain.document import ExtractedText
from sercha.errors import ItemFailed

_CONTENT_TYPES = "[Content_Types].xml"
_OFFICE = (
    (("wordprocessingml.document", "wordprocessingml.template", "ms-word."), "word"),
    (
        ("presentationml.presentation", "presentationml.template", "presentationml.slideshow"),
        "slides",
    ),
    (("spreadsheetml.sheet.main", "spreadsheetml.template", "ms-excel.sheet.macro"), "sheets"),
)
_MIME_TYPE = "mimetype"


def parse(job: Job) -> ExtractedText:
    """Read the document that a ZIP is.

    Raises:
        ItemFailed: ``binary`` (a skip): an archive of something else; or what its parser raises.
    """
    with open_archive(job.content) as archive:
        name = _parser_name(archive)
    if name is None:
        raise ItemFailed("It is an archive, no document.", code="binary", is_skip=True)
    parse_it: Callable[[Job], ExtractedText] = import_module(
        f"sercha.adapters.parsing.{name}"
    ).parse
    return parse_it(job)


def _parser_name(archive: zipfile.ZipFile) -> str | None:
    names = set(archive.namelist())
    if _CONTENT_TYPES in names:
        types = read_part(archive, _CONTENT_TYPES).decode("utf-8", "replace")
        return next((name for marks, name in _OFFICE if any(mark in types for mark in marks)), None)
    if _MIME_TYPE in names:
        mime_type = read_part(archive, _MIME_TYPE)[:200].decode("ascii", "replace").strip()
        if mime_type.startswith("application/vnd.oasis.opendocument."):
            return "opendocument"
        if mime_type == "application/epub+zip":
            return "epub"
    return "epub" if "META-INF/container.xml" in names else None
