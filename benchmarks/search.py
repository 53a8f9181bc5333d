"""How soon a search is answered, and by what: ``python benchmarks/search.py [--chunks 100000] [--requests 2000]``.

One API process with the embedded engine, PostgreSQL with flushed commits, asked past the balancer by 1, 8 and 32
clients that keep their connections. Queries of one to three words, by Zipf's law as in the documents. Then the same
queries in a process of their own, step by step: what the engine, PostgreSQL, the snippets and JSON take of an answer
to one client; the rest is HTTP. The clients share the processors with the API.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.shared_rig.session import load_average
from sercha.domain.document import TEAM
from sercha.domain.query import SearchQuery, parse_query
from sercha.roles.api.serialising import search_result
from sercha.services.search import Search
from sercha.settings import Role, load_settings
from sercha.testing.cluster import Cluster, ClusterPlan, open_cluster
from sercha.wiring.process import open_process
from sercha.wiring.search import open_search
from tests.support.failover import add_source, sync, wait_task

SEED = 7
VOCABULARY = 50_000
WORDS_PER_DOCUMENT = 700
"""About five chunks."""
CHUNKS_PER_DOCUMENT = 5
CLIENTS = (1, 8, 32)
LIMIT = 20
API_PORT = 8080
SYNC_SECONDS = 1_800


class Texts:
    """Documents and queries of one vocabulary, the same for one seed."""

    def __init__(self) -> None:
        self._chance = random.Random(SEED)
        letters = "etaoinshrdlucmfwygpbvk"
        self._words = [
            "".join(self._chance.choices(letters, k=self._chance.randint(2, 11)))
            for _ in range(VOCABULARY)
        ]
        self._weights = [1 / rank for rank in range(1, VOCABULARY + 1)]

    def words(self, count: int) -> str:
        return " ".join(self._chance.choices(self._words, self._weights, k=count))

    def write(self, folder: Path, documents: int) -> None:
        for number in range(documents):
            place = folder / f"part-{number // 500}"
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number}.txt").write_text(self.words(WORDS_PER_DOCUMENT))

    def queries(self, count: int) -> list[str]:
        return [self.words(self._chance.randint(1, 3)) for _ in range(count)]


class Client:
    """A connection that asks one thing after another; as little work for the processors as can be."""

    def __init__(self, stream: trio.SocketStream, host: str, token: str) -> None:
        self._stream = stream
        self._head = (
            f"POST /api/v1/search HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )

    async def ask(self, query: str) -> int:
        """Return the length of the answer's body."""
        body = json.dumps({"query": query, "limit": LIMIT}).encode()
        await self._stream.send_all((self._head % len(body)).encode() + body)
        received = b""
        while b"\r\n\r\n" not in received:
            received += await self._stream.receive_some(65_536)
        head, _, rest = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), received[:300]
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(rest) < length:
            rest += await self._stream.receive_some(65_536)
        return length


async def ask_all(
    cluster: Cluster, clients: int, queries: Sequence[str]
) -> tuple[list[float], float]:
    """Return how long each answer took, and the answers per second."""
    host = cluster.apis[0].address
    times: list[float] = []

    async def run(mine: Sequence[str]) -> None:
        async with await trio.open_tcp_stream(host, API_PORT) as stream:
            client = Client(stream, host, cluster.token)
            for query in mine:
                began = perf_counter()
                await client.ask(query)
                times.append(perf_counter() - began)

    began = perf_counter()
    async with trio.open_nursery() as nursery:
        for number in range(clients):
            nursery.start_soon(run, queries[number::clients])
    return sorted(times), len(queries) / (perf_counter() - began)


class Watched:
    """Passes everything on, and notes how long the calls of some methods took."""

    def __init__(self, inner: object, names: Sequence[str], taken: dict[str, float]) -> None:
        self._inner = inner
        self._names = names
        self._taken = taken

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._inner, name)
        if name not in self._names:
            return attribute

        async def watched(*arguments: Any) -> Any:
            began = perf_counter()
            try:
                return await attribute(*arguments)
            finally:
                self._taken[name] += perf_counter() - began

        return watched


