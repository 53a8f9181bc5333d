"""A server as our child, and how to recognise the server that an earlier Sercha left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog
import trio

from sercha.adapters.embedded_servers.account import ENVIRONMENT, Account
from sercha.adapters.embedded_servers.serverlog import open_log, read_log

PS_SECONDS = 10

log = structlog.get_logger()


class ServerChild:
    """One server, over any number of starts.

    It runs in a session of its own: the Ctrl-C that begins our drain does not reach it before the drain is over.
    """

    def __init__(
        self,
        name: str,
        log_file: Path,
        account: Account,
        stop_steps: Sequence[tuple[signal.Signals, float]],
    ) -> None:
        """*name* is its word in our log; *stop_steps* are signals, each with the seconds that it is given."""
        self._name = name
        self._log_file = log_file
        self._account = account
        self._stop_steps = stop_steps
        self._process: trio.Process | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The server's pid, None while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def was_started(self) -> bool:
        """Whether there was a server at some time."""
        return self._process is not None

    def last_words(self) -> str:
        """Return the end of what the server has logged since its last start."""
        return read_log(self._log_file, self._log_start)

    async def wait_end(self) -> int:
        """Wait until the server has ended; return its exit status."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> None:
        """Stop the server and wait until it is gone: politely, then less so, for as long as its steps take.

        Does nothing without a server. Cancellation does not shorten it.
        """
        process = self._process
        if process is None:
            return
        with trio.CancelScope(shield=True):
            for step, seconds in self._stop_steps:
                process.send_signal(step)
                with trio.move_on_after(seconds) as scope:
                    await process.wait()
                if not scope.cancelled_caught:
                    return
                log.warning(
                    "server.stop_delayed", server=self._name, pid=process.pid, signal=step.name
                )

    async def spawn(
        self, command: Sequence[str], *, cwd: Path, told: bytes | None = None
    ) -> trio.Process:
        """Start *command*, shielded; *told* goes through its standard input, whether it reads it or not."""
        file, self._log_start = open_log(self._log_file)
        with file, trio.CancelScope(shield=True):  # no process is ever without an owner
            self._process = process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.DEVNULL if told is None else subprocess.PIPE,
                stdout=file.fileno(),
                stderr=file.fileno(),
                cwd=cwd,
                env=ENVIRONMENT,
                umask=0o077,
                start_new_session=True,
                **self._account.identity(),
            )
            if process.stdin is not None and told is not None:
                with suppress(trio.BrokenResourceError):
                    async with process.stdin as stream:
                        await stream.send_all(told)
        assert self._process is not None
        return self._process


def command_line(pid: int, uid: int) -> list[str]:
    """Return the words of a process of this user, none when there is no such process.

    Without /proc they cannot be told apart: then all of them are one.
    """
    try:
        if sys.platform == "linux":
            if os.stat(f"/proc/{pid}").st_uid != uid:
                return []
            return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
        done = subprocess.run(  # noqa: S603
            ["/bin/ps", "-ww", "-o", "uid=,command=", "-p", str(pid)],
            env=ENVIRONMENT,
            capture_output=True,
            timeout=PS_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    owner, _, line = os.fsdecode(done.stdout).strip().partition(" ")
    return [line.strip()] if owner == str(uid) else []
