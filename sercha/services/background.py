"""Something that runs beside a block, for as long as the block lasts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def running(run: Callable[[], Awaitable[object]]) -> AsyncGenerator[None]:
    """Run *run* in the background of the block, and cancel it at the block's end.

    The block's own errors leave as they are, in no group.
    """
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            try:
                yield
            except Exception as error:  # noqa: BLE001  raised again below, outside of the nursery
                failure = error
            nursery.cancel_scope.cancel("the block has ended")
    finally:
        if failure is not None:
            raise failure  # also beside a cancellation that comes at the same time