async def take_apart(environment: dict[str, str], queries: Sequence[str]) -> dict[str, list[float]]:
    """Answer the queries in this process; return for each step how long it took each time."""
    steps: dict[str, list[float]] = defaultdict(list)
    settings = load_settings(environment, role=Role.API)
    async with (
        open_process(settings) as process,
        open_search(process) as search,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(search.follower.run)
        while not search.follower.state.is_caught_up:  # noqa: ASYNC110 - it tells nobody
            await trio.sleep(0.05)
        for query in queries:
            taken: dict[str, float] = defaultdict(float)
            service = Search(
                Watched(search.index, ("search",), taken),  # type: ignore[arg-type]
                Watched(process.documents, ("passages",), taken),  # type: ignore[arg-type]
            )
            await _answer(service, parse_query(query, limit=LIMIT), taken)
            for name, seconds in taken.items():
                steps[name].append(seconds)
        nursery.cancel_scope.cancel()
    return steps


async def _answer(service: Search, query: SearchQuery, taken: dict[str, float]) -> None:
    began = perf_counter()
    page = await service.search(query, frozenset({TEAM}))
    whole = perf_counter() - began
    taken["snippets"] = whole - taken["search"] - taken["passages"]
    began = perf_counter()
    shape = search_result(page)
    json.dumps(asdict(shape) if is_dataclass(shape) else shape, default=str)  # type: ignore[arg-type]
    taken["JSON"] = perf_counter() - began


def percentiles(times: Sequence[float]) -> str:
    ordered = sorted(times)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    return f"p50 {p50 * 1e3:7.2f} ms  p99 {p99 * 1e3:7.2f} ms"


async def main(chunks: int, requests: int) -> None:
    """Measure and print."""
    texts = Texts()
    print(f"load average before {load_average()}")
    with tempfile.TemporaryDirectory(prefix="sercha-search-") as name:
        folder = Path(name) / "documents"
        texts.write(folder, chunks // CHUNKS_PER_DOCUMENT)
        plan = ClusterPlan(apis=1, workers=1, folders=(folder,))
        async with open_cluster(plan) as cluster:
            await cluster.set_up()
            await wait_task(
                cluster, await sync(cluster, await add_source(cluster, folder)), SYNC_SECONDS
            )
            [[found]] = await cluster.query("SELECT count(*) FROM chunk")
            print(f"{found} chunks of {chunks // CHUNKS_PER_DOCUMENT} documents")
            await _measure(cluster, texts, requests)
    print(f"load average after {load_average()}")


async def _measure(cluster: Cluster, texts: Texts, requests: int) -> None:
    api = cluster.apis[0]
    await ask_all(cluster, 4, texts.queries(requests // 4))  # warm
    alone = 0.0
    for clients in CLIENTS:
        times, rate = await ask_all(cluster, clients, texts.queries(requests))
        alone = alone or statistics.median(times)
        print(f"{clients:2} clients  {percentiles(times)}  {rate:6.0f} answers/s")
    await api.stop()  # its copy is opened here
    steps = await take_apart(dict(api.environment(api.host)), texts.queries(requests))
    rest = alone
    for label, name in (
        ("engine", "search"),
        ("PostgreSQL", "passages"),
        ("snippets", "snippets"),
        ("JSON", "JSON"),
    ):
        median = statistics.median(steps[name])
        rest -= median
        print(
            f"{label:10}  {percentiles(steps[name])}  {median / alone:5.0%} of an answer to one client"
        )
    print(f"{'HTTP':10}  the rest, {rest * 1e3:.2f} ms{'':21}{rest / alone:5.0%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=2_000)
    given = parser.parse_args()
    trio.run(main, given.chunks, given.requests)
