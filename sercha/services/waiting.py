"""Waiting for whichever comes first."""

from __future__ import annotations

from typing import Protocol

import trio


class Waitable(Protocol):
    """Something with an awaitable ``wait``: an event, a subscription."""

    async def wait(self) -> None: ...


async def until_any(seconds: float, *events: Waitable) -> None:
    """Return when one of *events* happens, after at most *seconds*."""
    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for event in events:
                nursery.start_soon(_wait_then_cancel, event, nursery.cancel_scope)


async def _wait_then_cancel(event: Waitable, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
