"""Running one attempt of a task and recording how it ended, whatever happens.

A handler returns (completed), raises (failed, retried or dead), raises `Interrupted` (given back, the process
is draining) or is cancelled (given back). Only a handler that is killed with its process leaves nothing
behind; its claim then expires.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import cast
from uuid import UUID

import structlog
import trio

from sercha.domain.task import Claim, Outcome
from sercha.errors import ClaimLost, NotFound, Rejected, SerchaError
from sercha.services.backoff import Backoff
from sercha.services.ports import TaskQueue
from sercha.telemetry import metrics

SETTLE_TIMEOUT = 5.0
"""Seconds that recording an outcome may take, under a shield; then the claim is left to expire."""
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
    """The outcome could not be recorded in time; the claim expires."""


async def run_attempt(queue: TaskQueue, attempt: Attempt, handler: Handler) -> Ending:
    """Run *handler* and settle; never raises an ordinary exception of the handler.

    Cancelled: the task is given back under a shield of `SETTLE_TIMEOUT` seconds, then `Cancelled` goes on.
    """
    claim = attempt.claim
    log = _log.bind(task_id=str(claim.task_id), kind=claim.kind, attempt=claim.attempt)
    try:
        await handler(attempt)
    except Interrupted:
        return await _give_back(queue, claim, log)
    except Exception as error:  # noqa: BLE001 - the boundary of a task: every error becomes an outcome
        outcome = _failure(claim, error)
        if outcome is None:
            log.warning("task.claim_lost")
            return Ending.LOST
        log.warning("task.failed", error=outcome.error, retry_in=round(outcome.retry_delay, 1))
        return await _settle(queue, outcome, Ending.FAILED, log)
    except BaseException as error:  # noqa: BLE001 - what is raised again below is the cancellation
        await _give_back(queue, claim, log)
        raise _only_cancelled(error, log) from None
    return await _settle(queue, Outcome(claim), Ending.COMPLETED, log)


def _only_cancelled(error: BaseException, log: structlog.stdlib.BoundLogger) -> BaseException:
    """Return what must go on of a cancelled handler; errors of its clean-up end in the log, not the worker."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    ordinary, rest = group.split(Exception)
    if ordinary is not None:
        log.error("task.clean_up_failed", exc_info=ordinary)
    return cast("BaseException", rest) if rest is not None else group


def _failure(claim: Claim, error: Exception) -> Outcome | None:
    """Turn an error, alone or in groups, into an outcome; None when the claim was lost."""
    leaves = _leaves(error)
    if any(isinstance(leaf, ClaimLost) for leaf in leaves):
        return None
    backoff = Backoff(base=RETRY_BASE, cap=RETRY_CAP)
    backoff.failures = max(0, claim.tries - 1)
    first = leaves[0]
    message = (
        first.message if isinstance(first, SerchaError) else f"{type(first).__name__}: {first}"
    )
    if not isinstance(first, SerchaError):
        _log.error("task.crashed", task_id=str(claim.task_id), exc_info=error)
    return Outcome(
        claim,
        error=message,
        retry_delay=backoff.next(),
        is_final=all(isinstance(leaf, Rejected | NotFound) for leaf in leaves),
    )


def _leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return [leaf for inner in group.exceptions for leaf in _leaves(inner)]
    return [error]


async def _settle(
    queue: TaskQueue, outcome: Outcome, ending: Ending, log: structlog.stdlib.BoundLogger
) -> Ending:
    accepted: set[UUID] | None = None
    with trio.move_on_after(SETTLE_TIMEOUT, shield=True):
        accepted = await _until_recorded(lambda: queue.settle([outcome]))
    if accepted is None:
        log.error("task.settle_abandoned")
        return Ending.ABANDONED
    if not accepted:
        log.warning("task.claim_lost")
        return Ending.LOST
    if ending is Ending.COMPLETED:
        log.info("task.completed")
    return ending


async def _give_back(queue: TaskQueue, claim: Claim, log: structlog.stdlib.BoundLogger) -> Ending:
    with trio.move_on_after(SETTLE_TIMEOUT, shield=True):
        await _until_recorded(lambda: queue.give_back([claim]))
        log.info("task.given_back")
        return Ending.GIVEN_BACK
    log.error("task.settle_abandoned")
    return Ending.ABANDONED


async def _until_recorded(call: Callable[[], Awaitable[set[UUID]]]) -> set[UUID]:
    """Repeat *call* until the database answers; the caller bounds it.

    Repeating is safe: the token (task, owner, attempt) matches only until the first success.
    """
    backoff = Backoff(base=0.1, cap=1.0)
    while True:
        try:
            return await call()
        except SerchaError as error:
            metrics.DB_RETRIES.inc()
            _log.warning("task.settle_failed", error=error.message)
            await trio.sleep(backoff.next())
