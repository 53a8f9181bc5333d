"""Documents through the processes that read them: what confines these takes nothing away from any format."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sercha.adapters.parsing.extractor import DocumentExtractor
from sercha.adapters.parsing.pool import ParserPool, open_parsers
from sercha.errors import ItemFailed
from sercha.services.ports import Item
from tests.support import documents
from tests.support.hostile_documents import samples

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@pytest.fixture
async def parsers() -> AsyncIterator[ParserPool]:
    async with open_parsers(1) as parsers:
        yield parsers


def item(path: str) -> Item:
    return Item(path, path, "1", 1)


async def test_each_format_is_read_in_a_confined_process_as_anywhere(parsers: ParserPool) -> None:
    extractor = DocumentExtractor(parsers)
    for name, content in samples().items():
        extracted = await extractor.extract(item(f"/{name}"), content)

        assert extracted == documents.parse(f"/{name}", content), name
        assert "Tea" in extracted.text or "tea" in extracted.text or name == "a.json"


async def test_one_process_reads_all_formats_one_after_the_other(parsers: ParserPool) -> None:
    extractor = DocumentExtractor(parsers)
    for _ in range(3):
        for name, content in samples().items():
            await extractor.extract(item(f"/{name}"), content)
    assert parsers.started == 1


async def test_text_needs_no_process(parsers: ParserPool) -> None:
    extractor = DocumentExtractor(parsers)
    extracted = await extractor.extract(item("/a.md"), b"# Tea\n\nOolong\n")

    assert (extracted.title, extracted.mime_type) == ("Tea", "text/markdown")
    assert (
        await extractor.extract(item("/a.py"), b"x = 1\n" * 50_000)
    ).mime_type == "text/x-python"
    assert parsers.started == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (OLE + bytes(600) + "EncryptedPackage".encode("utf-16-le"), "encrypted"),
        (OLE + bytes(600) + "WordDocument".encode("utf-16-le"), "binary"),
        (bytes(5_000), "binary"),
        (documents.make_pdf(["x"], password="y"), "encrypted"),
    ],
)
async def test_what_cannot_be_read_is_skipped_with_its_reason(
    parsers: ParserPool, content: bytes, code: str
) -> None:
    with pytest.raises(ItemFailed) as caught:
        await DocumentExtractor(parsers).extract(item("/a.docx"), content)

    assert (caught.value.error_code, caught.value.is_skip) == (code, True)
