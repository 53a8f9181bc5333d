"""What several tests of leases in Redis need."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio

from lockd import EventKind, LeaseEvent
from lockd.redis import RedisStore


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


def leave_unadvised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep stores from asking for the server's settings, so that a fault hits the test's own request."""

    async def no_advice(_: object) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("lockd._redis._advise", no_advice)


async def publish(store: RedisStore, name: str) -> None:
    """Take a lease of this name and release it."""
    holder = uuid4()
    await store.acquire(name, holder, 30, 0)
    assert await store.release(name, holder)
