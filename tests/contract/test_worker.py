"""The worker on a real queue: slots, heartbeat, drain, lost claims, and a database that goes away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import pytest
import trio

from sercha.domain.task import NewTask, TaskKind, TaskState
from sercha.errors import Rejected, Transient
from sercha.roles.worker import Worker, WorkerSettings
from sercha.services.attempt import Attempt, Interrupted
from tests.support.postgres import PostgresServer
from tests.support.truth import Truth, open_truth

KINDS = [TaskKind.SYNC_SOURCE]
CLAIM_TTL = 3.0
Handler = Callable[[Attempt], Awaitable[None]]


@pytest.fixture
async def truth(postgres_url: str):
    async with open_truth(postgres_url, claim_ttl=CLAIM_TTL) as truth:
        yield truth


@asynccontextmanager
async def working(
    truth: Truth, handler: Handler, *, slots: int = 2, grace: float = 5
) -> AsyncIterator[tuple[Worker, trio.Event]]:
    """Run a worker for the block, then drain it."""
    worker = Worker(
        uuid4(),
        truth.queue,
        truth.notices,
        {TaskKind.SYNC_SOURCE: handler},
        WorkerSettings(slots=slots, poll_interval=0.5, grace=grace),
    )
    drain = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(worker.run, drain=drain))
        yield worker, drain
        drain.set()


async def enqueue(truth: Truth, count: int = 1, **changes: object) -> list[object]:
    tasks = [NewTask(TaskKind.SYNC_SOURCE, {"n": n}, **changes) for n in range(count)]  # type: ignore[arg-type]
    async with truth.pool.transaction() as tx:
        return list(await truth.queue.enqueue(tx, tasks))


async def until(truth: Truth, state: TaskState, count: int) -> None:
    with trio.fail_after(20):
        while (await truth.admin.counts())[state] < count:
            await trio.sleep(0.02)


async def test_slots_bound_what_runs_at_once_and_all_is_done(truth: Truth) -> None:
    running = most = 0

    async def handler(_: Attempt) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(0.01)
        running -= 1

    async with working(truth, handler, slots=3):
        await enqueue(truth, 30)
        await until(truth, TaskState.COMPLETED, 30)

    assert most == 3


async def test_a_notice_wakes_an_idle_worker(truth: Truth) -> None:
    done = trio.Event()

    async def handler(_: Attempt) -> None:
        done.set()

    async with working(truth, handler) as (worker, _):
        worker._intake.poll_interval = 3600
        await trio.sleep(0.7)  # past the last poll by the clock: from now on only notices wake
        await enqueue(truth)
        with trio.fail_after(5):
            await done.wait()


async def test_a_long_task_keeps_its_claim_by_beating(truth: Truth) -> None:
    attempts: list[int] = []

    async def handler(attempt: Attempt) -> None:
        attempts.append(attempt.claim.attempt)
        await trio.sleep(2 * CLAIM_TTL)

    async with working(truth, handler), working(truth, handler):
        await enqueue(truth)
        await until(truth, TaskState.COMPLETED, 1)

    assert attempts == [1]


async def test_a_cancelled_task_is_stopped_by_the_next_beat(truth: Truth) -> None:
    started, stopped = trio.Event(), trio.Event()

    async def handler(_: Attempt) -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()

    async with working(truth, handler):
        (task_id,) = await enqueue(truth)
        await started.wait()
        await truth.admin.cancel(task_id)  # type: ignore[arg-type]
        with trio.fail_after(CLAIM_TTL):
            await stopped.wait()

    assert (await truth.admin.counts())[TaskState.CANCELLED] == 1


async def test_drain_lets_a_task_finish(truth: Truth) -> None:
    started = trio.Event()

    async def handler(_: Attempt) -> None:
        started.set()
        await trio.sleep(0.3)

    async with working(truth, handler):
        await enqueue(truth)
        await started.wait()

    assert (await truth.admin.counts())[TaskState.COMPLETED] == 1


async def test_drain_gives_back_what_outlasts_the_grace_uncharged(truth: Truth) -> None:
    started = trio.Event()

    async def handler(_: Attempt) -> None:
        started.set()
        async with trio.open_nursery() as nursery:  # cancellation leaves in a group
            nursery.start_soon(trio.sleep_forever)

    async with working(truth, handler, grace=0.1):
        (task_id,) = await enqueue(truth)
        await started.wait()

    task = await truth.admin.get(task_id)  # type: ignore[arg-type]
    assert task is not None
    assert (task.state, task.tries) == (TaskState.QUEUED, 0)


async def test_a_handler_that_stops_at_a_good_point_is_not_charged(truth: Truth) -> None:
    started = trio.Event()

    async def handler(attempt: Attempt) -> None:
        started.set()
        await attempt.draining.wait()
        raise Interrupted

    async with working(truth, handler):
        (task_id,) = await enqueue(truth)
        await started.wait()

    task = await truth.admin.get(task_id)  # type: ignore[arg-type]
    assert task is not None
    assert (task.state, task.tries) == (TaskState.QUEUED, 0)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Rejected("no"), TaskState.DEAD),
        (Transient("away"), TaskState.QUEUED),
        (RuntimeError("bug"), TaskState.QUEUED),
        (ExceptionGroup("two", [Transient("away"), Transient("gone")]), TaskState.QUEUED),
    ],
)
async def test_errors_become_outcomes(truth: Truth, error: Exception, state: TaskState) -> None:
    async def handler(_: Attempt) -> None:
        raise error

    async with working(truth, handler):
        (task_id,) = await enqueue(truth)
        with trio.fail_after(10):
            while True:
                task = await truth.admin.get(task_id)  # type: ignore[arg-type]
                assert task is not None
                if task.last_error:
                    break
                await trio.sleep(0.02)

    assert task.state is state


async def test_a_dead_workers_task_is_taken_over(truth: Truth) -> None:
    await enqueue(truth)
    await truth.live(dead := uuid4())
    (claim,) = await truth.queue.claim(dead, 1, KINDS)
    done: list[int] = []

    async def handler(attempt: Attempt) -> None:
        done.append(attempt.claim.attempt)

    await truth.expire(dead)
    async with working(truth, handler):
        await until(truth, TaskState.COMPLETED, 1)

    assert done == [claim.attempt + 1]


async def test_a_worker_lives_through_a_restart_of_the_database(
    postgres_server: PostgresServer, truth: Truth
) -> None:
    """The server is stopped at once, without a checkpoint; what it acknowledged is still there."""
    done: set[object] = set()

    async def handler(attempt: Attempt) -> None:
        await trio.sleep(0.01)
        done.add(attempt.claim.payload["n"])

    async with working(truth, handler):
        await enqueue(truth, 50)
        await until(truth, TaskState.COMPLETED, 5)
        await trio.to_thread.run_sync(partial(postgres_server.restart, "immediate"))
        with trio.fail_after(30):
            while len(done) < 50:
                await trio.sleep(0.05)
        await until(truth, TaskState.COMPLETED, 50)


async def test_a_worker_cut_off_from_the_database_stops_its_task_in_time(
    postgres_server: PostgresServer, truth: Truth
) -> None:
    started, stopped = trio.Event(), trio.Event()

    async def handler(_: Attempt) -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()

    async with working(truth, handler, grace=0.1):
        await enqueue(truth)
        await started.wait()
        await trio.to_thread.run_sync(postgres_server.stop, "immediate")
        try:
            with trio.fail_after(CLAIM_TTL):
                await stopped.wait()
        finally:
            await trio.to_thread.run_sync(postgres_server.start)
