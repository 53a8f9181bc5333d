"""How fast the embedded index is written and read: ``python -m benchmarks.embedded_index [documents]``.

Documents of about five chunks of 1 kB, words by Zipf's law. Prints one line per measure.
"""

from __future__ import annotations

import random
import resource
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import trio

from sercha.adapters.embedded_index import EmbeddedIndex, open_embedded_index
from sercha.domain.document import TEAM, Chunk, DocumentId, IndexedDocument
from sercha.domain.query import parse_query
from sercha.services.ports import Change

VOCABULARY = 50_000
CHUNK_CHARS = 1_000
BATCH = 200
SEED = 7

rng = random.Random(SEED)
letters = "etaoinshrdlucmfwygpbvk"
words = ["".join(rng.choices(letters, k=rng.randint(2, 11))) for _ in range(VOCABULARY)]
weights = [1 / rank for rank in range(1, VOCABULARY + 1)]


def documents(count: int) -> Iterator[IndexedDocument]:
    for number in range(1, count + 1):
        text = " ".join(rng.choices(words, weights, k=rng.randint(200, 1_300)))
        starts = enumerate(range(0, len(text), CHUNK_CHARS))
        chunks = tuple(Chunk(at, s, min(s + CHUNK_CHARS, len(text))) for at, s in starts)
        yield IndexedDocument(
            DocumentId(number), uuid.UUID(int=number % 20), f"d{number % 97}/{number}.txt",
            f"{rng.choice(words)} {number}", "text/plain", text, chunks, (TEAM, f"user:{number % 10}"), 1, None,
        )  # fmt: skip


async def measure_lag(lags: list[float]) -> None:
    while True:
        start = trio.current_time()
        await trio.sleep(0.005)
        lags.append(trio.current_time() - start - 0.005)


def show(name: str, seconds: list[float]) -> None:
    seconds.sort()
    p50, p99 = statistics.median(seconds), seconds[int(len(seconds) * 0.99)]
    print(f"{name:34} p50 {p50 * 1e3:8.2f} ms   p99 {p99 * 1e3:8.2f} ms")


async def timed(
    index: EmbeddedIndex, name: str, texts: list[str], *, limit: int, offset: int = 0
) -> None:
    seconds: list[float] = []
    for text in texts:
        start = time.perf_counter()
        query = parse_query(text, limit=limit, offset=offset)
        await index.search(query, frozenset({TEAM}))
        seconds.append(time.perf_counter() - start)
    show(name, seconds)


async def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with open_embedded_index(Path(folder)) as index, trio.open_nursery() as nursery:
            lags: list[float] = []
            everything = list(documents(count))
            chunk_count = sum(len(it.chunks) for it in everything)
            nursery.start_soon(measure_lag, lags)
            start = time.perf_counter()
            for at in range(0, count, BATCH):
                batch = everything[at : at + BATCH]
                await index.apply([Change(it.id, it) for it in batch], None)
            seconds = time.perf_counter() - start
            nursery.cancel_scope.cancel()
        async with open_embedded_index(Path(folder)) as index:
            found = await index.statistics()
            print(f"{count} documents, {chunk_count} chunks, seed {SEED}")
            print(f"indexed in {seconds:.1f} s: {chunk_count / seconds:.0f} chunks per second")
            print(f"{found.bytes_on_disk / 1e6:.0f} MB on disk in {found.segments} segments")
            print(
                f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB resident at most"
            )
            show("lag of the loop while indexing", lags)
            three = [" ".join(rng.choices(words[50:], weights[50:], k=3)) for _ in range(200)]
            await timed(index, "3 words, first 20", three, limit=20)
            await timed(
                index, "3 words, results 9,900 to 10,000", three[:20], limit=100, offset=9_900
            )
            await timed(index, "the most frequent word", [words[0]] * 20, limit=20)
            await timed(index, "the 10 most frequent words", [" ".join(words[:10])] * 20, limit=20)
            await timed(
                index, "phrase of 2 frequent words", [f'"{words[0]} {words[1]}"'] * 20, limit=20
            )
            one = everything[0]
            commits: list[float] = []
            for _ in range(30):
                start = time.perf_counter()
                await index.apply([Change(one.id, one)], None)
                commits.append(time.perf_counter() - start)
            show("commit of one document", commits)


if __name__ == "__main__":
    trio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
