"""One parser process, from its start to its end, driven by the one task that owns it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass

import trio

from sercha.adapters.parsing import frames
from sercha.adapters.parsing.child import MEMORY_STATUS
from sercha.adapters.parsing.confine import Measures

MODULE = "sercha.adapters.parsing.child"
PARSERS = "sercha.adapters.parsing.parsers"

_MEBIBYTE = 1024**2
_READ_BYTES = 256 * 1024
_END_SECONDS = 2.0
_CHECKERS = trio.CapacityLimiter(2)
_KEPT_VARIABLES = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class ParserLimits:
    """What one file, and one process, may take."""

    seconds: float = 60.0
    """For one file, by the clock; the process is killed then."""
    memory_bytes: int = 512 * _MEBIBYTE
    cpu_seconds: int = 600
    """For all files of one process."""
    start_seconds: float = 30.0
    file_bytes_max: int = 64 * _MEBIBYTE
    files_max: int = 200
    """After as many a process is replaced by a new one."""
    kept_bytes_max: int = 200 * _MEBIBYTE
    """A process that has more memory after a file is replaced."""


class ProcessDied(Exception):
    """The process ended, or does not keep to the protocol; ``no_memory`` says whether for want of memory."""

    def __init__(self, reason: str, *, no_memory: bool = False) -> None:
        super().__init__(reason)
        self.no_memory = no_memory


class ParserProcess:
    """A started process. After any error or cancellation in the middle of a file it can only be killed."""

    def __init__(self, limits: ParserLimits, parsers: str = PARSERS) -> None:
        """Start it, in the thread of the loop: the kernel ends it when the *thread* that made it ends."""
        self._limits = limits
        self._popen = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-P", "-s", "-m", MODULE, _options(limits, parsers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=_environment(),
            start_new_session=True,  # a Ctrl-C is for the worker
        )
        assert self._popen.stdin is not None
        assert self._popen.stdout is not None
        self._to = trio.lowlevel.FdStream(os.dup(self._popen.stdin.fileno()))
        self._from = trio.lowlevel.FdStream(os.dup(self._popen.stdout.fileno()))
        self._popen.stdin.close()
        self._popen.stdout.close()
        self.files = 0
        self.memory = 0
        self.cpu = 0.0

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._popen.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    @property
    def is_used_up(self) -> bool:
        """Whether another process should read the next file."""
        limits = self._limits
        has_grown = self.memory > limits.kept_bytes_max
        is_old = self.files >= limits.files_max or 2 * self.cpu > limits.cpu_seconds
        return has_grown or is_old

    async def measures(self) -> Measures:
        """Wait until it is ready; returns what it is confined by.

        Raises:
            ProcessDied: it did not start.
        """
        raw, _ = await self._read(0)
        found: dict[object, object] = frames.parse_head(raw)["measures"]  # no file was read so far
        return {str(name): str(reason) for name, reason in found.items()}

    async def parse(self, kind: str, path: str, content: bytes, chars_max: int) -> frames.Answer:
        """Let it read one file.

        Raises:
            ProcessDied: it is no more, or must not be used any more.
        """
        self.files += 1
        try:
            head = {"kind": kind, "path": path, "chars_max": chars_max}
            await self._to.send_all(frames.begin(head, len(content)))
            await self._to.send_all(content)
        except trio.BrokenResourceError:
            raise await self._death() from None
        raw, body = await self._read(4 * chars_max)
        try:
            answer = await trio.to_thread.run_sync(
                frames.parse_answer, raw, body, limiter=_CHECKERS
            )
        except frames.BadFrame as error:
            raise ProcessDied(f"it answered with {error}") from error
        self.memory, self.cpu = answer.memory, answer.cpu
        return answer

    async def kill(self) -> None:
        """End it and wait until it is gone; not to be cancelled."""
        with trio.CancelScope(shield=True):
            self._popen.kill()
            await self._to.aclose()
            await self._from.aclose()
            await trio.to_thread.run_sync(self._popen.wait)

    async def _read(self, body_bytes_max: int) -> tuple[bytes, bytes]:
        prefix = await self._read_exactly(frames.PREFIX.size)
        try:
            head_bytes, body_bytes = frames.sizes(prefix, body_bytes_max)
        except frames.BadFrame as error:
            raise ProcessDied(str(error)) from error
        return await self._read_exactly(head_bytes), await self._read_exactly(body_bytes)

    async def _read_exactly(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            piece = await self._from.receive_some(min(_READ_BYTES, count - len(received)))
            if not piece:
                raise await self._death()
            received += piece
        return bytes(received)

    async def _death(self) -> ProcessDied:
        """Say how it ended; one that only stopped talking is killed."""
        with trio.CancelScope(shield=True):
            with trio.move_on_after(_END_SECONDS):
                await trio.to_thread.run_sync(self._popen.wait, abandon_on_cancel=True)
        status = self._popen.poll()
        if status is None:
            return ProcessDied("it stopped talking")
        if status == MEMORY_STATUS:
            return ProcessDied("it had no memory left", no_memory=True)
        if status >= 0:
            return ProcessDied(f"it ended with status {status}")
        try:
            return ProcessDied(f"it was ended by {signal.Signals(-status).name}")
        except ValueError:
            return ProcessDied(f"it was ended by signal {-status}")


def _options(limits: ParserLimits, parsers: str) -> str:
    return json.dumps(
        {
            "parsers": parsers,
            "memory_bytes": limits.memory_bytes,
            "cpu_seconds": limits.cpu_seconds,
            "file_bytes_max": limits.file_bytes_max,
            "parent": os.getpid(),
        }
    )


def _environment() -> dict[str, str]:
    """Return what the process needs to know; none of our secrets."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return (
        kept
        | {
            "LC_ALL": "C",
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "OPENBLAS_NUM_THREADS": "1",  # a library that openpyxl loads where it is there; it may not start threads
        }
    )
