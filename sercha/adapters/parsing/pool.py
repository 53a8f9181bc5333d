"""A pool of parser processes, all started when the first file comes and each replaced before the next one does.

::

    parse() --job--> [bounded channel] --> seat: owns one process, replaces it when it dies or is used up

A seat is a task: no process is ever without an owner, and when the pool's block ends all of them are killed and
waited for. A file that crashes, blocks or bloats its process fails by itself; the seat starts another process and
takes the next file. Whoever gives up waiting cancels the job, and the seat kills the process in the middle of it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import structlog
import trio

from sercha.adapters.parsing import frames
from sercha.adapters.parsing.confine import Measures
from sercha.adapters.parsing.kinds import Kind
from sercha.adapters.parsing.process import PARSERS, ParserLimits, ParserProcess, ProcessDied
from sercha.domain.document import ExtractedText
from sercha.errors import ItemFailed, Unavailable
from sercha.services.background import running
from sercha.services.backoff import Backoff
from sercha.telemetry import metrics

START_PAUSE, START_PAUSE_MAX = 1.0, 60.0
"""Seconds between a process that could not be started and the next try, at first and after many."""

REFUSALS = frozenset({"binary", "encrypted", "too-large", "broken", "too-deep", "parser-memory"})
"""What a parser may say of a file; anything else was not said by a parser."""

_log = structlog.get_logger()


@dataclass(eq=False)
class _Job:
    """One file on its way; `outcome` is there when `done` is set."""

    kind: str
    path: str
    content: bytes
    chars_max: int
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    done: trio.Event = field(default_factory=trio.Event)
    outcome: ExtractedText | Exception | None = None


class ParserPool:
    """Parses files in confined processes; see `open_parsers`."""

    def __init__(self, limits: ParserLimits, parsers: str) -> None:
        self._limits = limits
        self._parsers = parsers
        self._jobs, self._taken = trio.open_memory_channel[_Job](0)
        self._wanted = trio.Event()
        self.started = 0
        """How many processes were started so far."""
        self.measures: Measures | None = None
        """What the newest process is confined by; None before the first one was ready."""

    async def parse(
        self, kind: Kind | str, path: str, content: bytes, *, chars_max: int
    ) -> ExtractedText:
        """Make text of a file; waits while all processes are busy. Cancelled, the file's process is killed.

        Raises:
            ItemFailed: ``parser-timeout``, ``parser-crashed``, ``parser-memory``, or what the parser says.
            Unavailable: ``parser-start``: no process can be started.
        """
        self._wanted.set()
        job = _Job(str(kind), path, content, chars_max)
        try:
            await self._jobs.send(job)
            await job.done.wait()
        finally:
            job.scope.cancel(reason="nobody waits for it")
        assert job.outcome is not None
        if isinstance(job.outcome, Exception):
            raise job.outcome
        return job.outcome

    async def run(self, seats: int) -> None:
        """Keep *seats* processes from the first file on, until cancelled."""
        await self._wanted.wait()
        async with trio.open_nursery() as nursery:
            for _ in range(seats):
                nursery.start_soon(self._run_seat)

    async def _run_seat(self) -> None:
        """Own one process after another until cancelled."""
        waiting, backoff = _Waiting(), Backoff(base=START_PAUSE, cap=START_PAUSE_MAX)
        try:
            while True:
                process: ParserProcess | None = None
                try:
                    process = ParserProcess(self._limits, self._parsers)
                    self.started += 1
                    with trio.fail_after(self._limits.start_seconds):
                        self.measures = await process.measures()
                    backoff.reset()
                    await self._serve(process, waiting)
                except (OSError, ProcessDied, trio.TooSlowError) as error:
                    _log.error("parser.start_failed", error=str(error) or "it took too long")
                    await self._refuse(waiting, backoff.next())
                finally:
                    if process is not None:
                        await process.kill()
        finally:
            waiting.refuse("The parsers are stopping.")

    async def _serve(self, process: ParserProcess, waiting: _Waiting) -> None:
        """Let the process read files until it is used up, or one has spoiled it."""
        while not process.is_used_up:
            job = waiting.job = waiting.job or await self._taken.receive()
            if not process.is_alive:
                return  # it died while it had nothing to do: no fault of this file
            is_spoiled = True
            with job.scope:
                job.outcome = await self._one(process, job)
                is_spoiled = isinstance(job.outcome, _Spoiled)
            waiting.refuse("Nobody waits for it.")
            if is_spoiled:
                return

    async def _one(self, process: ParserProcess, job: _Job) -> ExtractedText | Exception:
        try:
            with trio.fail_after(self._limits.seconds):
                answer = await process.parse(job.kind, job.path, job.content, job.chars_max)
        except trio.TooSlowError:
            reason = f"Reading it took over {self._limits.seconds:g} seconds."
            return self._spoiled(process, job, _Spoiled(reason, code="parser-timeout"))
        except ProcessDied as error:
            if error.no_memory:
                reason = "Reading it takes more memory than is allowed."
                return self._spoiled(process, job, _Spoiled(reason, code="parser-memory"))
            reason = f"Its parser crashed: {error}."
            return self._spoiled(process, job, _Spoiled(reason, code="parser-crashed"))
        refusal = answer.outcome
        if not isinstance(refusal, frames.Refusal):
            return refusal
        if refusal.code not in REFUSALS:
            reason = "Its parser answered with a code that there is not."
            return self._spoiled(process, job, _Spoiled(reason, code="parser-crashed"))
        return ItemFailed(refusal.reason, code=refusal.code, is_skip=refusal.is_skip)

    def _spoiled(self, process: ParserProcess, job: _Job, error: _Spoiled) -> _Spoiled:
        _log.warning(
            "parser.killed",
            path=job.path,
            code=error.error_code,
            reason=error.message,
            pid=process.pid,
        )
        metrics.PARSERS_KILLED.labels(error.error_code).inc()
        return error

    async def _refuse(self, waiting: _Waiting, seconds: float) -> None:
        """Tell whoever comes in the next *seconds* that there is no process."""
        with trio.move_on_after(seconds):
            while True:
                waiting.refuse("No parser process can be started; `sercha doctor` says more.")
                waiting.job = await self._taken.receive()


class _Waiting:
    """The job that a seat has taken and not ended, if any."""

    def __init__(self) -> None:
        self.job: _Job | None = None

    def refuse(self, reason: str) -> None:
        """End the job, with this reason if it has no outcome."""
        if self.job is not None:
            self.job.outcome = self.job.outcome or Unavailable(reason, code="parser-start")
            self.job.done.set()
            self.job = None


class _Spoiled(ItemFailed):
    """A failure after which the process must not be used any more."""


@asynccontextmanager
async def open_parsers(
    seats: int, limits: ParserLimits | None = None, *, parsers: str = PARSERS
) -> AsyncGenerator[ParserPool]:
    """Open a pool of *seats* processes; they are started for the first file, and gone when the block ends.

    *parsers* names the module that has the parsers, `PARSERS`, by kind.
    """
    pool = ParserPool(limits or ParserLimits(), parsers)
    async with running(partial(pool.run, seats)):
        yield pool
