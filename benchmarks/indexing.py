"""How soon documents are found, and what that costs: ``python benchmarks/indexing.py [--documents 50000] [--mixed 600]``.

End to end: from the request for a sync, by one worker, until one API's copy has every document, in a whole cluster
(PostgreSQL with flushed commits, Valkey, embedded engine). The floor does what cannot be done without, in this process:
it reads the same files with the same extraction, copies them into the same tables, and commits to Tantivy once per
1,000 documents. Small text files at a tenth of the number and in full, whose times and memory show the growth; and a
mixed corpus of all formats. Memory is the sum of the proportional set sizes of Sercha's own processes: worker, parsers, API.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from time import perf_counter
from uuid import uuid4

import psycopg
import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.shared_rig.memory import family, pss_bytes
from benchmarks.shared_rig.session import load_average
from sercha.adapters.embedded_index import open_embedded_index
from sercha.adapters.parsing.extractor import DocumentExtractor
from sercha.adapters.parsing.pool import open_parsers
from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.pool import open_pool
from sercha.domain.chunking import chunk_text
from sercha.domain.document import TEAM, Chunk, DocumentId, ExtractedText, IndexedDocument
from sercha.errors import ItemFailed
from sercha.services.ports import Change, Item
from sercha.testing.cluster import Cluster, ClusterPlan, open_cluster
from tests.support.documents import (
    make_docx,
    make_eml,
    make_epub,
    make_odt,
    make_pdf,
    make_pptx,
    make_rtf,
    make_xlsx,
)
from tests.support.failover import add_source, make_documents, sync, wait_task

SEED = 7
BATCH = 1_000
SEATS = 2
SYNC_SECONDS = 3_600
SAMPLE_SECONDS = 0.5
TARGET, TOLD_BELOW = 0.7, 0.5
MEMORY_MAX = 500e6
MEBIBYTE = 1024 * 1024


@dataclass
class Measured:
    """One run from end to end."""

    seconds: float
    pss_max: int


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


async def whole(folder: Path) -> tuple[Measured, float, int]:
    """Index a folder from end to end, then by the floor; returns both, and how many documents there are."""
    async with open_cluster(ClusterPlan(apis=1, workers=1, folders=(folder,))) as cluster:
        await cluster.set_up()
        measured = await _end_to_end(cluster, folder)
        [[documents]] = await cluster.query(
            "SELECT count(*) FROM document WHERE deleted_at IS NULL"
        )
        for member in (*cluster.apis, *cluster.workers):
            await member.stop()
        seconds = await floor(cluster.postgres.local_url, files(folder))
        return measured, seconds, int(str(documents))


async def _end_to_end(cluster: Cluster, folder: Path) -> Measured:
    measured = Measured(0.0, 0)
    source = await add_source(cluster, folder)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_memory, cluster, measured)
        began = perf_counter()
        await wait_task(cluster, await sync(cluster, source), SYNC_SECONDS)
        async with cluster.client() as client:
            # Each wait is bounded, and begins anew.
            while (await client.get("/api/v1/index", params={"wait": 10})).status_code != 200:  # noqa: ASYNC110
                await trio.sleep(0.05)
        measured.seconds = perf_counter() - began
        nursery.cancel_scope.cancel()
    return measured


async def _watch_memory(cluster: Cluster, measured: Measured) -> None:
    while True:
        pids = [member.pid for member in (*cluster.apis, *cluster.workers) if member.pid]
        now = sum(pss_bytes(each) for pid in pids for each in family(pid))
        measured.pss_max = max(measured.pss_max, now)
        await trio.sleep(SAMPLE_SECONDS)


async def floor(server: str, paths: Sequence[Path]) -> float:
    """Do what cannot be done without; returns the seconds that it took."""
    async with _fresh_database(server) as url:
        with tempfile.TemporaryDirectory(prefix="sercha-floor-") as name:
            async with open_embedded_index(Path(name)) as index, open_parsers(SEATS) as parsers:
                extractor = DocumentExtractor(parsers)
                began = perf_counter()
                with psycopg.connect(url) as connection:
                    first = 1
                    for batch in _batches(paths):
                        found = await _extract_all(extractor, batch)
                        changes = await trio.to_thread.run_sync(_store, connection, found, first)
                        await index.apply(changes, None)
                        first += len(changes)
                return perf_counter() - began


@asynccontextmanager
async def _fresh_database(server: str) -> AsyncGenerator[str]:
    name = f"floor_{uuid4().hex[:8]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    url = psycopg.conninfo.make_conninfo(server, dbname=name)
    async with open_pool(url) as pool:
        await migrate(pool)
    yield url


def _batches(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), BATCH):
        yield paths[start : start + BATCH]


Found = list[tuple[Path, bytes, ExtractedText, tuple[Chunk, ...]]]


async def _extract_all(extractor: DocumentExtractor, paths: Sequence[Path]) -> Found:
    found: Found = []

    async def work(mine: Sequence[Path]) -> None:
        for path in mine:
            content = path.read_bytes()
            item = Item(str(path), str(path), "1", len(content))
            try:
                text = await extractor.extract(item, content)
            except ItemFailed:
                continue
            chunks = chunk_text(text.text, text.mime_type, text.sections)
            found.append((path, content, text, chunks))

    async with trio.open_nursery() as nursery:
        for seat in range(SEATS):
            nursery.start_soon(work, paths[seat::SEATS])
    return found


def _store(connection: psycopg.Connection, found: Found, first: int) -> list[Change]:
    source, now = uuid4(), datetime.now(UTC)
    changes: list[Change] = []
    with connection.transaction(), connection.cursor() as cursor:
        with cursor.copy(
            "COPY document (id, source_id, external_id, path, title, mime_type, text, chunk_count, fingerprint,"
            " content_hash, metadata) FROM STDIN"
        ) as copy:
            for number, (path, content, text, chunks) in enumerate(found, first):
                digest = hashlib.sha256(content).digest()
                name, place = text.title or path.name, str(path)
                copy.write_row(
                    (number, source, place, place, name, text.mime_type, text.text, len(chunks), "1", digest,
                     json.dumps(text.metadata))
                )  # fmt: skip
        with cursor.copy(
            "COPY chunk (document_id, position, start_char, end_char, heading, content_hash) FROM STDIN"
        ) as copy:
            for number, (_, _, text, chunks) in enumerate(found, first):
                for chunk in chunks:
                    digest = hashlib.sha256(text.text[chunk.start : chunk.end].encode()).digest()
                    copy.write_row(
                        (number, chunk.position, chunk.start, chunk.end, chunk.heading, digest)
                    )
    for number, (path, _, text, chunks) in enumerate(found, first):
        document = IndexedDocument(
            DocumentId(number), source, str(path), text.title or path.name, text.mime_type, text.text, chunks,
            (TEAM,), 1, now,
        )  # fmt: skip
        changes.append(Change(DocumentId(number), document))
    return changes


WRITERS: dict[str, Callable[[str], bytes]] = {
    "pdf": lambda text: make_pdf([text[:1_500], text[1_500:]]),
    "docx": lambda text: make_docx([("Heading 1", "Report"), ("", text)]),
    "pptx": lambda text: make_pptx([("Report", text[:500], text[500:])]),
    "xlsx": lambda text: make_xlsx(
        {"Figures": [text.split()[at : at + 8] for at in range(0, 400, 8)]}
    ),
    "odt": lambda text: make_odt([(1, "Report"), (0, text)]),
    "epub": lambda text: make_epub([f"<h1>Report</h1><p>{text}</p>"]),
    "eml": make_eml,
    "rtf": make_rtf,
    "html": lambda text: (
        f"<html><body><main><h1>Report</h1><p>{text}</p></main></body></html>".encode()
    ),
    "md": lambda text: f"# Report\n\n{text}\n".encode(),
    "py": lambda text: f'"""{text}"""\n'.encode(),
}


def make_mixed(folder: Path, count: int) -> None:
    """Make files of all formats, as many of each."""
    chance = random.Random(SEED)
    folder.mkdir(parents=True)
    for number, suffix in zip(range(count), cycle(WRITERS)):
        text = " ".join(f"word{chance.randrange(5_000)}" for _ in range(400))
        (folder / f"{number}.{suffix}").write_bytes(WRITERS[suffix](text))


def tell(what: str, measured: Measured, seconds: float, documents: int) -> None:
    ratio = seconds / measured.seconds
    verdict = (
        "met"
        if ratio >= TARGET
        else "MISSED"
        if ratio >= TOLD_BELOW
        else "MISSED, say where the time goes"
    )
    print(
        f"{what}: {documents} documents, {documents / measured.seconds:.0f} a second end to end, "
        f"{documents / seconds:.0f} the floor: {ratio:.2f}, at least {TARGET} is wanted ({verdict}); "
        f"at most {measured.pss_max / MEBIBYTE:.0f} MiB"
    )


async def main(documents: int, mixed: int) -> None:
    """Measure and print."""
    print(f"load average before {load_average()}")
    sizes: dict[int, Measured] = {}
    for count in (documents // 10, documents):
        with tempfile.TemporaryDirectory(prefix="sercha-indexing-") as name:
            folder = Path(name) / "small"
            make_documents(folder, count)
            measured, seconds, found = await whole(folder)
            sizes[count] = measured
            tell("small text files", measured, seconds, found)
    few, many = sizes.values()
    print(
        f"ten times as many: {many.seconds / few.seconds:.1f} times the time, "
        f"{many.pss_max / few.pss_max:.2f} times the memory; {many.pss_max / 1e6:.0f} MB, at most {MEMORY_MAX / 1e6:.0f}"
    )
    if mixed:
        with tempfile.TemporaryDirectory(prefix="sercha-indexing-") as name:
            folder = Path(name) / "mixed"
            make_mixed(folder, mixed)
            tell("mixed corpus", *await whole(folder))
    print(f"load average after {load_average()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=50_000)
    parser.add_argument("--mixed", type=int, default=600)
    given = parser.parse_args()
    trio.run(main, given.documents, given.mixed)
