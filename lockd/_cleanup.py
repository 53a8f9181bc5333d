"""How long the clean-up after a cancellation may take, in the task at hand and those that it starts.

A lease gives its body a margin to end in, and whoever cleans up under a shield takes part of that: the connection to
PostgreSQL asks here how long it may wait for a server that does not answer.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

_seconds: ContextVar[float] = ContextVar("lockd_cleanup_seconds", default=math.inf)


def cleanup_seconds(at_most: float) -> float:
    """Return how long one clean-up may take here, in seconds."""
    return min(at_most, _seconds.get())


@contextmanager
def bounded_cleanup(seconds: float) -> Generator[None]:
    """Let each clean-up in the block take *seconds* at most; inside of another such block the shorter time counts."""
    token = _seconds.set(cleanup_seconds(seconds))
    try:
        yield
    finally:
        _seconds.reset(token)
