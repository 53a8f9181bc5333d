"""The measures: how fast a full queue is drained, how fast one enqueues, and how soon an idle worker starts.

All times are CLOCK_MONOTONIC of this machine. In each round every contender has its turn at one measure before
the next measure begins, in an order that changes. What fails is counted, never repeated.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import trio

from benchmarks.peers.queue_desk import BATCH, GAP_SECONDS, WARM_UP
from benchmarks.queue_rig.contenders import DRAIN, ENQUEUE, IDLE, Contender
from benchmarks.queue_rig.programs import Boards, Program, ProgramFailed, started
from benchmarks.queue_rig.servers import Lab

LOOK_SECONDS = 0.002
"""How often the counts are looked at, and when all have run, the stores."""
DRAIN_SECONDS_MAX = 120
FILL_SECONDS_MAX = 900
AFTER_SECONDS = 0.1
"""How long a worker may still begin to run what is settled."""
FAILURES_MAX = 2
SETTLE_IN_SECONDS = 0.5
"""How long a worker is left alone before it counts as idle."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured in a round."""

    drain_share: float = 1.0
    """Of each contender's `drain_count`."""
    enqueue_seconds: float = 1.0
    idle_samples: int = 80


@dataclass(frozen=True, slots=True)
class Drain:
    """One drain by one or two worker processes."""

    count: int
    runs: int
    seconds: float
    """From the first run to the last settlement."""
    commits: float
    """Of PostgreSQL, per task; the same for the next three."""
    wal_bytes: float
    wal_syncs: float
    redis_commands: float
    cpu_seconds: float
    """Of the worker processes, per task."""

    @property
    def rate(self) -> float:
        return self.count / self.seconds


@dataclass
class Tally:
    """What one contender did, by round; None where it failed or takes no part."""

    drains: dict[int, dict[int, Drain]] = field(default_factory=lambda: {1: {}, 2: {}})
    """By number of workers, then by round."""
    enqueues: dict[str, dict[int, float]] = field(default_factory=dict[str, dict[int, float]])
    """Tasks per second, by mode, then by round."""
    idles: dict[int, list[float]] = field(default_factory=dict[int, list[float]])
    """Delays in seconds, by round."""
    pss_bytes: dict[int, int] = field(default_factory=dict[int, int])
    failures: list[str] = field(default_factory=list[str])


Results = dict[str, Tally]
Turn = tuple[str, Callable[[Contender, Tally], Awaitable[None]]]


async def prepare(lab: Lab, contenders: Sequence[Contender]) -> None:
    """Make the database of each contender that keeps its tasks in PostgreSQL."""
    for contender in contenders:
        if contender.ledger == "postgres":
            url = lab.make_template(contender)
            async with _program(lab, contender, "prepare", database=url) as (program, _):
                await program.go()
                await program.ended()


async def measure_round(
    lab: Lab,
    contenders: Sequence[Contender],
    number: int,
    sizes: Sizes,
    seed: int,
    results: Results,
) -> None:
    """Measure everything once."""
    rng = random.Random(f"{seed}-{number}")

    async def drain(workers: int, contender: Contender, tally: Tally) -> None:
        count = max(BATCH, int(contender.drain_count * sizes.drain_share))
        tally.drains[workers][number] = await measure_drain(lab, contender, workers, count)

    async def enqueue(mode: str, contender: Contender, tally: Tally) -> None:
        rate = await measure_enqueue(lab, contender, mode, sizes.enqueue_seconds)
        tally.enqueues.setdefault(mode, {})[number] = rate

    async def idle(contender: Contender, tally: Tally) -> None:
        found = await measure_idle(lab, contender, sizes.idle_samples, rng.randrange(2**31))
        tally.idles[number], tally.pss_bytes[number] = found

    turns: list[Turn] = [(DRAIN, partial(drain, 1)), (DRAIN, partial(drain, 2))]
    turns += [(ENQUEUE, partial(enqueue, mode)) for mode in ("single", "batched", "callers")]
    turns.append((IDLE, idle))
    for position, (measure, take_turn) in enumerate(turns):
        for contender in rng.sample(list(contenders), len(contenders)):
            tally = results[contender.name]
            if not _takes_part(contender, measure, position) or len(tally.failures) >= FAILURES_MAX:
                continue
            _tell_progress(f"round {number + 1}, {position + 1} of {len(turns)}: {contender.name}")
            try:
                await take_turn(contender, tally)
            except ProgramFailed as error:
                tally.failures.append(f"{measure}: {error}")
                print(f"{contender.name}: {measure}: {error}", file=sys.stderr, flush=True)


