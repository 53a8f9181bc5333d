"""Running one attempt of a task, and what came of it.

A handler returns (completed), raises (failed, retried or dead), raises `Interrupted` (given back, the process
is draining) or is cancelled (given back, out of time, or lost). Only a handler that is killed with its process
leaves nothing behind; its claim then ends with its worker's life.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

import structlog
import trio

from sercha.domain.task import Claim, Outcome
from sercha.errors import ClaimLost, NotFound, Rejected, SerchaError
from sercha.services.backoff import Backoff

RETRY_BASE = 2.0
RETRY_CAP = 300.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a handler gets."""

    claim: Claim
    draining: trio.Event
    """Set when the process wants to stop: come to a good point and raise `Interrupted`."""


class Interrupted(Exception):
    """The handler stopped at a good point because the process drains; nothing is charged."""


Handler = Callable[[Attempt], Awaitable[None]]


class Ending(StrEnum):
    """How an attempt ended, for metrics."""

    COMPLETED = "completed"
    FAILED = "failed"
    GIVEN_BACK = "given_back"
    LOST = "lost"
    ABANDONED = "abandoned"
    """The outcome could not be recorded in time; the claim ends with its worker's life."""


Verdict = Outcome | Ending
"""What to record; `Ending.GIVEN_BACK`, or `Ending.LOST`: nothing is to be recorded."""


async def run_attempt(attempt: Attempt, handler: Handler) -> Verdict:
    """Run *handler*; never raises an ordinary exception of it.

    Cancelled, the cancellation goes on alone: errors of the handler's clean-up beside it are logged.
    """
    try:
        await handler(attempt)
    except Interrupted:
        return Ending.GIVEN_BACK
    except Exception as error:  # noqa: BLE001 - the boundary of a task: every error becomes an outcome
        return _failure(attempt.claim, error)
    except BaseException as error:  # noqa: BLE001 - what is raised again below is the cancellation
        raise _only_cancelled(error, attempt.claim) from None
    return Outcome(attempt.claim)


def out_of_time(claim: Claim) -> Outcome:
    """Return what came of an attempt that was cancelled by its time limit."""
    return _failed(claim, f"the attempt took longer than its {claim.time_limit:g} s")


def _only_cancelled(error: BaseException, claim: Claim) -> BaseException:
    """Return what must go on of a cancelled handler; errors of its clean-up end in the log, not the worker."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    ordinary, rest = group.split(Exception)
    if ordinary is not None:
        _log.error("task.clean_up_failed", task_id=str(claim.task_id), exc_info=ordinary)
    return cast("BaseException", rest) if rest is not None else group


def _failure(claim: Claim, error: Exception) -> Verdict:
    """Turn an error, alone or in groups, into an outcome."""
    leaves = _leaves(error)
    if any(isinstance(leaf, ClaimLost) for leaf in leaves):
        _log.warning("task.claim_lost", task_id=str(claim.task_id), attempt=claim.attempt)
        return Ending.LOST
    first = leaves[0]
    if isinstance(first, SerchaError):
        message = first.message
    else:
        message = f"{type(first).__name__}: {first}"
        _log.error("task.crashed", task_id=str(claim.task_id), exc_info=error)
    is_final = all(isinstance(leaf, Rejected | NotFound) for leaf in leaves)
    return _failed(claim, message, is_final=is_final)


def _failed(claim: Claim, message: str, *, is_final: bool = False) -> Outcome:
    backoff = Backoff(base=RETRY_BASE, cap=RETRY_CAP)
    backoff.failures = max(0, claim.tries - 1)
    delay = backoff.next()
    _log.warning(
        "task.failed",
        task_id=str(claim.task_id),
        kind=claim.kind,
        attempt=claim.attempt,
        error=message,
        retry_in=None if is_final else round(delay, 1),
    )
    return Outcome(claim, error=message, retry_delay=delay, is_final=is_final)


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return [leaf for inner in group.exceptions for leaf in _leaves(inner)]
    return [error]
