"""Whether a long queue is served as fast as a short one: a fresh worker's first tasks, with few and with many behind.

Both queues are there at the same time, in databases of their own, and have their turns.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import trio

from benchmarks.queue_rig.contenders import Contender
from benchmarks.queue_rig.measures import fill, prepare, until_run
from benchmarks.queue_rig.programs import Boards, ProgramFailed, started
from benchmarks.queue_rig.servers import Lab

SHALLOW = 1_000
"""Tasks in the short queue, and those that count in both."""
RUN_SECONDS_MAX = 60
SUSTAINED_SECONDS = 3
DEEP_DATABASE = 1
"""Of Redis; the short queue is in 0."""


@dataclass
class Depth:
    """The rates of one contender's fresh workers, in turns."""

    deep: int
    shallow_rates: list[float] = field(default_factory=list[float])
    deep_rates: list[float] = field(default_factory=list[float])
    sustained_rate: float = 0.0
    """Of one worker that goes on for `SUSTAINED_SECONDS`, after its first tasks."""

    @property
    def ratio(self) -> float:
        return statistics.median(self.deep_rates) / statistics.median(self.shallow_rates)

    @property
    def sustained_ratio(self) -> float:
        return self.sustained_rate / statistics.median(self.shallow_rates)


Depths = dict[str, Depth]


async def measure_depth(
    lab: Lab, contenders: Sequence[Contender], deep: int, turns: int, depths: Depths
) -> None:
    """Measure each of the contenders that are ours."""
    for contender in contenders:
        if not contender.is_ours:
            continue
        long = replace(contender, name=f"{contender.name}-deep", redis_database=DEEP_DATABASE)
        try:
            depths[contender.name] = await _measure(lab, contender, long, deep, turns)
        except ProgramFailed as error:
            print(f"{contender.name}: depth: {error}", file=sys.stderr, flush=True)
        lab.drop(long)


async def _measure(lab: Lab, short: Contender, long: Contender, deep: int, turns: int) -> Depth:
    depth = Depth(deep)
    await prepare(lab, [long])
    lab.reset(long)
    print(f"{short.name}: enqueueing {deep:,} tasks", file=sys.stderr, flush=True)
    await fill(lab, long, deep)
    lab.reset(
        short
    )  # once: it is a checkpoint, after which whole pages of the long queue are logged
    for turn in range(1 + turns):
        await fill(lab, short, SHALLOW)
        rates = [(await _serve(lab, queue, 0))[0] for queue in (short, long)]
        if turn:  # the first one fills the servers' caches
            depth.shallow_rates.append(rates[0])
            depth.deep_rates.append(rates[1])
    _, depth.sustained_rate = await _serve(lab, long, SUSTAINED_SECONDS)
    return depth


async def _serve(lab: Lab, contender: Contender, seconds: float) -> tuple[float, float]:
    """Let a fresh worker run `SHALLOW` tasks, and then for this long; return its rates in both."""
    with tempfile.TemporaryDirectory(dir=lab.folder) as name:
        boards = Boards(Path(name))
        async with started(lab, contender, "work", board=boards.folder, mark=SHALLOW) as worker:
            await worker.go()
            await until_run(boards, SHALLOW, RUN_SECONDS_MAX, [worker])
            before, begun = boards.runs(), trio.current_time()
            await trio.sleep(seconds)
            sustained = (boards.runs() - before) / (trio.current_time() - begun) if seconds else 0.0
            await worker.go()
            await worker.ended()
        [(_, first, marked)] = boards.read()
    return (SHALLOW - 1) / (marked - first), sustained
