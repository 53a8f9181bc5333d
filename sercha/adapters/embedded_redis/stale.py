"""The server that an earlier Sercha left behind: after a kill -9 of Sercha its Valkey goes on.

It is ended, and a new one started: with our password, and as our child. The caller holds the data folder, so no living
Sercha uses it. A signal goes only to a process of the server's account whose command line has our mark.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import structlog
import trio

from sercha.adapters.embedded_postgres.account import ENVIRONMENT
from sercha.adapters.embedded_postgres.folder import read_small
from sercha.adapters.embedded_redis.place import Place
from sercha.errors import Unavailable

STOP_STEPS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
POLL_SECONDS = 0.05
PS_SECONDS = 10

log = structlog.get_logger()


async def end_stale_server(place: Place) -> None:
    """Stop the server that an earlier Sercha left here.

    Raises `Unavailable` (`redis-start`) when it does not end within 15 s. Cancelled, it leaves it as it is.
    """
    pid = recorded_pid(place)
    if pid is None or not is_ours(pid, place):
        return
    log.warning("redis.stale_found", pid=pid)
    for step, seconds in STOP_STEPS:
        with suppress(ProcessLookupError):
            os.kill(pid, step)
        with trio.move_on_after(seconds):
            while is_ours(pid, place):  # noqa: ASYNC110 - no child of ours
                await trio.sleep(POLL_SECONDS)
            return
    raise Unavailable(
        f"the Valkey (pid {pid}) that an earlier Sercha left does not end", code="redis-start"
    )


def recorded_pid(place: Place) -> int | None:
    """Return the pid that the server wrote, None without one."""
    with suppress(ValueError, OSError):
        pid = int(read_small(place.pid_file))
        return pid if pid > 1 else None
    return None


def is_ours(pid: int, place: Place) -> bool:
    """Say whether this process is a server that Sercha started on this folder."""
    try:
        if sys.platform == "linux":
            if os.stat(f"/proc/{pid}").st_uid != place.account.uid:
                return False
            line = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).replace("\0", " ")
        else:
            line = _ask_ps(pid, place)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return "valkey-server" in line and place.mark in line.split()


def _ask_ps(pid: int, place: Place) -> str:
    done = subprocess.run(  # noqa: S603
        ["/bin/ps", "-ww", "-o", "uid=,command=", "-p", str(pid)],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=PS_SECONDS,
        check=False,
    )
    owner, _, line = os.fsdecode(done.stdout).strip().partition(" ")
    return line if owner == str(place.account.uid) else ""