def _takes_part(contender: Contender, measure: str, position: int) -> bool:
    if position == 3:
        return contender.has_batches and measure in contender.measures
    if position == 4:
        return contender.callers and measure in contender.measures
    return measure in contender.measures


async def measure_drain(lab: Lab, contender: Contender, workers: int, count: int) -> Drain:
    """Fill the queue, let the workers begin at once, and wait until all is settled."""
    lab.reset(contender)
    await fill(lab, contender, count)
    before = lab.usage(contender)
    async with AsyncExitStack() as stack:
        boards = Boards(Path(stack.enter_context(tempfile.TemporaryDirectory(dir=lab.folder))))
        programs = [
            await stack.enter_async_context(started(lab, contender, "work", board=boards.folder))
            for _ in range(workers)
        ]
        for program in programs:
            await program.go()
        settled_at = await _settlement(lab, contender, boards, count, programs)
        first = min(first for runs, first, _ in boards.read() if runs)
        await trio.sleep(AFTER_SECONDS)
        runs, cpu_seconds = 0, 0.0
        for program in programs:
            await program.go()
            told = await program.ended()
            runs += told["runs"]
            cpu_seconds += told["cpu_seconds"]
    after = lab.usage(contender)
    return Drain(
        count,
        runs,
        settled_at - first,
        (after.commits - before.commits) / count,
        (after.wal_bytes - before.wal_bytes) / count,
        (after.wal_syncs - before.wal_syncs) / count,
        (after.redis_commands - before.redis_commands) / count,
        cpu_seconds / count,
    )


async def fill(lab: Lab, contender: Contender, count: int) -> None:
    """Enqueue this many in the quickest way that the contender has."""
    async with _program(lab, contender, "fill", count=count) as (program, _):
        await program.go()
        await program.ended(FILL_SECONDS_MAX)


async def measure_enqueue(lab: Lab, contender: Contender, mode: str, seconds: float) -> float:
    """Return the tasks per second that one process enqueues."""
    lab.reset(contender)
    async with _program(lab, contender, "enqueue", mode=mode, seconds=seconds) as (program, _):
        await program.go()
        told = await program.ended(seconds + 30)
    return told["count"] / told["seconds"]


async def measure_idle(
    lab: Lab, contender: Contender, samples: int, seed: int
) -> tuple[list[float], int]:
    """Return the seconds from before each enqueue to the start of the task, and the worker's memory in bytes."""
    lab.reset(contender)
    count = samples + WARM_UP
    async with _program(lab, contender, "work") as (worker, boards):
        await worker.go()
        await trio.sleep(SETTLE_IN_SECONDS)
        async with _program(lab, contender, "produce", count=count, seed=seed) as (producer, _):
            await producer.go()
            await producer.ended(count * GAP_SECONDS[1] + 30)
            await until_run(boards, count, 10, [worker])
        pss_bytes = worker.pss_bytes()
        await worker.go()
        delays: list[float] = (await worker.ended())["delays"]
    return delays[WARM_UP:], pss_bytes


@asynccontextmanager
async def _program(
    lab: Lab, contender: Contender, command: str, **options: object
) -> AsyncGenerator[tuple[Program, Boards]]:
    """Start one program with a board of its own."""
    with tempfile.TemporaryDirectory(dir=lab.folder) as name:
        board = Path(name)
        database = options.pop("database", None)
        assert database is None or isinstance(database, str)
        async with started(
            lab, contender, command, board=board, database=database, **options
        ) as program:
            yield program, Boards(board)


async def until_run(boards: Boards, count: int, seconds: float, workers: Sequence[Program]) -> None:
    """Wait until this many tasks have run, at most for this long and while the workers live."""
    with trio.move_on_after(seconds):
        while boards.runs() < count:  # other processes write it into shared memory
            for worker in workers:
                worker.see_alive()
            await trio.sleep(LOOK_SECONDS)
        return
    words = workers[0].last_words()
    raise ProgramFailed(f"{boards.runs()} of {count} ran within {seconds:.0f} s: {words}")


async def _settlement(
    lab: Lab, contender: Contender, boards: Boards, count: int, workers: Sequence[Program]
) -> float:
    """Return when nothing was waiting or in progress any more, to `LOOK_SECONDS`."""
    await until_run(boards, count, DRAIN_SECONDS_MAX, workers)
    with trio.move_on_after(DRAIN_SECONDS_MAX):
        while True:
            asked_at = time.monotonic()
            if lab.unsettled(contender) == 0:
                return asked_at
            await trio.sleep(LOOK_SECONDS)
    raise ProgramFailed(f"{lab.unsettled(contender)} of {count} are not settled")


def _tell_progress(text: str) -> None:
    print(f"{text:70}", file=sys.stderr, end="\r" if sys.stderr.isatty() else "\n", flush=True)
