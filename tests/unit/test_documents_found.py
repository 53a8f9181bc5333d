"""Documents that nobody made for a test: those of the machine, of Python and of installed packages."""

from __future__ import annotations

import html
import os
import re
import sysconfig
from contextlib import suppress
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from sercha.adapters.parsing.kinds import Kind, find_kind
from sercha.domain.chunking import chunk_text
from sercha.domain.document import ExtractedText
from sercha.errors import ItemFailed
from tests.support.documents import parse

PACKAGES = Path(sysconfig.get_path("purelib"))
STANDARD = Path(sysconfig.get_path("stdlib"))
PLACES = (PACKAGES, STANDARD, Path("/usr/share/doc"))
FILES_MAX = 40
BYTES_MAX = 300_000

_TITLE = re.compile(r"<title[^>]*>([^<]+)</title>", re.IGNORECASE)
_PARAGRAPH = re.compile(r"<main.*?<p>([A-Za-z ,.]{40,200})</p>", re.IGNORECASE | re.DOTALL)


@cache
def listed() -> dict[str, list[Path]]:
    """Return all files of the places by their suffix, in one walk."""
    files: dict[str, list[Path]] = {}
    for place in PLACES:
        for folder, _, names in os.walk(place):
            for name in names:
                files.setdefault(Path(name).suffix.lower(), []).append(Path(folder, name))
    return {suffix: sorted(paths) for suffix, paths in files.items()}


def found(suffix: str) -> list[Path]:
    """Return some files of the machine by their suffix, skipping the test where there are none."""
    sized = (path for path in listed().get(suffix, []) if path.is_file())
    files = list(islice((path for path in sized if 0 < path.stat().st_size < BYTES_MAX), FILES_MAX))
    if not files:
        pytest.skip(f"there is no {suffix} on this machine")
    return files


def test_pages_keep_their_title_and_lose_their_markup() -> None:
    read = 0
    for path in found(".html"):
        content = path.read_bytes()
        if find_kind(str(path), content) is not Kind.HTML:
            continue
        extracted = parse(str(path), content)
        source = content.decode("utf-8", "replace")
        title = _TITLE.search(source)
        if title and "{" not in title[1] and title[1].strip():
            assert extracted.title == " ".join(html.unescape(title[1]).split())[:500], path
        paragraph = _PARAGRAPH.search(source)
        if paragraph:
            assert " ".join(paragraph[1].split()) in " ".join(extracted.text.split()), path
        read += 1
    assert read > 0


def test_mails_of_the_test_suite_of_python_are_read() -> None:
    folder = STANDARD / "test/test_email/data"
    files = sorted(folder.glob("msg_*.txt"))
    if not files:
        pytest.skip("this Python came without its tests")
    read = 0
    for path in files:
        content = path.read_bytes()
        if find_kind(f"{path}.eml", content) is not Kind.MAIL:
            continue
        extracted = parse(f"{path}.eml", content)
        subject = re.search(rb"^Subject: ([\w ,.]+)$", content, re.MULTILINE)
        if subject and extracted.title:
            assert f"Subject: {extracted.title}" in extracted.text, path
        read += bool(extracted.text.strip())
    assert read >= 30


@pytest.mark.parametrize("suffix", [".docx", ".pptx", ".xlsx", ".odt", ".pdf", ".epub", ".rtf"])
def test_documents_of_the_machine_are_read(suffix: str) -> None:
    for path in found(suffix):
        with suppress(ItemFailed):  # some packages bring damaged ones for their own tests
            check_places(parse(str(path), path.read_bytes()), suffix)


def check_places(extracted: ExtractedText, suffix: str) -> None:
    if suffix in (".pdf", ".pptx", ".xlsx"):
        for chunk in chunk_text(extracted.text, extracted.mime_type, extracted.sections):
            assert re.search(r"(?:page|slide|sheet) .+$", chunk.heading)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".ipynb", ".json"])
def test_data_of_the_machine_keeps_its_words(suffix: str) -> None:
    for path in found(suffix):
        content = path.read_bytes()
        if find_kind(str(path), content) is None:
            continue
        extracted = parse(str(path), content)
        words = set(re.findall(r"[A-Za-z]{6,}", content[:5_000].decode("ascii", "replace")))
        missing = {word for word in words if word not in extracted.text}
        assert len(missing) <= len(words) // 3, (path, missing)
