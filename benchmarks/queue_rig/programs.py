"""The processes of `benchmarks.peers`: started, told to begin, listened to, and ended."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import trio

from benchmarks.peers.queue_desk import (
    BOARD,
    BOARD_VARIABLE,
    POSTGRES_VARIABLE,
    REDIS_VARIABLE,
)
from benchmarks.queue_rig.contenders import Contender
from benchmarks.queue_rig.servers import ROOT, Lab
from benchmarks.shared_rig.memory import family, pss_bytes

START_SECONDS = 60
END_SECONDS = 20


_numbers = count(1)


class ProgramFailed(Exception):
    """A program did not do what it should in time, or ended by itself."""


class Program:
    """One process."""

    def __init__(self, process: trio.Process, log: Path) -> None:
        self.process = process
        self._log = log
        self._rest = b""

    async def ready(self) -> None:
        """Wait until it is connected."""
        await self._hear("ready", START_SECONDS)

    async def go(self) -> None:
        """Tell it to begin, or a worker that works: to stop."""
        assert self.process.stdin is not None
        try:
            await self.process.stdin.send_all(b"go\n")
        except trio.BrokenResourceError:
            raise ProgramFailed(f"has ended: {self.last_words()}") from None

    async def ended(self, seconds: float = END_SECONDS) -> dict[str, Any]:
        """Wait until it has done its work; return what it told."""
        return await self._hear("ended", seconds)

    async def kill(self) -> None:
        """See that it has ended."""
        with trio.CancelScope(shield=True):
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()
            for stream in (self.process.stdin, self.process.stdout):
                if stream is not None:
                    await stream.aclose()

    def see_alive(self) -> None:
        """Raise `ProgramFailed` if it has ended."""
        if self.process.poll() is not None:
            raise ProgramFailed(f"ended by itself: {self.last_words()}")

    def pss_bytes(self) -> int:
        """Return the proportional set size of it and its children."""
        return sum(pss_bytes(pid) for pid in family(self.process.pid))

    def last_words(self) -> str:
        """Return the end of what was written to standard error."""
        return self._log.read_text(errors="replace")[-1_500:] if self._log.exists() else ""

    async def _hear(self, event: str, seconds: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        with trio.move_on_after(seconds):
            while True:
                line, found, rest = self._rest.partition(b"\n")
                if found:
                    self._rest = rest
                    told = json.loads(line)
                    if told["event"] != event:
                        raise ProgramFailed(f"told {told['event']}, expected {event}")
                    return told
                chunk = await self.process.stdout.receive_some()
                if not chunk:
                    raise ProgramFailed(f"ended before {event}: {self.last_words()}")
                self._rest += chunk
        raise ProgramFailed(f"no {event} within {seconds:.0f} s: {self.last_words()}")


class Boards:
    """The counts of all workers of one measure."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> list[tuple[int, float, float]]:
        """Return (runs, first, marked) of each process that has a board."""
        values: list[tuple[int, float, float]] = []
        for path in self.folder.iterdir():
            content = path.read_bytes()
            if len(content) == BOARD.size:
                values.append(BOARD.unpack(content))
        return values

    def runs(self) -> int:
        """Return how often the task ran so far, in all processes together."""
        return sum(runs for runs, _, _ in self.read())


@asynccontextmanager
async def started(
    lab: Lab,
    contender: Contender,
    command: str,
    *,
    board: Path,
    database: str | None = None,
    **options: object,
) -> AsyncGenerator[Program]:
    """Start a program and wait until it is ready; it has ended when the block has."""
    words: list[str | Path] = [lab.python(contender), "-m", contender.module]
    words += ["--variant", contender.variant, "--command", command]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    environment = {
        **os.environ,
        REDIS_VARIABLE: lab.redis_url(contender),
        POSTGRES_VARIABLE: database or lab.postgres_url(contender),
        BOARD_VARIABLE: str(board),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    path = lab.folder / f"{contender.name}-{next(_numbers)}.log"
    with path.open("wb") as log:
        process = await trio.lowlevel.open_process(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.fileno(),
            cwd=ROOT,
            env=environment,
            start_new_session=True,  # Ctrl-C is for us; they end with their standard input
        )
    program = Program(process, path)
    try:
        await program.ready()
        yield program
    finally:
        await program.kill()
