"""Stores and clocks that misbehave on demand, for tests of lockd."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any
from uuid import UUID

import trio

from lockd import (
    EventKind,
    Instant,
    LeaseEvent,
    MemoryStore,
    StoreUnreachable,
    SystemClock,
)

Fault = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


async def lost_request(_: Callable[[], Awaitable[Any]]) -> Any:
    """The request never arrives and nobody says so."""
    await trio.sleep_forever()


async def lost_reply(request: Callable[[], Awaitable[Any]]) -> Any:
    """The request is carried out; its answer never arrives."""
    await request()
    await trio.sleep_forever()


async def refused(_: Callable[[], Awaitable[Any]]) -> Any:
    """The server cannot be reached, which is noticed at once."""
    await trio.lowlevel.checkpoint()
    raise StoreUnreachable("refused")


def delayed(seconds: float, *, ignores_cancel: bool = False) -> Fault:
    """Carry the request out late; *ignores_cancel*: as if the answer came while the process stood still."""

    async def fault(request: Callable[[], Awaitable[Any]]) -> Any:
        with trio.CancelScope(shield=ignores_cancel):
            await trio.sleep(seconds)
            return await request()

    return fault


class FaultyStore(MemoryStore):
    """The reference with faults: ``faults[method]`` are used up call by call, then ``always[method]``."""

    def __init__(self) -> None:
        super().__init__()
        self.faults: dict[str, list[Fault | None]] = {}
        self.always: dict[str, Fault] = {}
        self.calls: list[str] = []

    async def _through(self, method: str, *arguments: Any) -> Any:
        self.calls.append(method)
        planned = self.faults.get(method)
        fault = planned.pop(0) if planned else self.always.get(method)
        request = partial(getattr(super(), method), *arguments)
        return await (request() if fault is None else fault(request))

    async def seen(self, name: str) -> Any:
        return await self._through("seen", name)

    async def acquire(self, name: str, holder: UUID, ttl: float, seen: int) -> Any:
        return await self._through("acquire", name, holder, ttl, seen)

    async def fence(self, name: str, holder: UUID, seen: int) -> Any:
        return await self._through("fence", name, holder, seen)

    async def renew(self, name: str, holder: UUID, ttl: float) -> Any:
        return await self._through("renew", name, holder, ttl)

    async def release(self, name: str, holder: UUID) -> Any:
        return await self._through("release", name, holder)


class SleepyClock(SystemClock):
    """A machine that can sleep: CLOCK_BOOTTIME goes on, Trio's clock does not."""

    def __init__(self) -> None:
        self.slept = 0.0

    def now(self) -> Instant:
        monotonic = trio.current_time()
        return Instant(monotonic, monotonic + self.slept)


class Diary:
    """Pass it as `observe`: it keeps all events."""

    def __init__(self) -> None:
        self.events: list[LeaseEvent] = []
        self._changed = trio.Event()

    def __call__(self, event: LeaseEvent) -> None:
        self.events.append(event)
        self._changed.set()
        self._changed = trio.Event()

    def count(self, kind: EventKind) -> int:
        """Count the events of a kind."""
        return sum(event.kind is kind for event in self.events)

    async def wait_for(self, kind: EventKind, *, times: int = 1) -> LeaseEvent:
        """Return the last event of a kind when there have been so many, within 20 s."""
        with trio.fail_after(20):
            while self.count(kind) < times:
                await self._changed.wait()
        return [event for event in self.events if event.kind is kind][-1]

    @property
    def kinds(self) -> list[EventKind]:
        """All kinds in order, without the renewals that went well."""
        return [each.kind for each in self.events if each.kind is not EventKind.RENEWED]


class CancelAtStep(trio.abc.Instrument):
    """Cancels *scope* after the *number*-th step (from 1) of the tasks in it; steps outside do not count."""

    def __init__(self, scope: trio.CancelScope, number: int) -> None:
        self._scope = scope
        self._left = number
        self.is_counting = True

    @property
    def has_cancelled(self) -> bool:
        """Whether there were that many steps."""
        return self._left <= 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self.is_counting or self._left <= 0 or task.name.startswith("trio."):
            return
        self._left -= 1
        if self._left == 0:
            self._scope.cancel()


async def cancelled_at_every_step(act: Callable[[], Awaitable[object]], *, most: int = 500) -> int:
    """Run *act* again and again, cancelled after its first step, its second..., until it is not cancelled.

    Returns how many steps there were. *act* has to check what it leaves behind itself.
    """
    for number in range(1, most):
        with trio.CancelScope() as scope:
            instrument = CancelAtStep(scope, number)
            trio.lowlevel.add_instrument(instrument)
            try:
                await act()
            finally:
                instrument.is_counting = False
                trio.lowlevel.remove_instrument(instrument)
        if not instrument.has_cancelled:
            return number - 1
    raise AssertionError(f"it has more than {most} steps")
