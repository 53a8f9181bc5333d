"""Files made to harm who reads them: each is read or refused with a reason, in bounded time and memory.

`SERCHA_FUZZ_DOCUMENTS` says how many damaged files are tried, `SERCHA_TEST_SEED` which ones.
"""

from __future__ import annotations

import io
import os
import random
import resource
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import trio

from sercha.adapters.parsing.cleaning import clean_text
from sercha.adapters.parsing.extractor import DocumentExtractor
from sercha.adapters.parsing.pool import REFUSALS, open_parsers
from sercha.adapters.parsing.process import ParserLimits
from sercha.domain.chunking import chunk_text
from sercha.domain.document import ExtractedText
from sercha.domain.source import SyncStatus
from sercha.errors import ItemFailed
from sercha.services.ports import Item
from tests.support.hostile_documents import (
    damaged_files,
    hostile_files,
    samples,
    truncated_files,
)
from tests.support.syncing import setup_on

CODES = REFUSALS | {"parser-timeout", "parser-crashed"}
LIMITS = ParserLimits(seconds=3)
SECONDS_MAX = LIMITS.seconds + 3
CHARS_MAX = 1_000_000
GROWTH_MAX = 400 * 1024**2
"""Of our own memory: the files themselves, and the texts that were made of them."""
SEED = int(os.environ.get("SERCHA_TEST_SEED", random.SystemRandom().randrange(2**32)))
FUZZED = int(os.environ.get("SERCHA_FUZZ_DOCUMENTS", "5000"))
FUZZED_IN_PROOF = 30_000

EXPECTED = {
    "declares-4-gigabytes.docx": "too-large",
    "unpacks-to-300-megabytes.xlsx": "too-large",
    "declares-less-than-it-holds.docx": "broken",
    "many-parts.docx": "too-large",
    "nested.zip": "binary",
    "quine.zip": "binary",
    "quine.docx": "binary",
    "overlapping.docx": "broken",
    "password.docx": "encrypted",
    "password.odt": "encrypted",
    "password.pdf": "encrypted",
    "unknown-protection.pdf": "encrypted",
    "copy-protected.epub": "encrypted",
    "laughs.odt": "broken",
    "deep.odt": "too-deep",
    "deep.ipynb": "too-deep",
    "deep.json": "too-deep",
    "mails-in-mails.eml": "too-deep",
    "header-only.pdf": "broken",
    "old-container.doc": "binary",
    "picture-then-page.html": "binary",
}
READ = {
    "claims-a-million-pages.pdf",
    "billion-spaces.odt",
    "repeated.ods",
    "claims-all-cells.xlsx",
    "many-paragraphs.docx",
    "many-parts.eml",
    "quotes.csv",
    "package-named-as-text.txt",
    "pdf-named-as-package.xlsx",
}


async def outcomes(files: Iterable[tuple[str, bytes]]) -> dict[str, ExtractedText | ItemFailed]:
    """Read all files, two at a time, and check what holds for every one."""
    found: dict[str, ExtractedText | ItemFailed] = {}
    slow: dict[str, float] = {}
    left = iter(files)
    async with open_parsers(2, LIMITS) as parsers:
        extractor = DocumentExtractor(parsers, text_chars_max=CHARS_MAX)

        async def work() -> None:
            for name, content in left:
                item = Item(f"/{name}", f"/{name}", "1", len(content))
                began = trio.current_time()
                try:
                    found[name] = await extractor.extract(item, content)
                except ItemFailed as error:
                    found[name] = error
                seconds = trio.current_time() - began
                if seconds > SECONDS_MAX:
                    slow[name] = seconds

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            nursery.start_soon(work)
    for name, outcome in found.items():
        check(name, outcome)
    assert slow == {}
    return found


def check(name: str, outcome: ExtractedText | ItemFailed) -> None:
    if isinstance(outcome, ItemFailed):
        assert outcome.error_code in CODES, (name, outcome.message)
        assert outcome.message.endswith("."), name
        return
    assert len(outcome.text) <= CHARS_MAX, name
    assert clean_text(outcome.text) == outcome.text, name
    outcome.text.encode()
    starts = [each.start for each in outcome.sections]
    assert starts == sorted(starts), name
    chunk_text(outcome.text[:20_000], outcome.mime_type, outcome.sections)


