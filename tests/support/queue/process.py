"""Workers' processes as a test sees them: by what they note, by their logs, by their ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.support.docs import ROOT
from tests.support.queue.history import Event

LOOK_SECONDS = 0.02


class Child:
    """A process that the hatchery has made."""

    def __init__(self) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self.born = trio.Event()
        self._ended = trio.Event()

    def end(self, status: int) -> None:
        """Note the end."""
        self.returncode = status
        self._ended.set()

    async def wait(self) -> int:
        """Return the exit status, that of the signal with a minus, when it has ended."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended: of that the hatchery, its parent, may know earlier than we."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


class Hatchery:
    """Makes children; see `tests.support.queue.hatchery`."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._children: dict[int, Child] = {}
        self._ordering = trio.Lock()

    async def make(
        self, life: int, arguments: list[str], environment: Mapping[str, str], log: Path
    ) -> Child:
        """Return a new process once it has its number."""
        child = self._children[life] = Child()
        order = {"life": life, "arguments": arguments, "environment": environment, "log": str(log)}
        assert self._process.stdin is not None
        async with self._ordering:
            await self._process.stdin.send_all(json.dumps(order).encode() + b"\n")
        await child.born.wait()
        return child

    async def listen(self) -> None:
        """Take in births and deaths."""
        assert self._process.stdout is not None
        rest = b""
        async for chunk in self._process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                told = json.loads(line)
                child = self._children[told["life"]]
                if "pid" in told:
                    child.pid = told["pid"]
                    child.born.set()
                else:
                    child.end(told["status"])


@asynccontextmanager
async def open_hatchery(environment: Mapping[str, str]) -> AsyncGenerator[Hatchery]:
    """Run a hatchery for the block; what is left of its children is killed at the end."""
    command = [sys.executable, "-m", "tests.support.queue.hatchery"]
    async with trio.open_nursery() as nursery:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment
        )
        try:
            hatchery = Hatchery(process)
            nursery.start_soon(hatchery.listen)
            yield hatchery
        finally:
            assert process.stdin is not None
            with trio.CancelScope(shield=True):
                await process.stdin.aclose()
                with trio.move_on_after(10):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        nursery.cancel_scope.cancel()


@dataclass(eq=False)
class Node:
    """One life of one worker, seen from outside."""

    life: int
    process: Child
    folder: Path
    options: tuple[str, ...]
    variables: Mapping[str, str]
    is_stopped: bool = False
    is_asked_to_end: bool = False
    events: list[Event] = field(default_factory=list[Event])
    _read: int = 0

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    @property
    def has_started(self) -> bool:
        """Whether it has begun to claim tasks."""
        return any(event["event"] == "node.started" for event in self.look()[:9])

    @property
    def log(self) -> str:
        return (self.folder / f"node-{self.life}.log").read_text(errors="replace")

    def look(self) -> list[Event]:
        """Read what the node has noted, and return all of it."""
        file = self.folder / f"node-{self.life}.jsonl"
        if file.exists():
            with file.open("rb") as content:
                content.seek(self._read)
                lines = content.read()
            whole = lines[: lines.rfind(b"\n") + 1]
            self._read += len(whole)
            self.events += [json.loads(line) for line in whole.splitlines()]
        return self.events

    async def wait_for(self, event: str, seconds: float = 30, **details: object) -> Event:
        """Return the first event of that name with those details; raises `trio.TooSlowError`."""
        with trio.fail_after(seconds):
            while True:
                for found in self.look():
                    if found["event"] == event and details.items() <= found.items():
                        return found
                assert self.is_alive or event == "node.ended", self.log[-3000:]
                await trio.sleep(LOOK_SECONDS)
