"""Many seeds: what they came to, as figures, and the same from several processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lockd._lease import MOVES

from .more_mutants import MORE_MUTANTS
from .mutants import MUTANTS
from .plan import Fault
from .run import Run, simulate

ALL_MUTANTS = MUTANTS | MORE_MUTANTS
ROOT = Path(__file__).parents[2]


@dataclass
class Figures:
    """What a number of runs came to."""

    seeds: int = 0
    acquisitions: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    moves: set[tuple[str, str]] = field(default_factory=set)
    violations: list[tuple[int, str]] = field(default_factory=list)
    cpu_seconds: float = 0.0
    served_seconds_max: float = 0.0
    """The longest time from the end of all faults until all that was due was done."""

    def add(self, run: Run) -> None:
        """Count one run."""
        self.seeds += 1
        self.acquisitions += run.acquisitions
        self.hits.update({fault.value: count for fault, count in run.hits.items()})
        self.moves |= run.moves
        self.violations += [(run.seed, str(each)) for each in run.violations]
        self.served_seconds_max = max(self.served_seconds_max, run.served_seconds)

    def merge(self, other: Figures) -> None:
        """Count what another process counted."""
        self.seeds += other.seeds
        self.acquisitions += other.acquisitions
        self.hits.update(other.hits)
        self.moves |= other.moves
        self.violations += other.violations
        self.cpu_seconds += other.cpu_seconds
        self.served_seconds_max = max(self.served_seconds_max, other.served_seconds_max)

    def to_json(self) -> str:
        """Return them for another process."""
        return json.dumps(vars(self) | {"moves": sorted(self.moves)})

    @classmethod
    def from_json(cls, text: str) -> Figures:
        """Read what another process said."""
        values: dict[str, Any] = json.loads(text)
        values["hits"] = Counter(values["hits"])
        values["moves"] = {(old, new) for old, new in values["moves"]}
        values["violations"] = [(seed, each) for seed, each in values["violations"]]
        return cls(**values)

    def table(self) -> str:
        """Return them for people."""
        rows = [
            ("seeds", f"{self.seeds:,}"),
            ("acquisitions", f"{self.acquisitions:,}"),
            ("moves of the state machine", f"{len(self.moves)} of {len(MOVES)}"),
            ("violations", f"{len(self.violations)}"),
            ("CPU per seed", f"{1000 * self.cpu_seconds / max(self.seeds, 1):.0f} ms"),
            ("longest until all was done", f"{self.served_seconds_max:.1f} s"),
            *((fault.value, f"{self.hits[fault.value]:,}") for fault in Fault),
        ]
        return "\n".join(f"{name:50} {value:>10}" for name, value in rows)

    def complaints(self) -> str:
        """Return the violations with the commands that tell their stories."""
        return "\n".join(f"{text}\n    {replay(seed)}" for seed, text in self.violations)


def replay(seed: int, mutant: str | None = None) -> str:
    """Return the command that tells the story of a seed."""
    return (
        f"python -m tests.simulation --seed {seed}{f' --mutant {mutant}' if mutant else ''} --trace"
    )


def run_seeds(
    seeds: Iterable[int], mutant: str | None = None, *, on_run: Callable[[Run], bool] | None = None
) -> Figures:
    """Run *seeds* one after another, until *on_run* says True."""
    figures, started_at = Figures(), time.process_time()
    for seed in seeds:
        broken: AbstractContextManager[None] | None = ALL_MUTANTS[mutant]() if mutant else None
        run = simulate(seed, broken)
        figures.add(run)
        if on_run is not None and on_run(run):
            break
    figures.cpu_seconds = time.process_time() - started_at
    return figures


def killer_of(mutant: str, seeds: Iterable[int]) -> Run | None:
    """Return the first run that finds *mutant* out."""
    found: list[Run] = []

    def is_killed(run: Run) -> bool:
        if run.violations:
            found.append(run)
        return bool(found)

    run_seeds(seeds, mutant, on_run=is_killed)
    return found[0] if found else None


def run_in_processes(first: int, count: int, processes: int) -> Figures:
    """Run *count* seeds from *first* on, shared out to *processes*."""
    size = -(-count // processes)
    children = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.simulation", "--json"),
                *("--seeds", f"{start}:{min(start + size, first + count)}"),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for start in range(first, first + count, size)
    ]
    figures = Figures()
    for child in children:
        output, _ = child.communicate()
        assert child.returncode in (0, 1), f"a simulating process ended with {child.returncode}"
        figures.merge(Figures.from_json(output))
    return figures
