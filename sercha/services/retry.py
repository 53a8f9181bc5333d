"""Try again, in a bounded and jittered way, what failed for a passing reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import trio

from sercha.errors import Transient
from sercha.services.backoff import Backoff

T = TypeVar("T")


async def retrying(
    call: Callable[[], Awaitable[T]],
    *,
    attempts: int | None = 5,
    base: float = 0.1,
    cap: float = 5.0,
    random: Random | None = None,
    on_retry: Callable[[int, Transient, float], None] | None = None,
) -> T:
    """Run *call*, again after each `Transient` (so also `Unavailable`), *attempts* times at most (None: no end).

    *call* must be idempotent: a try that failed may have had its effect. Waits *base* to *cap* seconds, or
    ``retry_after`` when the error has a longer one; *on_retry* is told the number of failures, the error and
    the wait. Cancellation ends it in *call* or in the wait.

    Raises:
        Transient: the last try's error.
    """
    assert attempts is None or attempts >= 1
    delays = Backoff(base=base, cap=cap, random=random)
    while True:
        try:
            return await call()
        except Transient as error:
            wait = max(delays.next(), error.retry_after or 0.0)
            if delays.failures == attempts:
                raise
            if on_retry is not None:
                on_retry(delays.failures, error, wait)
        await trio.sleep(wait)
