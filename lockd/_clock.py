"""Time as lockd sees it: two clocks at once, and nothing else tells it the time.

Linux's CLOCK_MONOTONIC, which is Trio's, stands still while the machine sleeps; CLOCK_BOOTTIME does not. A
lease must use both: a laptop that wakes up after an hour has to find its leases lost. (macOS has no
CLOCK_BOOTTIME; its monotonic clock counts sleep.) The wall clock is never asked.

A simulation passes its own `Clock`, one for each node, with an offset and a rate of its own.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio


@dataclass(frozen=True, slots=True)
class Instant:
    """One moment on both clocks, in seconds; comparable only with readings of the same `Clock`."""

    monotonic: float
    boottime: float

    def after(self, seconds: float) -> Instant:
        """Return the moment *seconds* later, as it would be without sleep of the machine."""
        return Instant(self.monotonic + seconds, self.boottime + seconds)


class Watchdog(Protocol):
    """Barks when a moment passes, also while the event loop is blocked."""

    def watch(self, until: Instant) -> None:
        """Bark once when *until* has passed on either clock; replaces the moment watched before."""
        ...

    def stop(self) -> None:
        """Watch nothing any more; returns when a bark that had begun is over."""
        ...


class Clock(Protocol):
    """Where lockd takes its time from."""

    def now(self) -> Instant:
        """Read both clocks."""
        ...

    def deadline(self, monotonic: float) -> float:
        """Return the Trio deadline for a reading of this clock."""
        ...

    async def sleep_until(self, monotonic: float) -> None:
        """Sleep until this clock reads *monotonic*; always a checkpoint."""
        ...

    def watchdog(self, bark: Callable[[], None]) -> Watchdog:
        """Make a watchdog; *bark* may be called in a thread of its own and must not raise."""
        ...


class SystemClock:
    """The clocks of this process: Trio's, and CLOCK_BOOTTIME where there is one."""

    def now(self) -> Instant:
        """Read both clocks; without CLOCK_BOOTTIME the first one counts for both."""
        monotonic = trio.current_time()
        return Instant(monotonic, _boottime(monotonic))

    def deadline(self, monotonic: float) -> float:
        """Trio's clock is this clock."""
        return monotonic

    async def sleep_until(self, monotonic: float) -> None:
        """Sleep until Trio's clock reads *monotonic*; always a checkpoint."""
        if math.isinf(monotonic):
            await trio.sleep_forever()
        await trio.sleep_until(monotonic)

    def watchdog(self, bark: Callable[[], None]) -> Watchdog:
        """Make a watchdog with a thread of its own; it needs no turn of the event loop."""
        return _ThreadWatchdog(bark)


STALL_SECONDS = 0.5
"""A thread that sleeps for so much too long has been stopped, with its process or its machine."""
TURN_SECONDS = 1.0
"""What the event loop gets after that, to find out for itself that its time is over."""


def _boottime(default: float) -> float:
    clock_id: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return default if clock_id is None else time.clock_gettime(clock_id)


class _ThreadWatchdog:
    """A daemon thread that waits on real clocks; Trio's own cannot be read outside of Trio."""

    def __init__(self, bark: Callable[[], None]) -> None:
        self._bark = bark
        self._changed = threading.Condition()
        self._until: tuple[float, float] | None = None
        self._has_waited_longer = False
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="lockd watchdog", daemon=True)
        self._thread.start()

    def watch(self, until: Instant) -> None:
        seconds = until.monotonic - trio.current_time()
        with self._changed:
            self._until = (time.monotonic() + seconds, until.boottime)
            self._has_waited_longer = False
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._wait():
            self._bark()

    def _wait(self) -> bool:
        """Return True when the moment has passed, False when stopped."""
        with self._changed:
            while not self._is_stopped:
                if self._until is None:
                    self._changed.wait()
                    continue
                monotonic, boottime = self._until
                left = min(monotonic - time.monotonic(), boottime - _boottime(-math.inf))
                if left <= 0:
                    self._until = None
                    return True
                pause = min(left, 1.0)  # not longer: sleep of the machine is not counted
                before = time.monotonic(), _boottime(0.0)
                self._changed.wait(pause)
                passed = max(time.monotonic() - before[0], _boottime(0.0) - before[1])
                if passed > pause + STALL_SECONDS:
                    self._wait_longer()
        return False

    def _wait_longer(self) -> None:
        """Let the loop go first, once: this thread stood still too, so it was the process, not the loop, that hung."""
        if self._until is None or self._has_waited_longer:
            return
        self._has_waited_longer = True
        monotonic, boottime = self._until
        self._until = (
            max(monotonic, time.monotonic() + TURN_SECONDS),
            max(boottime, _boottime(-math.inf) + TURN_SECONDS),
        )
