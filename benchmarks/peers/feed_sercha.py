"""Feeds by Sercha's writer: ``feed_sercha.py URL FILE``."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sercha.adapters.vespa.containers import open_containers
from sercha.adapters.vespa.index import FEED_CONNECTIONS, FEED_LOW
from sercha.adapters.vespa.messages import Request, json_request
from sercha.adapters.vespa.throttle import Throttle
from sercha.adapters.vespa.writer import Write, open_writer
from sercha.telemetry import metrics


async def request(number: str, fields: dict[str, Any]) -> Request:
    """Make the request as the index does, without the analysis of words."""
    return json_request(
        "POST", f"/document/v1/bench/page/docid/{number}?timeout=20", {"fields": fields}
    )


async def main(url: str, documents: list[dict[str, Any]]) -> None:
    """Write each document once."""
    begun, used = time.perf_counter(), time.process_time()
    async with (
        open_containers([url], connections=FEED_CONNECTIONS) as containers,
        open_writer(containers, Throttle(FEED_LOW, FEED_CONNECTIONS)) as writer,
    ):
        for each in documents:
            number = each["put"].rpartition(":")[2]
            await writer.submit(Write(number, partial(request, number, each["fields"])))
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    [family] = metrics.VESPA_WRITES.collect()
    statuses = {
        sample.labels["status"]: int(sample.value)
        for sample in family.samples
        if sample.name.endswith("_total")
    }
    print(json.dumps({"seconds": seconds, "cpu": cpu, "statuses": statuses}))


address, file = sys.argv[1:]
trio.run(main, address, [json.loads(line) for line in Path(file).read_text().splitlines()])
