"""How many documents per second are fed to Vespa: ``python benchmarks/feed.py [documents] [rounds]``.

Into a sink that answers at once (nginx, HTTP/1.1 and HTTP/2 on one port), the same documents, in turns: Sercha's writer,
pyvespa's ``feed_iterable`` with its defaults, Vespa's own ``vespa feed``, and a bare loop of httpx on Trio. Without the
analysis of words, which the peers do not have; with it is a line of its own. Medians of the rounds, and ratios to pyvespa.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.shared_rig.environments import make_environment
from benchmarks.shared_rig.session import load_average
from sercha.adapters.vespa.fields import document_fields
from sercha.domain.chunking import chunk_text
from sercha.domain.document import DocumentId, IndexedDocument
from sercha.testing.cluster.balancer import find_nginx

PEERS = Path(__file__).parent / "peers"
SEED = 7
SINK = """
worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; daemon off; master_process off;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 10000000; client_body_buffer_size 256k; client_max_body_size 0;
  {temporary}
  server {{
    listen 127.0.0.1:{port}; http2 on; default_type application/json;
    location / {{ return 200 '{{"pathId":"/document/v1/bench/page/docid/1","id":"id:bench:page::1"}}'; }}
  }}
}}
"""


def words(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(VOCABULARY, k=count))


VOCABULARY = [f"word{number}" for number in range(5_000)]


def write_documents(file: Path, count: int) -> None:
    """Write documents of about 1.8 kB, in the form of ``vespa feed``."""
    chance = random.Random(SEED)
    with file.open("w") as out:
        for number in range(count):
            fields = {"title": words(chance, 6), "text": words(chance, 200), "number": number}
            out.write(json.dumps({"put": f"id:bench:page::{number}", "fields": fields}) + "\n")


def analysed_per_second(count: int) -> float:
    """Return how many such documents are turned into fields in a second, by one thread."""
    chance = random.Random(SEED)
    documents: list[IndexedDocument] = []
    for number in range(count):
        text = words(chance, 200)
        chunks = chunk_text(text, "text/plain")
        documents.append(
            IndexedDocument(
                DocumentId(number), UUID(int=1), f"a/{number}", words(chance, 6), "text/plain", text, chunks,
                ("team",), 1, datetime.now(UTC),
            )
        )  # fmt: skip
    begun = time.perf_counter()
    for document in documents:
        json.dumps(document_fields("g1", document))
    return count / (time.perf_counter() - begun)


async def free_port() -> int:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


async def run(command: list[str], folder: Path) -> dict[str, object]:
    """Run one contender; what it says of itself, or what was seen of it."""
    environment = {**os.environ, "VESPA_CLI_HOME": str(folder), "HOME": str(folder)}
    begun = time.perf_counter()
    done = await trio.run_process(command, capture_stdout=True, env=environment)
    seconds = time.perf_counter() - begun
    said = json.loads(done.stdout)
    if "feeder.seconds" in said:
        statuses = said["http.response.code.counts"]
        return {"seconds": float(said["feeder.seconds"]), "statuses": statuses}
    assert said["seconds"] <= seconds
    return said


async def main(count: int, rounds: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="sercha-feed-") as name:
        folder = Path(name)
        python = await make_environment(folder / "pyvespa", PEERS / "feed.txt")
        file, port = folder / "documents.jsonl", await free_port()
        write_documents(file, count)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
        (folder / "nginx.conf").write_text(
            SINK.format(folder=folder, port=port, temporary=temporary)
        )
        url = f"http://127.0.0.1:{port}"
        vespa = Path(sys.executable).with_name("vespa")
        contenders: dict[str, list[str]] = {
            "sercha": [sys.executable, str(PEERS / "feed_sercha.py"), url, str(file)],
            "pyvespa": [str(python), str(PEERS / "feed_pyvespa.py"), url, str(file)],
            "vespa feed": [str(vespa), "feed", "-t", url, str(file)],
            "httpx loop": [sys.executable, str(PEERS / "feed_httpx.py"), url, str(file)],
        }
        with subprocess.Popen(  # noqa: ASYNC220  it is only started here
            [find_nginx(), "-p", f"{folder}/", "-c", folder / "nginx.conf"]
        ) as sink:
            try:
                await measure(contenders, count, rounds, folder)
            finally:
                sink.kill()
        print(f"analysis of words alone: {analysed_per_second(min(count, 2_000)):,.0f} documents/s")
        print(f"load average after {load_average()}")


async def measure(contenders: dict[str, list[str]], count: int, rounds: int, folder: Path) -> None:
    print(f"{count} documents of 1.8 kB, {rounds} rounds, load average before {load_average()}")
    speeds: dict[str, list[float]] = defaultdict(list)
    cpu: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds):
        order = list(contenders)
        random.Random(SEED + number).shuffle(order)
        for name in order:
            said = await run(contenders[name], folder)
            assert said["statuses"] == {"200": count}, (name, said)
            speeds[name].append(count / float(str(said["seconds"])))
            cpu[name].append(float(str(said.get("cpu", "nan"))) / count * 1e6)
    ratios = [
        ours / theirs for ours, theirs in zip(speeds["sercha"], speeds["pyvespa"], strict=True)
    ]
    for name, found in speeds.items():
        low, high = min(found), max(found)
        print(
            f"{name:<11} median {statistics.median(found):>7,.0f} documents/s  {low:,.0f} to {high:,.0f}"
            f"  {statistics.median(cpu[name]):>6,.0f} µs of processor each"
        )
    print(f"sercha to pyvespa: {statistics.median(ratios):.2f}, at least 1.0 is wanted")


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    trio.run(main, *[*numbers, *[5_000, 5][len(numbers) :]])
