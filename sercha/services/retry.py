"""Try again, in a bounded and jittered way, what failed for a passing reason."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar

import trio

from sercha.errors import Transient, Unavailable
from sercha.services.backoff import Backoff

T = TypeVar("T")

OUTAGE_HIDDEN = 3.0
"""Seconds of an outage of the database that whoever asks does not hear of: a restart takes less."""
_PASSING = frozenset({"database-unavailable", "commit-unknown"})


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


async def outlasting(
    call: Callable[[], Awaitable[T]],
    *,
    seconds: float = OUTAGE_HIDDEN,
    random: Random | None = None,
) -> T:
    """Run *call*, again while the database is away, for up to *seconds* from the first failure.

    *call* must be idempotent: a try that failed may have had its effect. The pauses are jittered and grow to half a
    second. Cancellation ends it in *call* or in a pause.

    Raises:
        Unavailable: the last try's error.
    """
    delays = Backoff(base=0.05, cap=0.5, random=random)
    deadline: float | None = None
    while True:
        try:
            return await call()
        except Unavailable as error:
            now = trio.current_time()
            deadline = now + seconds if deadline is None else deadline
            wait = delays.next()
            if error.error_code not in _PASSING or now + wait >= deadline:
                raise
        await trio.sleep(wait)
