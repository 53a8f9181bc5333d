"""One process of a cluster, over any number of starts: started, watched, stopped, killed, put on hold."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from sercha.adapters.embedded_servers.account import Account, Identity

READY_TIME = 60.0
"""Seconds that a member may take until it is usable."""
STOP_TIME = 45.0
"""Seconds that a member may take to end when it is asked to."""
TAIL_BYTES = 4_000
POLL = 0.02


class MemberEnded(Exception):
    """A member ended by itself."""


@dataclass(frozen=True, slots=True)
class Host:
    """Where a member runs."""

    name: str
    address: str
    prefix: tuple[str, ...] = ()
    """In front of each command of this host."""


@dataclass
class Member:
    """A process of the cluster; made by `open_cluster`."""

    name: str
    host: Host
    command: Callable[[Host], Sequence[str]]
    """What runs it there; asked at each start."""
    log_file: Path
    environment: Callable[[Host], Mapping[str, str]]
    is_usable: Callable[[Member], Awaitable[bool]]
    """Asked again and again after a start."""
    account: Account | None = None
    """None: ours."""
    stop_signal: signal.Signals = signal.SIGTERM
    on_unasked_end: Callable[[Member, int], None] = lambda _, __: None
    started_count: int = 0
    log_begins: int = 0
    """Where in the log file the last start begins."""
    _process: trio.Process | None = field(default=None, repr=False)
    _ended: trio.Event = field(default_factory=trio.Event, repr=False)
    _is_end_expected: bool = field(default=False, repr=False)
    _nursery: trio.Nursery | None = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return None if self._process is None or self._ended.is_set() else self._process.pid

    @property
    def address(self) -> str:
        """Where it listens, without the port."""
        return self.host.address

    def attach(self, nursery: trio.Nursery) -> None:
        """Say who watches over its processes; once, before the first start."""
        self._nursery = nursery

    async def start(self) -> None:
        """Start it and wait until it is usable; it must not be running.

        Raises:
            MemberEnded: it ended instead.
            trio.TooSlowError: it was not usable in time.
        """
        await self.launch()
        await self.wait_ready()

    async def launch(self) -> None:
        """Start it without waiting for anything."""
        assert self.pid is None, f"{self.name} runs already"
        assert self._nursery is not None
        self._is_end_expected = False
        self._ended = trio.Event()
        identity: Identity = self.account.identity() if self.account is not None else {}
        command = list(self.command(self.host))
        if self.host.prefix and self.account is not None and identity:
            # Entering a host is root's; the account is taken on there.
            command = [*_become(self.account), *command]
            identity = {}
        with self.log_file.open("ab") as log, trio.CancelScope(shield=True):
            # Shielded: no process is ever without an owner.
            self.log_begins = log.tell()
            self._process = await trio.lowlevel.open_process(
                [*self.host.prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=log.fileno(),
                stderr=log.fileno(),
                env=dict(self.environment(self.host)),
                cwd="/",
                start_new_session=True,
                **identity,
            )
            self.started_count += 1
        assert self._process is not None
        self._nursery.start_soon(self._watch, self._process, self._ended)

    async def wait_ready(self) -> None:
        """Wait until it is usable; see `start`."""
        with trio.fail_after(READY_TIME):
            while not await self.is_usable(self):
                if self._ended.is_set():
                    raise MemberEnded(f"{self.name} ended at its start:\n{self.tail()}")
                await trio.sleep(POLL)

    async def stop(self) -> int:
        """Ask it to end, wait for that, and return its exit status; killed when it takes too long."""
        return await self._end(self.stop_signal)

    async def kill(self) -> None:
        """End it by SIGKILL; returns when it is gone."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Stop it, and start it again."""
        await self.stop()
        await self.start()

    def pause(self) -> None:
        """Let it stand still (SIGSTOP) until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    async def wait_end(self) -> int:
        """Wait until the process has ended; return its exit status."""
        assert self._process is not None
        await self._ended.wait()
        status = self._process.returncode
        assert status is not None
        return status

    def expect_end(self) -> None:
        """Say that it may end by itself from now on."""
        self._is_end_expected = True

    def log(self) -> str:
        """Return what it has said since its last start."""
        with self.log_file.open("rb") as file:
            file.seek(self.log_begins)
            return file.read().decode(errors="replace")

    def has_said(self, pattern: str) -> bool:
        """Whether a line since its last start matches."""
        return self.log_file.exists() and bool(re.search(pattern, self.log(), re.MULTILINE))

    def tail(self) -> str:
        """Return the end of all that it has said."""
        if not self.log_file.exists():
            return ""
        return self.log_file.read_bytes()[-TAIL_BYTES:].decode(errors="replace")

    async def _watch(self, process: trio.Process, ended: trio.Event) -> None:
        try:
            status = await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                    await process.wait()
            ended.set()
        if not self._is_end_expected:
            self.on_unasked_end(self, status)

    async def _end(self, number: signal.Signals) -> int:
        assert self.pid is not None, f"{self.name} does not run"
        self._is_end_expected = True
        self._signal(number)
        self._signal(signal.SIGCONT)
        with trio.move_on_after(STOP_TIME):
            return await self.wait_end()
        self._signal(signal.SIGKILL)
        await self.wait_end()
        raise trio.TooSlowError(f"{self.name} did not end within {STOP_TIME} s:\n{self.tail()}")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)


def _become(account: Account) -> list[str]:
    return ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups"]
