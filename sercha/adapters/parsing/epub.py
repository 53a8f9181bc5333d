"""Books (EPUB): their chapters in the order of reading, each the HTML that it is."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import unquote

from defusedxml import ElementTree

from sercha.adapters.parsing.archive import open_archive, read_part
from sercha.adapters.parsing.builder import Facts, Full, Job, TextBuilder
from sercha.adapters.parsing.charset import decode
from sercha.adapters.parsing.html import add_page
from sercha.domain.document import ExtractedText
from sercha.errors import ItemFailed

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

MIME_TYPE = "application/epub+zip"

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_FONTS_ONLY = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
_DC = "{http://purl.org/dc/elements/1.1/}"
_CHAPTERS = ("application/xhtml+xml", "text/html")


def parse(job: Job) -> ExtractedText:
    """Read a book.

    Raises:
        ItemFailed: ``encrypted`` (a skip) or ``broken``.
    """
    facts, builder = Facts(), TextBuilder(job.chars_max)
    with open_archive(job.content) as archive:
        _check_encryption(archive)
        place = _package_path(archive)
        package: Element = ElementTree.fromstring(read_part(archive, place))
        _note(package, facts)
        with suppress(Full):
            for path in _chapters(package, posixpath.dirname(place)):
                with suppress(ItemFailed):  # a chapter that is missing
                    markup, _ = decode(read_part(archive, path))
                    builder.break_paragraph()
                    add_page(markup, builder, Facts(), has_boilerplate=False)
    return builder.finish(MIME_TYPE, facts)


def _check_encryption(archive: zipfile.ZipFile) -> None:
    if _ENCRYPTION not in archive.namelist():
        return
    root: Element = ElementTree.fromstring(read_part(archive, _ENCRYPTION))
    methods = [
        each.get("Algorithm", "") for each in root.iter() if each.tag.endswith("}EncryptionMethod")
    ]
    if any(method not in _FONTS_ONLY for method in methods):
        raise ItemFailed("It is protected against copying.", code="encrypted", is_skip=True)


def _package_path(archive: zipfile.ZipFile) -> str:
    root: Element = ElementTree.fromstring(read_part(archive, _CONTAINER))
    paths = (each.get("full-path") for each in root.iter() if each.tag.endswith("}rootfile"))
    path = next((path for path in paths if path), None)
    if path is None:
        raise ItemFailed("It names no package of a book.", code="broken")
    return path


def _note(package: Element, facts: Facts) -> None:
    facts.name(package.findtext(f".//{_DC}title"))
    facts.note("author", package.findtext(f".//{_DC}creator"))
    facts.note("created", package.findtext(f".//{_DC}date"))
    facts.note("language", package.findtext(f".//{_DC}language"))


def _chapters(package: Element, folder: str) -> Iterator[str]:
    """Give the paths of the chapters in the order of reading."""
    paths: dict[str, str] = {}
    order: list[str] = []
    for each in package.iter():
        if each.tag.endswith("}item") and each.get("media-type") in _CHAPTERS:
            path = unquote(each.get("href", "").partition("#")[0])
            paths[each.get("id", "")] = posixpath.normpath(posixpath.join(folder, path))
        elif each.tag.endswith("}itemref"):
            order.append(each.get("idref", ""))
    for name in dict.fromkeys(order):  # a chapter that is named again is not read again
        if name in paths:
            yield paths[name]
