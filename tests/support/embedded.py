"""What the tests of the embedded PostgreSQL share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

WAIT_SECONDS = 30


def ask(conninfo: str, statement: str) -> list[tuple[object, ...]]:
    """Run one statement over a connection of its own and return its rows, if it has any."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def answers(conninfo: str) -> bool:
    """Say whether a server answers there."""
    with suppress(psycopg.OperationalError):
        return ask(conninfo, "select 1") == [(1,)]
    return False


def send(connection: psycopg.Connection, statement: str) -> None:
    """Send a statement without waiting for its result."""
    connection.pgconn.send_query(statement.encode())
    connection.pgconn.flush()


def is_running(pid: int) -> bool:
    """Say whether the process lives; a dead one that nobody has reaped does not count."""
    done = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() != "" and not done.stdout.strip().startswith("Z")


def processes_naming(path: Path) -> list[int]:
    """Return the other processes with this path in their command line."""
    done = subprocess.run(["ps", "-axww", "-o", "pid=,command="], capture_output=True, check=True)
    found = [line.split()[0] for line in done.stdout.splitlines() if os.fsencode(path) in line]
    return [int(pid) for pid in found if int(pid) != os.getpid()]


def forget_cluster(data_dir: Path) -> None:
    """Remove what root's `sercha up` keeps outside of its data folder; the server must have ended."""
    pointer = data_dir / "postgres.path"
    if pointer.exists():
        home = Path(pointer.read_text().removesuffix("\n"))
        assert home.parent.name == "clusters", home
        subprocess.run(["rm", "-rf", home], check=True)


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_SECONDS} s: {what}"
        time.sleep(0.02)


@contextmanager
def running_child(
    data_dir: Path, shelter: Path, **options: object
) -> Iterator[subprocess.Popen[str]]:
    """Run a Sercha with the embedded server in a process of its own; it is killed in the end."""
    python = options.pop("python", sys.executable)
    command = [python, "-m", "tests.support.run_embedded", data_dir, shelter]
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str], key: str) -> dict[str, str]:
    """Return the first line that the child prints with this key in it."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{") and key in (answer := json.loads(line)):
            return answer
    raise AssertionError("the child ended first")
