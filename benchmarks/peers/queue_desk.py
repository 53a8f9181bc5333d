"""What all programs of `benchmarks.queues` share: what they are told to do, and how they tell what happened.

Only the standard library, because each peer runs in an environment of its own. A program is started with one
command, says ``ready`` when it is connected, waits for a line, does its work and says ``ended``. Each line of
standard output is one event in JSON. Runs are counted by the task itself, in memory that the rig can read.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import random
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

REDIS_VARIABLE, POSTGRES_VARIABLE, BOARD_VARIABLE = "QUEUE_REDIS", "QUEUE_POSTGRES", "QUEUE_BOARD"
"""Addresses come through the environment, which other accounts cannot read."""

COMMANDS = ("prepare", "fill", "enqueue", "produce", "work")
MODES = ("single", "batched", "callers")
BATCH = 100
"""Tasks per call when enqueued in batches, and the number of concurrent callers."""
WARM_UP = 5
"""Tasks that are enqueued before the time is taken; of idle samples, those that do not count."""
GAP_SECONDS = (0.05, 0.2)
"""The pause between two tasks for an idle worker: jittered, so that no poller is met in step."""

BOARD = struct.Struct("=qdd")
"""Number of runs, and when the first and the marked one took place (CLOCK_MONOTONIC; 0: not yet)."""

Add = Callable[[float], object]
AddMany = Callable[[Sequence[float]], object]


class Board:
    """Counts the runs of this process, where the rig sees the count without asking."""

    def __init__(self, mark: int) -> None:
        self.runs = 0
        self.delays: list[float] = []
        self._first = self._mark_at = self._cpu_first = 0.0
        self._mark = mark
        self._lock = threading.Lock()
        path = Path(os.environ[BOARD_VARIABLE], str(os.getpid()))
        with path.open("w+b") as file:
            file.truncate(BOARD.size)
            self._map = mmap.mmap(file.fileno(), BOARD.size)

    def run(self, sent: float) -> None:
        """Be the task: count, and if *sent* is not 0 note how long ago that was."""
        now = time.monotonic()
        with self._lock:
            self.runs += 1
            if sent:
                self.delays.append(now - sent)
            if self.runs == 1:
                self._first, self._cpu_first = now, time.process_time()
            if self.runs == self._mark:
                self._mark_at = now
            BOARD.pack_into(self._map, 0, self.runs, self._first, self._mark_at)

    def cpu_seconds(self) -> float:
        """Return what this process has computed since the first run."""
        return time.process_time() - self._cpu_first if self.runs else 0.0


class Desk:
    """Where one program is told and tells."""

    def __init__(self) -> None:
        parser = argparse.ArgumentParser()
        parser.add_argument("--variant", required=True)
        parser.add_argument("--command", choices=COMMANDS, required=True)
        parser.add_argument("--mode", choices=MODES, default="single")
        parser.add_argument("--count", type=int, default=0)
        parser.add_argument("--seconds", type=float, default=1.0)
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("--mark", type=int, default=0)
        options = parser.parse_args()
        self.variant: str = options.variant
        self.command: str = options.command
        self.mode: str = options.mode
        self.count: int = options.count
        self.seconds: float = options.seconds
        self.random = random.Random(options.seed)
        self.redis_url = os.environ[REDIS_VARIABLE]
        self.postgres_url = os.environ[POSTGRES_VARIABLE]
        self._board = Board(options.mark) if self.command == "work" else None
        self._out = os.dup(1)
        os.dup2(2, 1)  # what a peer prints itself is no event

    def run(self, sent: float) -> None:
        """Be the task; only in a worker."""
        assert self._board is not None
        self._board.run(sent)

    def tell(self, event: str, **details: Any) -> None:
        """Write one line in one piece."""
        os.write(self._out, json.dumps({"event": event, **details}).encode() + b"\n")

    def wait_go(self) -> None:
        """Say that all is ready and return when told to begin; ends when nobody listens any longer."""
        self.tell("ready")
        if not sys.stdin.readline():
            os._exit(1)

    def go_to_work(self, on_stop: Callable[[], object] | None = None) -> None:
        """Like `wait_go`; from then on a thread waits for the word to stop and calls *on_stop*, or ends."""
        self.wait_go()
        threading.Thread(target=self._await_stop, args=[on_stop], daemon=True).start()

    def end_work(self) -> NoReturn:
        """Tell what was run, and end without any ceremony: the queue is empty."""
        assert self._board is not None
        board = self._board
        self.tell("ended", runs=board.runs, delays=board.delays, cpu_seconds=board.cpu_seconds())
        os._exit(0)

    def gap(self) -> float:
        """Return how many seconds the worker stays idle before the next sample."""
        return self.random.uniform(*GAP_SECONDS)

    def batches(self) -> list[list[float]]:
        """Return what to fill the queue with: `count` tasks that note no time."""
        whole, rest = divmod(self.count, BATCH)
        return [[0.0] * BATCH] * whole + ([[0.0] * rest] if rest else [])

    def _await_stop(self, on_stop: Callable[[], object] | None) -> None:
        sys.stdin.readline()
        if on_stop is None:
            self.end_work()
        on_stop()


def enqueue(desk: Desk, add: Add, add_many: AddMany | None) -> None:
    """Carry out ``fill``, ``enqueue`` or ``produce`` with calls that block."""

    def one_by_one(batch: Sequence[float]) -> None:
        for sent in batch:
            add(sent)

    many = add_many or one_by_one
    if desk.command == "fill":
        desk.wait_go()
        for batch in desk.batches():
            many(batch)
        desk.tell("ended", count=desk.count)
        return
    for _ in range(WARM_UP if desk.command == "enqueue" else 0):
        add(0.0)
    desk.wait_go()
    if desk.command == "produce":
        for _ in range(desk.count):
            time.sleep(desk.gap())
            add(time.monotonic())
        desk.tell("ended", count=desk.count)
    else:
        begun = time.monotonic()
        count = _enqueue_for(desk, add, many)
        desk.tell("ended", count=count, seconds=time.monotonic() - begun)


def _enqueue_for(desk: Desk, add: Add, add_many: AddMany) -> int:
    """Enqueue for `seconds`; return how many."""
    end = time.monotonic() + desk.seconds
    batch = [0.0] * BATCH

    def call() -> int:
        count = 0
        while time.monotonic() < end:
            if desk.mode == "batched":
                add_many(batch)
                count += BATCH
            else:
                add(0.0)
                count += 1
        return count

    if desk.mode != "callers":
        return call()
    counts: list[int] = []
    callers = [
        threading.Thread(target=lambda: counts.append(call()), daemon=True) for _ in range(BATCH)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    return sum(counts)
