"""Servers that an earlier Sercha left behind on our cluster, and everybody else's processes.

After a kill -9 of Sercha its PostgreSQL goes on. It is stopped and started anew rather than adopted: the new one
is our child, so its end is noticed at once, and it runs with today's settings. The caller holds the data
folder, hence no living Sercha uses the cluster. A signal goes only to a process that was proved to be
a PostgreSQL that Sercha started on this very folder; a pid that was given to somebody else is left alone.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from enum import Enum, auto
from pathlib import Path

import structlog
import trio

from sercha.adapters.embedded_postgres.cluster import Site
from sercha.adapters.embedded_servers.process import command_line
from sercha.errors import Conflict, Unavailable

MARK = "cluster_name=sercha"
STOP_STEPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
ORPHAN_SECONDS = 5
POLL_SECONDS = 0.05

log = structlog.get_logger()


class Kind(Enum):
    """Whose a process is."""

    OURS = auto()
    FOREIGN = auto()
    BY_HAND = auto()
    """PostgreSQL on our cluster, but not started by Sercha: somebody's maintenance."""


async def end_stale_server(site: Site) -> None:
    """Stop the server that an earlier Sercha left on this cluster, and clear what it left of locks.

    Raises `Conflict` (`data-dir-in-use`) when somebody runs one there by hand, `Unavailable`
    (`postgres-start`) when it does not end. Cancelled between two signals, it leaves the server as it is.
    """
    pid = recorded_pid(site.data)
    if pid is not None:
        kind = identify(abs(pid), site)
        if kind is Kind.BY_HAND or (kind is Kind.OURS and pid < 0):
            raise Conflict(
                f"a PostgreSQL (pid {abs(pid)}) that Sercha did not start runs on {site.data}: "
                "stop it first",
                code="data-dir-in-use",
            )
        if kind is Kind.OURS:
            log.warning("postgres.stale_found", pid=pid)
            await _stop(pid, site)
        # A stranger, or an ended server that its new parent has not reaped yet.
        if recorded_pid(site.data) is not None and is_alive(abs(pid)):
            log.info("postgres.pid_disowned", pid=pid)
            _disown(site)
    await end_orphans(site)
    # The folder is the server's own, so a socket in it is nobody else's.
    for path in site.data.glob(".s.PGSQL.*"):
        path.unlink(missing_ok=True)


def recorded_pid(data: Path) -> int | None:
    """Return the pid in postmaster.pid: negative for a single-user backend, None without any."""
    with suppress(FileNotFoundError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_bytes().splitlines()[0])
        return pid or None
    return None


def is_alive(pid: int) -> bool:
    """Say whether there is a process of this pid, whoever's."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def identify(pid: int, site: Site) -> Kind:
    """Say whose process this is; one that is gone or cannot be looked at counts as foreign."""
    words = command_line(pid, site.account.uid)
    if not words or os.path.basename(words[0].partition(" -D ")[0]) != "postgres":
        return Kind.FOREIGN
    stands_there = _stands_in(pid, site.data)
    names_it = os.fspath(site.data) in words or f" {site.data} " in f"{words[-1]} "
    if not (names_it if stands_there is None else stands_there):
        return Kind.FOREIGN
    return Kind.OURS if any(MARK in word for word in words) else Kind.BY_HAND


def _stands_in(pid: int, data: Path) -> bool | None:
    """Say whether this folder is the process's current one; None when that is hidden from us."""
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/cwd"), os.stat(data))
    except OSError:
        return None


async def _stop(pid: int, site: Site) -> None:
    for step, seconds in STOP_STEPS:
        if identify(pid, site) is not Kind.OURS:
            return
        with suppress(ProcessLookupError):
            os.kill(pid, step)
        with trio.move_on_after(seconds):
            while is_alive(pid) and identify(pid, site) is Kind.OURS:  # noqa: ASYNC110 - no child of ours
                await trio.sleep(POLL_SECONDS)
            return
    raise Unavailable(
        f"the PostgreSQL (pid {pid}) that an earlier Sercha left on {site.data} does not end",
        code="postgres-start",
    )


def _disown(site: Site) -> None:
    """Put our own pid in place of a stranger's in postmaster.pid.

    PostgreSQL will not start while that pid lives, unless it is its parent's. The rest of the file stays,
    because PostgreSQL finds there whether old backends still use the shared memory.
    """
    path = site.data / "postmaster.pid"
    _, newline, rest = path.read_bytes().partition(b"\n")
    draft = path.with_name("postmaster.pid.new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(str(os.getpid()).encode() + newline + rest)
    site.account.give(draft)
    draft.replace(path)


async def end_orphans(site: Site) -> None:
    """Wait for backends whose postmaster was killed; they end by themselves, the slow ones by force.

    Sees them on Linux only; elsewhere PostgreSQL refuses to start until they are gone.
    """
    if recorded_pid(site.data) is None or not _orphans(site):
        return
    with trio.move_on_after(ORPHAN_SECONDS):
        while _orphans(site):  # noqa: ASYNC110 - no children of ours
            await trio.sleep(POLL_SECONDS)
        return
    for pid in _orphans(site):
        log.warning("postgres.orphan_ended", pid=pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _orphans(site: Site) -> list[int]:
    if sys.platform != "linux":
        return []
    return [
        int(name)
        for name in os.listdir("/proc")
        if name.isdecimal()
        and (words := command_line(int(name), site.account.uid))
        and words[0].startswith("postgres: sercha:")
        and _stands_in(int(name), site.data)
    ]
