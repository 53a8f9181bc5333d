"""The command ``lockd``, as a person or a cron job uses it, on real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.docs import ROOT

LOCKD = [sys.executable, "-m", "lockd.cli"]
STUBBORN = "trap '' TERM; echo started > started; while :; do sleep 0.05; date > alive; done"

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(params=["postgres", "redis"])
def url(request: pytest.FixtureRequest) -> str:
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def start(place: Path) -> Iterator[Start]:
    """Give a starter of ``lockd`` with its working folder in *place*; what still runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*LOCKD, *arguments],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        with suppress(ProcessLookupError):
            process.kill()
        process.communicate()


@pytest.fixture
def lockd(start: Start) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        process = start(*arguments)
        out, err = process.communicate(timeout=40)
        assert "Traceback" not in err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    return run


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_connected(pid: int, url: str) -> bool:
    """Whether a process has more sockets than its event loops have for themselves."""
    own = 6 if url.startswith("redis") else 4
    fds = Path(f"/proc/{pid}/fd").iterdir()
    with suppress(FileNotFoundError):
        return sum("socket:" in os.readlink(fd) for fd in fds) > own
    return False


def inspect(lockd: Callable[..., subprocess.CompletedProcess[str]], url: str) -> dict[str, object]:
    found = lockd("inspect", "job", "--store", url, "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("exit 75", 75)]
)
def test_the_commands_own_status_is_passed_on(lockd, url: str, script: str, status: int) -> None:
    ended = lockd("run", "job", "--store", url, "--ttl", "5", "--", "sh", "-c", script)

    assert ended.returncode == status, ended.stderr
    assert inspect(lockd, url)["holder"] is None


def test_the_command_knows_its_lease(lockd, url: str) -> None:
    script = 'echo "$LOCKD_NAME $LOCKD_TOKEN $LOCKD_HOLDER"'
    first, second = (
        lockd("run", "job", "--store", url, "--", "sh", "-c", script).stdout.split()
        for _ in range(2)
    )

    assert first[0] == second[0] == "job"
    assert int(first[1]) < int(second[1]) == inspect(lockd, url)["token"]
    assert first[2] != second[2]


def test_commands_under_one_lease_never_overlap(start: Start, place: Path, url: str) -> None:
    script = "echo begin >> log; sleep 0.1; echo end >> log"
    command = ("run", "job", "--store", url, "--ttl", "5", "--", "sh", "-c", script)
    processes = [start(*command) for _ in range(4)]

    for process in processes:
        assert process.wait(60) == 0
    assert (place / "log").read_text().split() == ["begin", "end"] * 4


def test_a_lost_lease_ends_the_command_also_one_that_ignores_sigterm(
    start: Start, lockd, place: Path, url: str
) -> None:
    process = start("run", "job", "--store", url, "--ttl", "1", "--", "sh", "-c", STUBBORN)
    wait_for((place / "started").exists)

    taken = lockd("release", "job", "--store", url, "--force")

    assert (taken.returncode, taken.stdout) == (0, "job: taken from its holder\n")
    assert process.wait(20) == 75
    (place / "alive").unlink(missing_ok=True)
    time.sleep(0.3)
    assert not (place / "alive").exists()


def test_told_to_stop_it_stops_the_command_and_frees_the_lease_at_once(
    start: Start, lockd, place: Path, url: str
) -> None:
    script = "trap 'exit 9' TERM; echo > started; while :; do sleep 0.05; done"
    process = start("run", "job", "--store", url, "--ttl", "60", "--", "sh", "-c", script)
    wait_for((place / "started").exists)

    process.terminate()

    assert process.wait(20) == 9
    assert inspect(lockd, url)["holder"] is None


def test_a_second_signal_kills_a_command_that_does_not_want_to_stop(
    start: Start, lockd, place: Path, url: str
) -> None:
    process = start("run", "job", "--store", url, "--ttl", "60", "--", "sh", "-c", STUBBORN)
    wait_for((place / "started").exists)

    process.terminate()
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()

    assert process.wait(20) == 137
    assert inspect(lockd, url)["holder"] is None


