"""Calls of the file system in threads, which may hang: on a dead network drive, for as long as it is dead."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

import trio

from sercha.errors import Transient

THREADS = 4
HUNG_MAX = THREADS - 1
"""Calls that have not come back; with more, the source counts as away: no thread would be left to try it."""
SECONDS = 60.0
"""For one step: a file of at most 16 MiB, an entry of a folder. A slow network drive takes a few."""

LOOKS = 4
"""How many times a call that hangs is looked at until it is given up."""

T = TypeVar("T")


class Calls:
    """Runs calls in threads, each for as long as it makes progress, and counts those that nobody waits for any more."""

    def __init__(
        self, *, seconds: float = SECONDS, limiter: trio.CapacityLimiter | None = None
    ) -> None:
        self._seconds = seconds
        self._limiter = limiter or trio.CapacityLimiter(THREADS)
        self._hung: set[_Call[Any]] = set()

    @property
    def seconds(self) -> float:
        """How long a call may make no progress, to a quarter of it."""
        return self._seconds

    @property
    def hung(self) -> int:
        """How many calls were given up and have not come back."""
        return len(self._hung)

    async def run(self, work: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Run *work* in a thread and return what it returns; *progress* tells how many steps it has done.

        Cancelling gives the call up at once.

        Raises:
            trio.TooSlowError: it did no step for `seconds`, nor within these a thread came free; it is given up.
            Transient: too many calls hang already (``source-stalled``).
        """
        if self.hung >= HUNG_MAX:
            raise self.stalled(f"{self.hung} calls have not come back")
        call = _Call(work, self._hung)
        try:
            async with trio.open_nursery() as nursery:
                steps = partial(call.steps, progress)
                nursery.start_soon(self._watch, steps, nursery.cancel_scope)
                await trio.to_thread.run_sync(
                    call.run, limiter=self._limiter, abandon_on_cancel=True
                )
                nursery.cancel_scope.cancel("it came back")
        finally:
            call.leave()
        return call.result()

    def stalled(self, what: str) -> Transient:
        """The error for a source whose disk hangs, with what shows it."""
        return Transient(f"{what}: the disk or the network drive hangs", code="source-stalled")

    async def _watch(self, steps: Callable[[], int], scope: trio.CancelScope) -> None:
        before, looks = steps(), 0
        while looks < LOOKS:
            await trio.sleep(self._seconds / LOOKS)
            now = steps()
            before, looks = now, looks + 1 if now == before else 0
        scope.cancel("no progress")


class _Call(Generic[T]):
    """A call in a thread, which may outlive whoever waits for it."""

    def __init__(self, work: Callable[[], T], hung: set[_Call[Any]]) -> None:
        self._work = work
        self._hung = hung
        self._has_begun = False
        self._is_left = False
        self._is_over = False
        self._ended: Callable[[], T] | None = None

    def run(self) -> None:
        """Do the work; what came of it is kept, so that no nursery wraps an error in a group."""
        self._has_begun = True
        try:
            if self._is_left:
                return
            value = self._work()
        except Exception as error:  # noqa: BLE001 - raised again by `result`
            self._ended = partial(_raise, error)
        else:
            self._ended = lambda: value
        finally:
            self._is_over = True
            self._hung.discard(self)

    def steps(self, progress: Callable[[], int]) -> int:
        """Count the beginning as a step: until then it waits for a thread."""
        return self._has_begun + progress()

    def result(self) -> T:
        """Return what the work returned, or raise what it raised.

        Raises:
            trio.TooSlowError: it has not come back.
        """
        if self._ended is None:
            raise trio.TooSlowError
        return self._ended()

    def leave(self) -> None:
        """Wait for it no more: it counts among those that hang until it comes back, if it ever began."""
        # The thread and we write our own mark before we read the other's.
        self._is_left = True
        if self._has_begun:
            self._hung.add(self)
        if self._is_over:
            self._hung.discard(self)


def _raise(error: Exception) -> NoReturn:
    raise error
