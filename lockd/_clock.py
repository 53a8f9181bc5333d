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


def _boottime(default: float) -> float:
    clock_id: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return default if clock_id is None else time.clock_gettime(clock_id)


class _ThreadWatchdog:
    """A daemon thread that waits on real clocks; Trio's own cannot be read outside of Trio."""

    def __init__(self, bark: Callable[[], None]) -> None:
        self._bark = bark
        self._changed = threading.Condition()
        self._until: tuple[float, float] | None = None
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="lockd watchdog", daemon=True)
        self._thread.start()

    def watch(self, until: Instant) -> None:
        seconds = until.monotonic - trio.current_time()
        with self._changed:
            self._until = (time.monotonic() + seconds, until.boottime)
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
                self._changed.wait(
                    min(left, 1.0)
                )  # not longer: sleep of the machine is not counted
        return False
