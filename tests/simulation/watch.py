"""Looking into lockd from outside: holder ids that a seed decides, and each lease's states and deadlines.

Nothing here changes what lockd does; it is wrapped for the length of a run, and afterwards as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableSequence
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import trio

import lockd._hold
from lockd import Lease, LeaseState
from lockd._contender import Ground

from .history import What

if TYPE_CHECKING:
    from .node import ProcessClock


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Put *value* in the place of an attribute, for the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


class _Chance(Random):
    """Trio's own, which shuffles mostly what is alone or nothing at all."""

    def shuffle(self, x: MutableSequence[Any]) -> None:
        """Shuffle *x*."""
        if len(x) > 1:
            super().shuffle(x)


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Let Trio choose among runnable tasks by *seed* alone."""
    run: Any = trio._core._run
    with (
        replaced(run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        replaced(run, "_r", _Chance(f"{seed} trio")),
        replaced(run, "Instruments", dict),
    ):
        yield


@contextmanager
def watched() -> Iterator[None]:
    """Record what every lease goes through."""
    with (
        replaced(lockd._hold, "Ground", _ground),
        replaced(Lease, "__init__", _watched_init(Lease.__init__)),
        replaced(Lease, "_move", _watched_move(Lease._move)),
        replaced(Lease, "_set_deadline", _watched_deadline(Lease._set_deadline)),
    ):
        yield


def names_of(lease: Any) -> tuple[str, int]:
    """Return the label of its holder, and its number within the process."""
    return lease.watched_label, lease.watched_number


def _ground(*, clock: ProcessClock, **options: Any) -> Ground:
    process = clock.process
    new_holder = partial(process.world.new_holder, process)
    return Ground(clock=clock, new_holder=new_holder, **options)


def _watched_init(init: Callable[..., None]) -> Callable[..., None]:
    def watched_init(lease: Any, *arguments: Any) -> None:
        process = arguments[5].process
        process.leases += 1
        process.is_pending = True
        lease.watched_process, lease.watched_number = process, process.leases
        lease.watched_label = process.world.label(arguments[2])
        process.record(What.GRANTED, lease.watched_label, lease.watched_number)
        init(lease, *arguments)

    return watched_init


def _watched_move(move: Callable[..., None]) -> Callable[..., None]:
    def watched_move(lease: Any, state: LeaseState) -> None:
        old = lease.state
        move(lease, state)
        process = lease.watched_process
        process.is_pending = False
        if process.is_alive:
            process.world.moves.add((old.value, state.value))
            _record(lease, What.MOVE, old=old.value, new=state.value, loss=str(lease.loss or ""))

    return watched_move


def _watched_deadline(set_deadline: Callable[..., None]) -> Callable[..., None]:
    def watched_deadline(lease: Any) -> None:
        set_deadline(lease)
        clock = lease.watched_process.clock
        _record(
            lease,
            What.TRUST,
            monotonic=lease.scope.deadline,
            boottime=clock.true_boottime(lease.trusted_until.boottime),
        )

    return watched_deadline


def _record(lease: Any, what: What, **facts: Any) -> None:
    lease.watched_process.record(what, lease.watched_label, lease.watched_number, **facts)
