"""Reading queue histories: files of processes that may have been killed in the middle of a line."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.docs import ROOT
from tests.support.queue.history import (
    Absence,
    Effect,
    Enqueue,
    Journal,
    Row,
    Run,
    history_of,
    read_events,
    read_history,
)

A = "task-a"


def test_events_become_a_history() -> None:
    events = [
        {"at": 1.0, "event": "enqueue.asked", "n": 1, "kind": "short", "tries_max": 3},
        {"at": 1.1, "event": "enqueue.acknowledged", "n": 1, "task": A},
        {"at": 1.2, "event": "enqueue.asked", "n": 2},
        {"at": 1.3, "event": "enqueue.unknown", "n": 2, "error": "away"},
        {"at": 2.0, "event": "run.started", "life": 1, "task": A, "attempt": 1, "owner": "w"},
        {"at": 2.1, "event": "node.stopping", "life": 1},
        {"at": 3.0, "event": "node.continued", "life": 1},
        {"at": 3.5, "event": "node.late", "life": 1, "begun_at": 3.2},
        {"at": 4.0, "event": "node.killing", "life": 1},
        {"at": 4.1, "event": "node.gone", "life": 1},
        {"at": 5.0, "event": "run.started", "life": 2, "task": A, "attempt": 2, "owner": "x"},
        {
            "at": 5.2,
            "event": "run.ended",
            "life": 2,
            "task": A,
            "attempt": 2,
            "how": "returned",
        },
        {"at": 5.3, "event": "cancel.asked", "task": A},
        {"at": 5.4, "event": "node.cutting", "life": 2},
        {"at": 6.0, "event": "ledger.row", "task": A, "n": 1, "state": "completed"},
        {"at": 6.0, "event": "ledger.effect", "seq": 1, "task": A, "attempt": 2, "owner": "x"},
    ]

    history = history_of(events)

    assert history.enqueues == (Enqueue(1, 1.0, "short", 3, task=A), Enqueue(2, 1.2))
    assert history.cancelled == {A}
    assert set(history.runs) == {
        Run(A, 1, "w", 1, 2.0, 4.1, "unknown"),
        Run(A, 2, "x", 2, 5.0, 5.2, "returned"),
    }
    assert set(history.absences) == {
        Absence(1, 2.1, 3.0),
        Absence(1, 3.2, 3.5),
        Absence(1, 4.0, math.inf),
        Absence(1, 4.1, math.inf),
        Absence(2, 5.4, math.inf),
    }
    assert history.rows == (Row(A, 1, "completed"),)
    assert history.effects == (Effect(1, A, 2, "x"),)


def test_a_run_that_starts_twice_with_one_token_is_kept_twice() -> None:
    started = {"at": 1.0, "event": "run.started", "task": A, "attempt": 1, "owner": "w", "life": 1}

    assert len(history_of([started, {**started, "at": 2.0}]).runs) == 2


WRITER = """
import sys
from pathlib import Path
from tests.support.queue.history import Journal
journal = Journal(Path(sys.argv[1]), "writer")
n = 0
while True:
    n += 1
    journal.note("run.started", life=1, task=str(n), attempt=1, owner="w" * 50)
"""


def test_a_killed_writer_leaves_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "writer.jsonl"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT)
    try:
        while not (file.exists() and file.stat().st_size > 100_000):
            assert writer.poll() is None
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()

    tasks = [int(event["task"]) for event in read_events(file)]

    assert tasks == list(range(1, len(tasks) + 1))
    assert len(read_history(tmp_path).runs) == len(tasks)


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "writer")
    journal.note("cancel.asked", task=A)
    journal.close()
    with (tmp_path / "writer.jsonl").open("ab") as file:
        file.write(b'{"at": 1.0, "event": "cancel')

    assert read_history(tmp_path).cancelled == {A}
