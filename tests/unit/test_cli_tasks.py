"""`sercha tasks` and what `sercha status` says of processes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.peer import Answer, Peer, running_peer
from tests.unit.test_cli_exits import Cli, assert_refused

TASK_ID = "0198a000-0000-7000-8000-00000000000a"
HEIR = "0198a000-0000-7000-8000-00000000000b"


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_peer() as peer:
        yield peer


@pytest.fixture
def cli(tmp_path: Path, peer: Peer):
    home = Cli(tmp_path)
    return lambda *arguments: home(*arguments, SERCHA_URL=peer.url, SERCHA_TOKEN="t")


def accepting(task_id: str) -> Answer:
    return 202, {"status": "accepted", "task_id": task_id}


def test_a_task_is_asked_for_by_its_kind(cli: Any, peer: Peer):
    bodies: list[object] = []

    def add(_: str, body: object) -> Answer:
        bodies.append(body)
        return accepting(TASK_ID)

    peer.on["POST /tasks"] = add

    assert cli("tasks", "add", "reindex").stdout == f"reindex: asked for (task {TASK_ID})\n"
    assert json.loads(cli("tasks", "add", "prune", "--json").stdout)["task_id"] == TASK_ID
    assert bodies == [{"kind": "reindex"}, {"kind": "prune"}]
    assert cli("tasks", "add", "sync_source").returncode == 2


def test_retry_says_which_task_waits(cli: Any, peer: Peer):
    heirs = [TASK_ID, HEIR]
    peer.on[f"POST /tasks/{TASK_ID}/retry"] = lambda *_: accepting(heirs.pop(0))

    assert cli("tasks", "retry", TASK_ID).stdout == f"{TASK_ID}: queued\n"
    assert cli("tasks", "retry", TASK_ID).stdout == f"{TASK_ID}: task {HEIR} waits in its place\n"


def test_cancel_says_so_or_why_not(cli: Any, peer: Peer):
    answers: list[Answer] = [
        (200, {"status": "ok"}),
        (409, {"error": "it is completed", "code": "task-state"}),
    ]
    peer.on[f"POST /tasks/{TASK_ID}/cancel"] = lambda *_: answers.pop(0)

    assert cli("tasks", "cancel", TASK_ID).stdout == f"{TASK_ID}: cancelled\n"
    assert_refused(cli("tasks", "cancel", TASK_ID), 1, "it is completed")


def test_status_says_who_lives_and_what_each_does(cli: Any, peer: Peer):
    node = {"id": "n", "host": "h\x1b[1m", "version": "1", "seen_at": "then"}
    sync = {"task_id": TASK_ID, "kind": "sync_source", "attempt": 1, "claimed_at": "now"}
    progress = {"source_name": "my notes", "items_done": 3, "items_expected": 9}
    prune = {"task_id": HEIR, "kind": "prune", "attempt": 1, "claimed_at": "now"}
    nodes = [
        {**node, "role": "worker", "pid": 7, "is_alive": True, "running": [sync | progress, prune]},
        {**node, "role": "api", "pid": 8, "is_alive": False, "running": []},
    ]
    peer.on["GET /health"] = lambda *_: (200, {"status": "healthy", "components": {}})
    peer.on["GET /ready"] = lambda *_: (200, {"status": "ready"})
    peer.on["GET /version"] = lambda *_: (200, {"version": "1"})
    peer.on["GET /nodes"] = lambda *_: (200, {"nodes": nodes})
    for path in ("/admin/stats", "/tasks", "/sources"):
        peer.on[f"GET {path}"] = lambda *_: (403, {"error": "no", "code": "forbidden"})

    done = cli("status")

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1:5] == [
        "  worker on h\ufffd[1m, pid 7, version 1, alive, seen then",
        f"    sync_source of my notes, since now, 3 of 9 items (task {TASK_ID})",
        f"    prune, since now (task {HEIR})",
        "  api on h\ufffd[1m, pid 8, version 1, dead, seen then",
    ]


def test_a_sync_that_was_merged_is_followed_in_its_heir(cli: Any, peer: Peer):
    source = {"source": {"id": "s1", "name": "docs", "enabled": True}, "document_count": 1}
    index = {"is_caught_up": True, "is_rebuilding": False, "applied": 0, "pending": 0, "lag": 0.0}
    merged = {"state": "cancelled", "attempt": 1, "last_error": f"merged into task {HEIR}"}
    peer.on |= {
        "GET /sources": lambda *_: (200, [source]),
        "POST /sources/s1/sync": lambda *_: (202, {"task_id": TASK_ID}),
        "GET /sources/s1/sync": lambda *_: (200, {"stats": {"documents_added": 9}}),
        "GET /index": lambda *_: (200, index),
        f"GET /tasks/{TASK_ID}": lambda *_: (200, merged),
        f"GET /tasks/{HEIR}": lambda *_: (200, {"state": "completed", "attempt": 1}),
    }

    done = cli("sync", "docs", "--wait")

    assert (done.returncode, done.stderr) == (0, "docs: 9 added, 0 updated, 0 deleted\n")
