"""Machines: the clocks that lockd is given, and the processes on them, one after another."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from outcome import Value

from lockd import Instant

from .plan import NodePlan
from .times import HostClock

if TYPE_CHECKING:
    from .process import Process, Wait
    from .world import World

SLACK = 0.0005
"""Timers fire up to that much late, as real ones do."""


class Node:
    """One machine."""

    def __init__(self, world: World, number: int, plan: NodePlan) -> None:
        self.world = world
        self.plan = plan
        self.name = f"n{number}"
        self.random = Random(f"{world.plan.seed} node {number}")
        self.clock = HostClock(world.agenda, plan.offset, plan.rate)
        self.process: Process | None = None
        self.processes = 0
        """How many there were."""

    def suspend(self, seconds: float) -> None:
        """Let the machine sleep: deadlines on its monotonic clock move, those on the other one do not."""
        self.clock.sleep(seconds)
        if self.process is not None:
            self.process.shift_deadlines(seconds)
            self.process.stop("suspended", seconds)


class ProcessClock:
    """The clocks of its machine as a process reads them; satisfies `lockd.Clock`."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._host = process.node.clock
        self._agenda = process.node.world.agenda

    def now(self) -> Instant:
        """Read both clocks."""
        return self._host.now()

    def monotonic(self) -> float:
        """Read the monotonic clock."""
        return self._host.monotonic()

    def deadline(self, monotonic: float) -> float:
        """Return the true time of a reading, which is Trio's; `Process.shift_deadlines` moves it on."""
        return math.inf if math.isinf(monotonic) else self._host.true_time(monotonic)

    def true_boottime(self, boottime: float) -> float:
        """Return the true time of a reading of the other clock."""
        return self._host.true_boottime(boottime)

    async def sleep_until(self, monotonic: float) -> None:
        """Sleep until the monotonic clock reads *monotonic*."""
        wait = self.process.new_wait()
        self._arm(wait, monotonic)
        await wait.park()

    def watchdog(self, bark: Callable[[], None]) -> SimulatedWatchdog:
        """Make a watchdog on these clocks."""
        return SimulatedWatchdog(self.process, bark)

    def _arm(self, wait: Wait, monotonic: float) -> None:
        slack = self.process.random.random() * SLACK
        self._agenda.at(self.deadline(monotonic) + slack, self._ring, wait, monotonic)

    def _ring(self, wait: Wait, monotonic: float) -> None:
        if self.monotonic() < monotonic:  # the machine slept meanwhile
            self._arm(wait, monotonic)
        else:
            wait.give(Value(None))


class SimulatedWatchdog:
    """A thread of the process: a blocked event loop does not stop it, a stopped process does."""

    def __init__(self, process: Process, bark: Callable[[], None]) -> None:
        self._process = process
        self._bark = bark
        self._until: Instant | None = None
        self._is_stopped = False

    def watch(self, until: Instant) -> None:
        """Bark once when *until* has passed."""
        self._until = until
        clock = self._process.clock
        moment = min(clock.deadline(until.monotonic), clock.true_boottime(until.boottime))
        self._process.node.world.agenda.at(moment, self._look, until)

    def stop(self) -> None:
        """Watch nothing any more."""
        self._is_stopped = True

    def _look(self, until: Instant) -> None:
        process = self._process
        agenda = process.node.world.agenda
        if self._is_stopped or self._until is not until or not process.is_alive:
            return
        if process.frozen_until > agenda.now:
            agenda.at(process.frozen_until + SLACK, self._look, until)
            return
        self._until = None
        self._bark()
