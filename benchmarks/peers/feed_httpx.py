"""Feeds by a bare loop of httpx on Trio, 32 at a time: ``feed_httpx.py URL FILE``."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import trio


async def main(url: str, documents: list[dict[str, Any]]) -> None:
    """Send each document once."""
    waiting = iter(documents)
    statuses: Counter[int] = Counter()
    begun, used = time.perf_counter(), time.process_time()
    async with httpx.AsyncClient(base_url=url, timeout=20, trust_env=False) as client:

        async def work() -> None:
            for each in waiting:
                number = each["put"].rpartition(":")[2]
                answer = await client.post(
                    f"/document/v1/bench/page/docid/{number}", json={"fields": each["fields"]}
                )
                statuses[answer.status_code] += 1

        async with trio.open_nursery() as nursery:
            for _ in range(32):
                nursery.start_soon(work)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    print(json.dumps({"seconds": seconds, "cpu": cpu, "statuses": statuses}))


address, file = sys.argv[1:]
trio.run(main, address, [json.loads(line) for line in Path(file).read_text().splitlines()])
