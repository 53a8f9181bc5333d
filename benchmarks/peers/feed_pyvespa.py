"""Feeds by pyvespa's ``feed_iterable``: ``feed_pyvespa.py URL FILE``."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

from vespa.application import Vespa

url, file = sys.argv[1:]
documents = [json.loads(line) for line in Path(file).read_text().splitlines()]
rows = [{"id": each["put"].rpartition(":")[2], "fields": each["fields"]} for each in documents]
statuses: Counter[int] = Counter()
host, _, port = url.rpartition(":")
begun, used = time.perf_counter(), time.process_time()
Vespa(host, int(port)).feed_iterable(
    rows,
    schema="page",
    namespace="bench",
    callback=lambda response, _: statuses.update([response.status_code]),
)
seconds, cpu = time.perf_counter() - begun, time.process_time() - used
print(json.dumps({"seconds": seconds, "cpu": cpu, "statuses": statuses}))
