"""Simulated time: the true one, and what each machine's clocks make of it.

True time is Trio's own clock. It jumps to the next thing that happens: a Trio deadline, or an action that was
put on the agenda. Actions run inside of Trio's loop but in no task, so they must not raise and cannot wait.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Any

import trio
import trio.testing

from lockd import Instant

_NUDGE = 1e-9
"""Later than any rounding: a clock that is asked at its own deadline has reached it."""


class Agenda:
    """True time, and what happens when, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self.clock = trio.testing.MockClock(autojump_threshold=0)
        """For Trio: jumps like any of its kind, but may not be subclassed."""
        vars(self.clock).update(
            current_time=lambda: self.now,
            deadline_to_sleep_time=lambda deadline: 0.0 if deadline <= self.now else 1e9,
            _autojump=self._jump,
        )
        self.failure: BaseException | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._count = 0

    def at(self, moment: float, action: Callable[..., object], *arguments: Any) -> None:
        """Call *action* at *moment*, or next when that has passed."""
        self._count += 1
        heapq.heappush(self._heap, (max(moment, self.now), self._count, action, arguments))

    def after(self, seconds: float, action: Callable[..., object], *arguments: Any) -> None:
        """Call *action* in *seconds*."""
        self.at(self.now + seconds, action, *arguments)

    def _jump(self) -> None:
        """Go from moment to moment until a task can run; Trio calls this when all of them are blocked.

        Most moments wake nobody, and a turn of Trio's loop costs more than what happens in one.
        """
        runner: Any = trio._core._run.GLOBAL_RUN_CONTEXT.runner
        deadlines, runnable, heap = runner.deadlines, runner.runq, self._heap
        while not runnable:
            deadline = deadlines.next_deadline()
            if not heap or deadline < heap[0][0]:
                assert deadline < math.inf, "nothing will ever happen again"
                self.now = max(self.now, deadline)
                deadlines.expire(self.now)
            else:
                self._act(heap[0][0])

    def _act(self, moment: float) -> None:
        """Do all that is to be done at *moment*."""
        heap = self._heap
        self.now = moment
        try:
            while heap and heap[0][0] == moment:
                _, _, action, arguments = heapq.heappop(heap)
                action(*arguments)
        except BaseException as error:
            self.failure = self.failure or error
            self.on_failure()


class ServerClock:
    """A server's wall clock: a constant rate, an offset, and jumps. It decides when leases expire."""

    def __init__(self, agenda: Agenda, offset: float, rate: float) -> None:
        self._agenda = agenda
        self._offset = offset
        self.rate = rate

    def now(self) -> float:
        """Read it."""
        return self._offset + self.rate * self._agenda.now

    def true_time(self, reading: float) -> float:
        """Return when it reads *reading*, unless it jumps before."""
        return (reading - self._offset) / self.rate

    def jump(self, seconds: float) -> None:
        """Be set forward, or back if *seconds* is negative."""
        self._offset += seconds


class HostClock:
    """A machine's two clocks that lockd reads, and the wall clock, which it must not read."""

    def __init__(self, agenda: Agenda, offset: float, rate: float) -> None:
        self._agenda = agenda
        self._offset = offset
        self.rate = rate
        self._slept = 0.0
        self._wakes_at = 0.0
        self.wall_offset = 1e6

    def now(self) -> Instant:
        """Read the monotonic clock, which stands still while the machine sleeps, and the one that does not."""
        return Instant(self.monotonic(), 2 * self._offset + self.rate * self._agenda.now)

    def monotonic(self) -> float:
        """Read the monotonic clock alone: an `Instant` for one reading would be half of its cost."""
        awake = max(self._agenda.now, self._wakes_at) - self._slept
        return self._offset + self.rate * awake

    def wall(self) -> float:
        """Read the wall clock."""
        return self.wall_offset + self.rate * self._agenda.now

    def true_time(self, monotonic: float) -> float:
        """Return when the monotonic clock reads *monotonic*, unless the machine sleeps again before."""
        return (monotonic - self._offset) / self.rate + self._slept + _NUDGE

    def true_boottime(self, boottime: float) -> float:
        """Return when the clock that counts sleep reads *boottime*."""
        return (boottime - 2 * self._offset) / self.rate

    @property
    def is_asleep(self) -> bool:
        """Say whether the machine sleeps."""
        return self._agenda.now < self._wakes_at

    def sleep(self, seconds: float) -> None:
        """Let the machine sleep from now on for *seconds*; it must not sleep already."""
        assert not self.is_asleep
        self._wakes_at = self._agenda.now + seconds
        self._slept += seconds
