"""Workers over simulated hours: the numbers are those of the fault matrix."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import trio
from trio.testing import MockClock

from sercha.domain.task import NewTask, TaskState
from sercha.roles.worker import Worker, WorkerSettings
from sercha.services.attempt import Attempt, Handler
from tests.support.queue.memory import MemoryQueue, NoNotices

TTL = 30.0
HOURS = 6 * 3600.0


@asynccontextmanager
async def working(
    handler: Handler, *queues: MemoryQueue, grace: float = 10
) -> AsyncGenerator[trio.Event]:
    """Run a worker on each of the queues, which may be one, for the block; then drain them."""
    drain = trio.Event()
    async with trio.open_nursery() as nursery:
        for queue in queues:
            settings = WorkerSettings(slots=2, poll_interval=5, grace=grace)
            any_queue: Any = queue
            worker = Worker(uuid4(), any_queue, NoNotices(), {"long": handler}, settings)
            await nursery.start(partial(worker.run, drain=drain))
        yield drain
        drain.set()


async def _until(queue: MemoryQueue, state: TaskState, seconds: float) -> None:
    with trio.fail_after(seconds):
        while set(queue.states.values()) != {state}:
            await trio.sleep(60)


async def test_a_task_of_six_hours_has_one_attempt(autojump_clock: MockClock) -> None:
    """Fault 23. Cause: a task longer than any limit, beside an idle worker that reaps. Invariant: I10."""
    queue = MemoryQueue(claim_ttl=TTL)
    runs: list[int] = []

    async def handler(attempt: Attempt) -> None:
        runs.append(attempt.claim.attempt)
        await trio.sleep(HOURS)

    async with working(handler, queue, queue):
        await queue.add([NewTask("long", {})])
        await _until(queue, TaskState.COMPLETED, 2 * HOURS)

    assert runs == [1]
    assert queue.beats >= 2 * HOURS / TTL
    assert queue.refused == []


async def test_a_task_of_six_hours_survives_a_ledger_that_is_away_at_times(
    autojump_clock: MockClock,
) -> None:
    """Fault 23 and 18. Cause: each minute the ledger fails for less than a life. Invariant: one attempt."""
    queue = MemoryQueue(claim_ttl=TTL)
    runs: list[int] = []

    async def handler(attempt: Attempt) -> None:
        runs.append(attempt.claim.attempt)
        await trio.sleep(HOURS)

    async with working(handler, queue), trio.open_nursery() as nursery:

        async def fail_at_times() -> None:
            while True:
                queue.is_away = True
                await trio.sleep(TTL / 3)
                queue.is_away = False
                await trio.sleep(60)

        await queue.add([NewTask("long", {})])
        nursery.start_soon(fail_at_times)
        await _until(queue, TaskState.COMPLETED, 2 * HOURS)
        nursery.cancel_scope.cancel()

    assert runs == [1]


async def test_a_run_ends_before_its_claim_does_while_the_ledger_gives_no_answer(
    autojump_clock: MockClock,
) -> None:
    """Fault 24. Cause: no answer to any beat, for hours. Invariants: I4 for claims, and one run at a time."""
    queue = MemoryQueue(claim_ttl=TTL)
    ended: list[float] = []
    started = trio.Event()

    async def handler(attempt: Attempt) -> None:
        started.set()
        try:
            await trio.sleep(HOURS)
        finally:
            ended.append(trio.current_time())

    async with working(handler, queue):
        await queue.add([NewTask("long", {})])
        await started.wait()
        queue.is_silent = True
        silent_at = trio.current_time()
        await trio.sleep(2 * TTL)
        assert len(ended) == 1
        queue.is_silent = False
        await trio.sleep(2 * TTL)
        assert queue.attempts == dict.fromkeys(queue.attempts, 2)

    assert ended[0] < silent_at + TTL
