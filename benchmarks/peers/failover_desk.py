"""What all contenders of `benchmarks.failover` share: how they are told things, and how they tell.

Only the standard library and psycopg, because the peers run in an environment of their own. Each line of standard
output is one event with CLOCK_MONOTONIC, which is the same for all processes of a machine. Each line of
standard input means "contend once more"; its end means that nobody listens any longer.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg

REDIS_VARIABLE, POSTGRES_VARIABLE = "FAILOVER_REDIS", "FAILOVER_POSTGRES"
"""Addresses come through the environment, which other accounts cannot read."""

ACT_SECONDS = (0.002, 0.006)
"""What an act takes between the look at the lease and the row: slept, in place of computing."""
LOOK_SECONDS = 0.5
"""How often one that does not act looks whether it still holds."""

TABLES = """
CREATE TABLE acquisition (system text, tenure text PRIMARY KEY, node integer);
CREATE TABLE act (system text, tenure text, node integer);
CREATE TABLE floor_fence (name text PRIMARY KEY, holder text, token bigint NOT NULL DEFAULT 0);
"""
ACQUISITION = "INSERT INTO acquisition (system, tenure, node) VALUES (%s, %s, %s)"
ACT = "INSERT INTO act (system, tenure, node) VALUES (%s, %s, %s)"


class Desk:
    """Where one contender is told and tells; made in the main thread, before any other thread."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--system", required=True)
        parser.add_argument("--lease", required=True)
        parser.add_argument("--node", type=int, required=True)
        parser.add_argument("--ttl", type=int, required=True)
        parser.add_argument("--seed", type=int, required=True)
        parser.add_argument("--acts", action="store_true")
        options = parser.parse_args()
        self.system: str = options.system
        self.lease: str = options.lease
        self.node: int = options.node
        self.ttl: int = options.ttl
        self.acts: bool = options.acts
        self.random = random.Random(options.seed)
        self.redis_url = os.environ[REDIS_VARIABLE]
        self.postgres_url = os.environ[POSTGRES_VARIABLE]
        self._told: queue.SimpleQueue[None] = queue.SimpleQueue()

    def open(self) -> None:
        """Say that this contender is ready, and listen."""
        threading.Thread(target=self._listen, daemon=True).start()
        self.tell("started")

    def tell(self, event: str, **details: Any) -> None:
        """Write one line in one piece, also from a signal's handler."""
        at = time.monotonic()
        os.write(1, json.dumps({"at": at, "event": event, **details}).encode() + b"\n")

    def wait_to_contend(self) -> None:
        """Return when told to contend."""
        self._told.get()

    def row(self, tenure: str) -> tuple[str, str, int]:
        """Return the values for `ACQUISITION` and `ACT`."""
        return (self.system, tenure, self.node)

    def work_seconds(self) -> float:
        """Return how long the next act takes."""
        return self.random.uniform(*ACT_SECONDS)

    def _listen(self) -> None:
        for _ in sys.stdin:
            self._told.put(None)
        os._exit(0)


def block_end_signal() -> None:
    """Let SIGUSR1 wait until `serve` asks for it; before any thread is started."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})


def serve(desk: Desk, holds: Callable[[], bool]) -> None:
    """Be the holder: act while *holds* says so, or do nothing until SIGUSR1 or the loss."""
    tenure = uuid4().hex
    desk.tell("acquired", tenure=tenure)
    if desk.acts:
        with psycopg.connect(desk.postgres_url, autocommit=True) as ledger:
            ledger.execute(ACQUISITION, desk.row(tenure))
            while holds():
                time.sleep(desk.work_seconds())
                ledger.execute(ACT, desk.row(tenure))
        return
    while holds():
        if signal.sigtimedwait({signal.SIGUSR1}, LOOK_SECONDS):
            desk.tell("ending")
            return
