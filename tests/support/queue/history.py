"""What happened to a queue, recorded outside of it: by those who ran tasks, by who broke things, by the ledger.

Every process appends to a file of its own, one JSON object a line, each line in one write. Times are CLOCK_MONOTONIC,
which all processes of a Linux machine share. A *life* is one process of a worker; its number is never used again.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

Event = dict[str, Any]
Record = TypeVar("Record")

LEDGER = "ledger"
"""The name of the ledger's own file, written at the end."""


class Journal:
    """Appends events to one file of a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = os.open(
            folder / f"{name}.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644
        )

    def note(self, event: str, **details: Any) -> float:
        """Append one event in one write; return its time."""
        at = time.monotonic()
        line = json.dumps({"at": at, "event": event, **details}, separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")
        return at

    def close(self) -> None:
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class Enqueue:
    """One task that the driver asked for; ``n`` is its number in the payload."""

    n: int
    asked_at: float
    kind: str = "instant"
    tries_max: int = 5
    delay: float = 0.0
    dedupe_key: str | None = None
    concurrency_key: str | None = None
    task: str | None = None
    """The id that was acknowledged; None: no answer came, so it may be there or not."""


@dataclass(frozen=True, slots=True)
class Run:
    """One call of a handler. Without an end of its own it ended with its life."""

    task: str
    attempt: int
    owner: str
    life: int
    started_at: float
    ended_at: float = math.inf
    how: str = "unknown"
    """returned, failed, rejected, interrupted, cancelled, or unknown when the process ended first."""


@dataclass(frozen=True, slots=True)
class Absence:
    """A time in which a life (None: all of them) was stopped, cut off, not scheduled, or dead."""

    life: int | None
    begun_at: float
    ended_at: float


@dataclass(frozen=True, slots=True)
class Row:
    """A task of the ledger at the end."""

    task: str
    n: int | None
    """None: a schedule has made it."""
    state: str
    attempt: int = 1
    tries: int = 1
    tries_max: int = 5
    last_error: str | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A change of a task's state as the database itself recorded it, in the order in which it took place.

    ``owner`` and ``attempt`` are those of the claim that begins (``after`` is running) or ends.
    """

    seq: int
    task: str
    before: str | None
    after: str
    attempt: int = 0
    owner: str | None = None
    tries_before: int = 0
    tries_after: int = 0
    moved_at: float = math.inf
    """By the database's clock, turned into ours."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What an attempt wrote in a transaction that had verified the claim; ``seq`` counts with the moves."""

    seq: int
    task: str
    attempt: int
    owner: str


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot of a schedule, or a stretch of slots that did not run; times are seconds of the database's clock."""

    schedule: str
    slot: int
    slot_last: int
    outcome: str
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is scheduled each *step* seconds: the slots from *first* on, *next_slot* being the first to come."""

    schedule: str
    step: int
    first: int
    next_slot: int


@dataclass(frozen=True, slots=True)
class History:
    """Everything that is known about one run of a queue."""

    enqueues: tuple[Enqueue, ...] = ()
    cancelled: frozenset[str] = frozenset()
    runs: tuple[Run, ...] = ()
    absences: tuple[Absence, ...] = ()
    rows: tuple[Row, ...] = ()
    moves: tuple[Move, ...] = ()
    effects: tuple[Effect, ...] = ()
    slots: tuple[Slot, ...] = ()
    schedules: tuple[Schedule, ...] = ()

    def runs_by_task(self) -> dict[str, list[Run]]:
        """Return the runs of each task in the order of their start."""
        found: defaultdict[str, list[Run]] = defaultdict(list)
        for run in sorted(self.runs, key=lambda run: run.started_at):
            found[run.task].append(run)
        return found

    def moves_by_task(self) -> dict[str, list[Move]]:
        """Return the moves of each task in their order."""
        found: defaultdict[str, list[Move]] = defaultdict(list)
        for move in sorted(self.moves, key=lambda move: move.seq):
            found[move.task].append(move)
        return found


def read_events(path: Path) -> Iterator[Event]:
    """Read one file; a last line that a kill has torn is left out."""
    for line in path.read_bytes().splitlines(keepends=True):
        if line.endswith(b"\n"):
            yield json.loads(line)


def read_history(folder: Path) -> History:
    """Read all files of a folder."""
    events = sorted(
        (event for path in folder.glob("*.jsonl") for event in read_events(path)),
        key=lambda event: event["at"],
    )
    return history_of(events)


def history_of(events: Iterable[Event]) -> History:
    """Put events together, given in the order of their time."""
    events = list(events)
    ends = _ends_of_lives(events)
    return History(
        enqueues=tuple(_enqueues(events)),
        cancelled=frozenset(e["task"] for e in events if e["event"] == "cancel.asked"),
        runs=tuple(_runs(events, ends)),
        absences=tuple(_absences(events, ends)),
        rows=tuple(_records(events, "ledger.row", Row)),
        moves=tuple(_records(events, "ledger.move", Move)),
        effects=tuple(_records(events, "ledger.effect", Effect)),
        slots=tuple(_records(events, "ledger.slot", Slot)),
        schedules=tuple(_records(events, "ledger.schedule", Schedule)),
    )


def _records(events: list[Event], name: str, kind: type[Record]) -> Iterator[Record]:
    for event in events:
        if event["event"] == name:
            yield kind(**{k: v for k, v in event.items() if k not in ("at", "event")})


def _enqueues(events: list[Event]) -> Iterator[Enqueue]:
    asked: dict[int, Enqueue] = {}
    for event in events:
        if event["event"] == "enqueue.asked":
            fields = {k: v for k, v in event.items() if k not in ("at", "event")}
            asked[event["n"]] = Enqueue(asked_at=event["at"], **fields)
        elif event["event"] == "enqueue.acknowledged":
            asked[event["n"]] = replace(asked[event["n"]], task=event["task"])
    yield from asked.values()


def _ends_of_lives(events: list[Event]) -> dict[int, float]:
    """Return when each life ended: told by itself, or seen from outside."""
    ends: dict[int, float] = {}
    for event in events:
        if event["event"] in ("node.ended", "node.gone"):
            ends.setdefault(event["life"], event["at"])
    return ends


def _runs(events: list[Event], ends: dict[int, float]) -> Iterator[Run]:
    open_runs: dict[tuple[int, str, int], Run] = {}
    for event in events:
        if event["event"] == "run.started":
            key = (event["life"], event["task"], event["attempt"])
            run = Run(event["task"], event["attempt"], event["owner"], event["life"], event["at"])
            if key in open_runs:  # a run with this token twice at once: both stay in the history
                yield open_runs[key]
            open_runs[key] = run
        elif event["event"] == "run.ended":
            key = (event["life"], event["task"], event["attempt"])
            if key in open_runs:
                yield replace(open_runs.pop(key), ended_at=event["at"], how=event["how"])
    for run in open_runs.values():
        yield replace(run, ended_at=ends.get(run.life, math.inf))


def _absences(events: list[Event], ends: dict[int, float]) -> Iterator[Absence]:
    begun: dict[tuple[str, int | None], float] = {}
    opening = {"node.stopping": "stop", "node.cutting": "cut", "postgres.stopping": "postgres"}
    closing = {"node.continued": "stop", "node.joined": "cut", "postgres.started": "postgres"}
    for event in events:
        name, life = event["event"], event.get("life")
        if name in opening:
            begun.setdefault((opening[name], life), event["at"])
        elif name in closing and (closing[name], life) in begun:
            yield Absence(life, begun.pop((closing[name], life)), event["at"])
        elif name == "node.late":
            yield Absence(life, event["begun_at"], event["at"])
        elif name in ("node.killing", "node.killing_itself"):
            yield Absence(life, event["at"], math.inf)
    for (_, life), at in begun.items():
        yield Absence(life, at, math.inf)
    for life, at in ends.items():
        yield Absence(life, at, math.inf)
