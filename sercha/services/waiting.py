"""Waiting for whichever comes first."""

from __future__ import annotations

from typing import Protocol

import trio


class Waitable(Protocol):
    """Something with an awaitable ``wait``: an event, a subscription."""

    async def wait(self) -> None: ...


class Signal:
    """An event that is spent by whoever waited for it: one `set` lets one `wait` return, now or later."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        """Let the present or the next `wait` return. No checkpoint."""
        self._event.set()

    async def wait(self) -> None:
        """Return when there was a `set` since the last return; cancelled, it spends none."""
        await self._event.wait()
        self._event = trio.Event()


async def until_any(seconds: float, *events: Waitable) -> None:
    """Return when one of *events* happens, after at most *seconds*."""
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for event in events:
                nursery.start_soon(_wait_then_cancel, event, nursery.cancel_scope)


async def _wait_then_cancel(event: Waitable, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
