"""`sercha sync --wait`: followed to its end, and until searches find what it brought."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from sercha.cli.api import Access, open_api
from sercha.cli.follow import INDEX_PATIENCE, POLL_INTERVAL, Followed, SyncEnd, follow_syncs
from tests.support.peer import Answer, Peer, running_peer
from tests.unit.test_cli_exits import Cli, assert_refused

COMPLETED = {"state": "completed", "attempt": 1}
CLOCK_RATE = 30.0


@pytest.fixture
def peer() -> Iterator[Peer]:
    with running_peer() as peer:
        yield peer


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def index_state(applied: int, pending: int, lag: float, **changes: object) -> dict[str, object]:
    state = {"is_caught_up": True, "is_rebuilding": False, "applied": applied}
    return {**state, "pending": pending, "lag": lag, **changes}


def source_on(peer: Peer, *tasks: dict[str, object]) -> None:
    """Make the peer have a source whose task goes through these states."""
    left = list(tasks)
    source = {"source": {"id": "s1", "name": "docs", "enabled": True}, "document_count": 1}
    state = {"items_done": 3, "items_expected": 9, "stats": {"documents_added": 9}}
    peer.on |= {
        "GET /sources": lambda *_: (200, [source]),
        "POST /sources/s1/sync": lambda *_: (202, {"task_id": "t1"}),
        "GET /sources/s1/sync": lambda *_: (200, state),
        "GET /index": lambda *_: (200, index_state(0, 0, 0.0)),
        "GET /tasks/t1": lambda *_: (200, left.pop(0) if len(left) > 1 else left[0]),
    }


def test_a_short_sync_says_only_how_it_ended(cli: Cli, peer: Peer):
    running = {"state": "running", "attempt": 1}
    source_on(
        peer, {"state": "queued", "attempt": 0}, running, {"state": "completed", "attempt": 1}
    )
    done = cli("sync", "docs", "--wait", SERCHA_URL=peer.url, SERCHA_TOKEN="t")

    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "docs: 9 added, 0 updated, 0 deleted",
    ]


@pytest.mark.parametrize("state", ["dead", "cancelled", "queued"])
def test_sync_that_fails_is_status_1_with_its_reason(cli: Cli, peer: Peer, state: str):
    source_on(peer, {"state": state, "attempt": 1, "last_error": "the folder is away"})
    done = cli("sync", "docs", "--wait", "--json", SERCHA_URL=peer.url, SERCHA_TOKEN="t")

    assert done.returncode == 1
    assert "the folder is away" in done.stderr
    assert json.loads(done.stdout)[0]["completed"] is False


def test_unknown_source_lists_those_there_are(cli: Cli, peer: Peer):
    source_on(peer, {})

    assert_refused(cli("sync", "dox", SERCHA_URL=peer.url, SERCHA_TOKEN="t"), 1, "known: docs")


def index_on(peer: Peer, *answers: Answer) -> None:
    """Make the peer show these states of its index one after the other."""
    left = list(answers)

    def index(*_: object) -> Answer:
        return left.pop(0) if len(left) > 1 else left[0]

    peer.on["GET /index"] = index


def follow(peer: Peer) -> tuple[SyncEnd, float]:
    """Follow the peer's sync with a clock that runs faster; return its end and the seconds it took."""

    async def main() -> tuple[SyncEnd, float]:
        async with open_api(Access(peer.url, "t")) as api:
            (end,) = await follow_syncs(api, [Followed("s1", "docs", "t1")])
        return end, trio.current_time()

    return trio.run(main, clock=MockClock(rate=CLOCK_RATE))


def test_a_sync_ends_when_the_index_has_what_it_brought(cli: Cli, peer: Peer):
    source_on(peer, COMPLETED)
    states = [index_state(200, 700, 9.0), index_state(900, 0, 9.0), index_state(900, 0, 0.0)]
    index_on(peer, *((200, state) for state in states))

    done = cli("sync", "docs", "--wait", "--json", SERCHA_URL=peer.url, SERCHA_TOKEN="t")

    assert done.returncode == 0, done.stderr
    (summary,) = json.loads(done.stdout)
    assert (summary["completed"], summary["searchable"]) == (True, True)
    assert done.stderr.splitlines() == ["docs: 9 added, 0 updated, 0 deleted"]
    assert [name for name, _ in peer.seen].count("GET /index") == len(states)


def test_a_large_index_is_waited_for_while_it_makes_progress(
    peer: Peer, capsys: pytest.CaptureFixture[str]
):
    source_on(peer, COMPLETED)
    steps = int(1.5 * INDEX_PATIENCE / POLL_INTERVAL)
    index_on(
        peer,
        *((200, index_state(200 + done, steps - done, 1e6)) for done in range(steps)),
        (200, index_state(200 + steps, 0, 0.0)),
    )

    end, _ = follow(peer)

    lines = capsys.readouterr().err.splitlines()
    assert (end.is_done, end.is_searchable) == (True, True)
    assert lines[-1] == "docs: 9 added, 0 updated, 0 deleted"
    assert len(lines) > 2
    assert all(f" of {steps} made searchable, about " in line for line in lines[:-1])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((200, index_state(200, 700, 1e6)), "the index makes no progress"),
        ((200, index_state(200, 700, 1e6, error="the disk is full")), "the disk is full"),
        ((200, index_state(0, 0, 0.0, is_caught_up=False)), "the index makes no progress"),
        ((503, {"error": "away", "code": "unavailable"}), "away"),
    ],
)
def test_an_index_that_stands_still_is_given_up_and_not_called_searchable(
    peer: Peer, answer: Answer, reason: str
):
    source_on(peer, COMPLETED)
    index_on(peer, answer)

    end, seconds = follow(peer)

    assert (end.is_done, end.is_searchable) == (True, False)
    assert end.message.endswith(f"; not searchable yet: {reason}")
    assert seconds < 2 * INDEX_PATIENCE


def test_others_that_write_on_and_on_do_not_keep_a_sync_waiting(peer: Peer):
    """The index never has everything, but what it lacks is younger than the sync's end."""
    source_on(peer, COMPLETED)
    index_on(peer, *((200, index_state(200 + n, 100, 5.0)) for n in range(1_000)))

    end, seconds = follow(peer)

    assert end.is_searchable
    assert seconds < INDEX_PATIENCE


def test_a_sync_that_is_not_searchable_is_status_1(cli: Cli, peer: Peer):
    source_on(peer, {"state": "dead", "attempt": 1, "last_error": "gone"})
    done = cli("sync", "docs", "--wait", "--json", SERCHA_URL=peer.url, SERCHA_TOKEN="t")

    assert done.returncode == 1
    assert json.loads(done.stdout)[0]["searchable"] is False
