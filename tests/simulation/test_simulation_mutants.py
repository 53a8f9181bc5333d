"""Broken leases are found out: a harness that lets them live would prove nothing about the sound one."""

from __future__ import annotations

import os
from statistics import median

import pytest

import lockd._contender
import lockd._hold
import lockd._keeper
from lockd import Lease
from lockd._keeper import Keeper
from tests.simulation.batch import ALL_MUTANTS, killer_of, replay
from tests.simulation.process import ProcessClock
from tests.simulation.rows import Rows

SEEDS_MAX = 5_000
RANGES = 21
BROKEN = {
    "M1": {"I2", "I3"},
    "M2": {"I4"},
    "M3": {"I6"},
    "M4": {"I1", "I4"},
    "M5": {"I6"},
    "M6": {"I1", "I4"},
    "M7": {"I5"},
    "M8": {"I4"},
    "M9": {"I13"},
    "M15": {"I13"},
    "M16": {"I1", "I4", "I13"},
    "M17": {"I2", "I3"},
    "M18": {"I4"},
    "X1": {"I4"},
    "X2": {"I4"},
    "X3": {"I4"},
    "X4": {"I4"},
    "X5": {"I4"},
    "X6": {"I1"},
    "X7": {"I13"},
    "X8": {"I13"},
    "X9": {"I3"},
    "X10": {"I2", "I3"},
}
"""Which invariants each mutant breaks; one of them must be what it is found by."""


FIRST = {"M16": 85, "X4": 20, "X5": 120, "X6": 2_240, "X7": 80, "X9": 460}
"""Where to begin with those that take many seeds; from anywhere is a long run."""


def seeds_to_kill(name: str, first: int) -> int:
    """Return how many seeds from *first* on it takes to find a mutant out."""
    run = killer_of(name, range(first, first + SEEDS_MAX))
    assert run is not None, f"{name} survives {SEEDS_MAX} seeds from {first} on"
    broken = {violation.invariant for violation in run.violations}
    assert broken & BROKEN[name], f"{broken}\n{replay(run.seed, name)}"
    print(f"{name} is killed by seed {run.seed}: {run.violations[0]}\n    {replay(run.seed, name)}")
    return run.seed - first + 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL_MUTANTS)
def test_a_mutant_is_killed(name: str) -> None:
    seeds_to_kill(name, FIRST.get(name, 0))


@pytest.mark.proof
@pytest.mark.parametrize("name", ALL_MUTANTS)
def test_a_mutant_is_killed_within_5000_seeds_from_anywhere(name: str) -> None:
    ranges = int(os.environ.get("SERCHA_SIM_RANGES", RANGES))
    needed = [seeds_to_kill(name, SEEDS_MAX * (number + 1)) for number in range(ranges)]

    print(f"{name}: median {median(needed):g} seeds, at most {max(needed)}, in {ranges} ranges")


@pytest.mark.parametrize("name", ALL_MUTANTS)
def test_a_mutant_leaves_nothing_behind(name: str) -> None:
    def state() -> list[object]:
        owners = (Lease, Keeper, Rows, ProcessClock, lockd._contender, lockd._keeper, lockd._hold)
        return [dict(vars(owner)) for owner in owners]

    before = state()
    with ALL_MUTANTS[name]():
        pass

    assert state() == before