@pytest.mark.skipif(sys.platform != "linux", reason="sees in /proc that it waits")
def test_stopped_while_it_waits_it_runs_nothing(start: Start, lockd, place: Path, url: str) -> None:
    start("run", "job", "--store", url, "--", "sh", "-c", "echo > started; sleep 60")
    wait_for((place / "started").exists)
    waiting = start("run", "job", "--store", url, "--", "touch", "ran")
    wait_for(lambda: has_connected(waiting.pid, url))  # by then it takes signals itself

    waiting.send_signal(signal.SIGINT)

    assert waiting.wait(20) == 130
    assert not (place / "ran").exists()
    refused = lockd("run", "job", "--store", url, "--no-wait", "--", "touch", "ran")
    assert (refused.returncode, (place / "ran").exists()) == (75, False)
    assert "is held by" in refused.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_killed_it_takes_the_command_with_it(start: Start, place: Path, url: str) -> None:
    script = "(echo > child; exec sleep 300) & echo $$ $! > pids; while :; do date > alive; sleep 0.05; done"
    process = start("run", "job", "--store", url, "--", "sh", "-c", script)
    wait_for(lambda: (place / "alive").exists() and (place / "child").exists())

    process.kill()
    process.wait()

    for pid in (place / "pids").read_text().split():
        wait_for(lambda pid=pid: not Path(f"/proc/{pid}/exe").exists(), 5)


def test_what_the_command_leaves_behind_is_ended_before_the_release(
    lockd, place: Path, url: str
) -> None:
    script = "(while :; do date > alive; sleep 0.05; done) & sleep 0.3"
    ended = lockd("run", "job", "--store", url, "--", "sh", "-c", script)

    assert ended.returncode == 0
    (place / "alive").unlink()
    time.sleep(0.3)
    assert not (place / "alive").exists()


def test_inspect_tells_the_holder_in_words(start: Start, lockd, place: Path, url: str) -> None:
    assert lockd("inspect", "job", "--store", url).stdout.startswith("job: free")
    start("run", "job", "--store", url, "--ttl", "30", "--", "sh", "-c", "echo > started; sleep 60")
    wait_for((place / "started").exists)

    said = lockd("inspect", "job", "--store", url).stdout

    found = inspect(lockd, url)
    assert f"held by {found['holder']}, token {found['token']}, " in said
    remaining = found["remaining"]
    assert isinstance(remaining, float)
    assert 15 < remaining <= 30


def test_commands_that_do_not_exist_or_cannot_be_run(lockd, place: Path, url: str) -> None:
    (place / "text").write_text("no program")
    statuses = [
        lockd("run", "job", "--store", url, "--", command).returncode
        for command in ("./nowhere", "./text")
    ]

    assert statuses == [127, 126]
    assert inspect(lockd, url)["holder"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "job", "--store", "redis://x", "--ttl", "0.5", "--", "true"], "--ttl"),
        (["run", "job", "--store", "redis://x", "--ttl", "soon", "--", "true"], "--ttl"),
        (["run", "job", "--store", "redis://x"], "COMMAND"),
        (["run", "job", "--store", "mysql://x", "--", "true"], "--store"),
        (["run", "job", "--", "true"], "--store"),
        (["release", "job", "--store", "redis://x"], "--force"),
        (["steal", "job"], "steal"),
    ],
)
def test_wrong_use_is_said_with_its_name(lockd, arguments: list[str], said: str) -> None:
    ended = lockd(*arguments)

    assert ended.returncode == 2
    assert said in ended.stderr


@pytest.mark.parametrize("scheme", ["redis", "postgresql"])
def test_a_store_that_is_away_is_said_without_its_password(lockd, scheme: str) -> None:
    address = f"{scheme}://someone:secret@127.0.0.1:1"

    run = lockd("run", "job", "--store", address, "--ttl", "1", "--", "true")
    inspected = lockd("inspect", "job", "--store", address)

    assert (run.returncode, inspected.returncode) == (69, 1)
    for ended in (run, inspected):
        assert "did not answer" in ended.stderr
        assert "secret" not in ended.stderr
