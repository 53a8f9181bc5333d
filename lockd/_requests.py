"""One request to a store, with a limit: what is too late counts as no answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from lockd._clock import Clock
from lockd._errors import StoreUnreachable

T = TypeVar("T")


async def ask(clock: Clock, seconds: float, request: Callable[[], Awaitable[T]]) -> T:
    """Make one request, for *seconds* by *clock* at most.

    Raises:
        StoreUnreachable: no answer in time, or the store's own error; it may have been carried out.
    """
    deadline = clock.deadline(clock.now().monotonic + seconds)
    with trio.CancelScope(deadline=deadline) as scope:
        return await request()
    assert scope.cancelled_caught
    raise StoreUnreachable(f"no answer within {seconds:g} s")
