"""The server that an earlier Sercha left behind: after a kill -9 of Sercha its Valkey goes on.

It is ended, and a new one started: with our password, and as our child. The caller holds the data folder, so no living
Sercha uses it. A signal goes only to a process of the server's account whose command line has our mark.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress

import structlog
import trio

from sercha.adapters.embedded_redis.place import Place
from sercha.adapters.embedded_servers.folder import read_small
from sercha.adapters.embedded_servers.process import command_line
from sercha.errors import Unavailable

STOP_STEPS = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
POLL_SECONDS = 0.05

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
    line = " ".join(command_line(pid, place.account.uid))
    return "valkey-server" in line and place.mark in line.split()