def report(found: dict[str, ExtractedText | ItemFailed]) -> None:
    counted = Counter(
        each.error_code if isinstance(each, ItemFailed) else "read" for each in found.values()
    )
    print(f"{len(found)} files:", dict(counted.most_common()))


def memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_every_hostile_file_is_read_or_refused_with_its_reason() -> None:
    files = hostile_files()
    assert len(files) >= 60
    before = memory()
    found = await outcomes(files.items())
    report(found)

    for name, code in EXPECTED.items():
        outcome = found[name]
        assert isinstance(outcome, ItemFailed), name
        assert outcome.error_code == code, (name, outcome.message)
    for name in READ:
        assert isinstance(found[name], ExtractedText), (name, found[name])
    assert memory() - before < GROWTH_MAX


@pytest.mark.parametrize("name", ["quine.zip", "quine.docx"])
def test_the_archive_that_holds_itself_does(name: str) -> None:
    content = hostile_files()[name]

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == [name]
        assert archive.read(name) == content  # reading it also checks the sum


async def test_no_hostile_file_reads_another_file_of_the_machine() -> None:
    files = {name: content for name, content in hostile_files().items() if "reads-a-file" in name}
    found = await outcomes(files.items())

    assert len(found) >= 2
    for name, outcome in found.items():
        assert not isinstance(outcome, ExtractedText) or "root:" not in outcome.text, name


async def test_a_polyglot_is_read_as_what_its_first_bytes_are() -> None:
    files = hostile_files()
    names = ("pdf-then-package.docx", "package-named-as-pdf.pdf", "pdf-named-as-package.xlsx")
    found = await outcomes((name, files[name]) for name in names)

    for name, word in zip(names, ("in the PDF", "in the package", "in the PDF"), strict=True):
        outcome = found[name]
        assert isinstance(outcome, ExtractedText), name
        assert word in outcome.text


async def test_files_cut_off_anywhere_are_read_or_refused() -> None:
    print(f"SERCHA_TEST_SEED={SEED}")
    found = await outcomes(truncated_files(SEED))

    assert len(found) == 100
    report(found)


async def test_damaged_files_are_read_or_refused() -> None:
    print(f"SERCHA_TEST_SEED={SEED}")
    report(await outcomes(damaged_files(SEED, FUZZED)))


@pytest.mark.proof
async def test_thousands_of_damaged_files_are_read_or_refused() -> None:
    count = max(FUZZED, FUZZED_IN_PROOF)
    print(f"SERCHA_TEST_SEED={SEED}, {count} files")
    before = memory()
    report(await outcomes(damaged_files(SEED, count)))

    assert memory() - before < GROWTH_MAX


async def test_a_sync_over_hostile_files_completes_and_finds_the_sound_ones(
    postgres_url: str, tmp_path: Path
) -> None:
    sound, hostile = samples(), hostile_files()
    chosen = [name for name in sorted(hostile) if len(hostile[name]) < 100_000][::3]
    async with open_parsers(1, LIMITS) as parsers:
        extractor = DocumentExtractor(parsers, text_chars_max=CHARS_MAX)
        async with setup_on(postgres_url, tmp_path, extractor=extractor) as setup:
            for name, content in sound.items():
                (setup.root / name).write_bytes(content)
            for name in chosen:
                (setup.root / name).write_bytes(hostile[name])
            state = await setup.sync()
            again = await setup.sync()
            issues = await setup.truth.sources.issues(setup.source.id, limit=500)
            paths = await setup.paths()

    assert (state.status, again.status) == (SyncStatus.COMPLETED, SyncStatus.COMPLETED)
    assert set(sound) <= set(paths)
    assert {Path(each.external_id).name for each in issues} & set(sound) == set()
    assert {each.code for each in issues} <= CODES | {"truncated"}
    assert all(each.reason for each in issues)
    assert again.stats.documents_read <= state.stats.errors
