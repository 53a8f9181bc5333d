"""A measurement that ends in order: after its time, or at Ctrl-C, with what there is by then."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable

import trio

INTERRUPTED_STATUS = 130


async def run_session(measure: Callable[[], Awaitable[object]], *, seconds_max: float) -> int:
    """Run *measure*; 0, or the exit status for having been cut short by a signal or by its time, which is said."""
    status = 0
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def obey() -> None:
                nonlocal status
                async for _ in signals:
                    status = INTERRUPTED_STATUS
                    nursery.cancel_scope.cancel()

            nursery.start_soon(obey)
            with trio.move_on_after(seconds_max) as limit:
                await measure()
            nursery.cancel_scope.cancel()
    if limit.cancelled_caught:
        status = status or 1
    if status:
        print("\ncut short", file=sys.stderr)
    return status


def load_average() -> str:
    """Return how busy the machine is."""
    return " ".join(f"{value:.1f}" for value in os.getloadavg())
