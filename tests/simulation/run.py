"""One seed, one run, one verdict."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import trio

from .checks import Violation, violations_of
from .history import History
from .plan import Fault, make_plan
from .watch import deterministic, watched
from .world import World

logging.getLogger("lockd").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one seed."""

    seed: int
    history: History
    violations: list[Violation]
    acquisitions: int
    hits: Counter[Fault]
    moves: set[tuple[str, str]]
    served_seconds: float
    """From the end of all faults until all that was due was done."""


def simulate(seed: int, mutant: AbstractContextManager[object] | None = None) -> Run:
    """Run *seed*, with lockd or the servers broken by *mutant*."""
    world = World(make_plan(seed))
    with mutant or nullcontext(), watched(), deterministic(seed):
        try:
            trio.run(world.run, clock=world.agenda.clock)
        except BaseException as error:
            error.add_note(f"in the simulation of seed {seed}")
            raise
    return Run(
        seed=seed,
        history=world.history,
        violations=violations_of(world.history),
        acquisitions=world.acquisitions,
        hits=world.hits,
        moves=world.moves,
        served_seconds=world.served_seconds,
    )
