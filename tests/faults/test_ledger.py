"""Ways to lose a task, run one for ever or hang a drain; each was seen to happen once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from sercha.domain.task import NewTask, Outcome, TaskKind, TaskState
from sercha.errors import Transient
from sercha.roles.worker import Worker, WorkerSettings
from sercha.services.attempt import Attempt, Handler
from tests.support.postgres import PostgresServer
from tests.support.truth import Truth, open_truth

KINDS = [TaskKind.SYNC_SOURCE]
TASK = NewTask(TaskKind.SYNC_SOURCE, {}, dedupe_key="d", concurrency_key="c")
ME = uuid4()
CLAIM_TTL = 1.5


@pytest.fixture
async def truth(postgres_url: str):
    async with open_truth(postgres_url, claim_ttl=CLAIM_TTL) as truth:
        await truth.live(ME)
        yield truth


def worker_on(truth: Truth, handler: Handler, *, grace: float = 5.0) -> Worker:
    return Worker(
        uuid4(),
        truth.queue,
        truth.notices,
        {TaskKind.SYNC_SOURCE: handler},
        WorkerSettings(slots=2, poll_interval=0.2, grace=grace),
    )


async def enqueue(truth: Truth, task: NewTask = TASK):
    async with truth.pool.transaction() as tx:
        return (await truth.queue.enqueue(tx, [task]))[0]


async def lose_all(truth: Truth) -> None:
    await truth.expire()
    await truth.queue.reap()
    await truth.live(ME)


async def test_a_worker_may_claim_anew_what_it_lost_while_the_old_attempt_still_ends(
    truth: Truth,
) -> None:
    """The first attempt sits in a thread that cannot be abandoned; the second one must keep its beats."""
    attempts: list[int] = []
    done = trio.Event()

    async def handler(attempt: Attempt) -> None:
        attempts.append(attempt.claim.attempt)
        if attempt.claim.attempt == 1:
            with trio.CancelScope(shield=True):
                await trio.sleep(1)
        else:
            await trio.sleep(3 * CLAIM_TTL)
            done.set()

    drain = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(worker_on(truth, handler).run, drain=drain))
        await enqueue(truth)
        while not attempts:
            await trio.sleep(0.02)
        await lose_all(truth)
        with trio.fail_after(8):
            await done.wait()
        drain.set()

    assert attempts == [1, 2]


async def test_a_task_of_a_kind_from_a_newer_version_stays_for_those_who_know_it(
    truth: Truth,
) -> None:
    await truth.value("INSERT INTO task (id, kind) VALUES (gen_random_uuid(), 'of-tomorrow')")
    done = trio.Event()

    async def handler(_: Attempt) -> None:
        done.set()

    drain = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(worker_on(truth, handler).run, drain=drain))
        await enqueue(truth)
        with trio.fail_after(5):
            await done.wait()
        drain.set()

    assert await truth.value("SELECT state FROM task WHERE kind = 'of-tomorrow'") == "queued"


async def test_an_error_beside_the_cancellation_does_not_end_the_worker(truth: Truth) -> None:
    started = trio.Event()

    async def fail_to_end() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise RuntimeError("closing went wrong")

    async def handler(_: Attempt) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail_to_end)
            nursery.start_soon(trio.sleep_forever)
            started.set()

    drain = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(worker_on(truth, handler, grace=0.1).run, drain=drain))
        await enqueue(truth)
        await started.wait()
        drain.set()

    assert (await truth.admin.counts())[TaskState.QUEUED] == 1


async def test_progress_forgives_the_tries_also_when_the_last_one_fails(truth: Truth) -> None:
    task_id = await enqueue(truth)
    for _ in range(TASK.tries_max - 1):
        (claim,) = await truth.queue.claim(ME, 1, KINDS)
        await truth.queue.settle([Outcome(claim, error="away")])
    (claim,) = await truth.queue.claim(ME, 1, KINDS)
    async with truth.pool.transaction() as tx:
        await truth.queue.verify(tx, claim, progressed=True)

    await truth.queue.settle([Outcome(claim, error="away for a moment")])

    task = await truth.admin.get(task_id)
    assert task is not None
    assert task.state is TaskState.QUEUED


async def test_a_new_request_is_not_buried_with_the_tries_of_an_old_one(truth: Truth) -> None:
    await enqueue(truth)
    for _ in range(TASK.tries_max):
        assert await truth.queue.claim(ME, 1, KINDS)
        await lose_all(truth)

    asked_for = await enqueue(truth)

    assert [claim.task_id for claim in await truth.queue.claim(ME, 1, KINDS)] == [asked_for]


async def test_a_worker_frozen_within_a_page_does_not_keep_its_task_for_ever(truth: Truth) -> None:
    """Its connection lives and its transaction holds the task's row, which the reaper steps around."""
    await enqueue(truth)
    (claim,) = await truth.queue.claim(ME, 1, KINDS)

    with pytest.raises(Transient):
        async with truth.pool.transaction() as tx:
            await truth.queue.verify(tx, claim)
            await truth.expire(ME)
            with trio.fail_after(15):
                while not await truth.queue.reap():
                    await trio.sleep(0.1)
            await truth.queue.verify(tx, claim)

    assert (await truth.admin.counts())[TaskState.QUEUED] == 1


async def test_a_task_does_not_merge_into_a_twin_that_is_being_cancelled(truth: Truth) -> None:
    await enqueue(truth)
    (claim,) = await truth.queue.claim(ME, 1, KINDS)
    twin = await enqueue(truth)

    async with trio.open_nursery() as nursery, truth.pool.transaction() as tx:
        await tx.connection.execute("UPDATE task SET state = 'cancelled' WHERE id = %s", [twin])
        nursery.start_soon(truth.queue.give_back, [claim])
        await trio.sleep(0.3)  # it waits for us, or has decided already

    assert (await truth.admin.counts())[TaskState.QUEUED] == 1


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
async def test_a_drain_ends_within_its_grace_while_postgres_is_frozen(
    postgres_factory: Callable[..., PostgresServer],
) -> None:
    """The dispatcher waits for an answer to its claim that does not come; kernels keep the socket alive."""
    server = postgres_factory()
    ended = trio.Event()

    async def handler(_: Attempt) -> None:
        raise AssertionError("there is no task")

    async with open_truth(server.url) as truth:
        worker = worker_on(truth, handler, grace=1)
        drain = trio.Event()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            await worker.run(drain=drain, task_status=task_status)
            ended.set()

        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            frozen = with_children(server.pid)
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            try:
                await trio.sleep(1)  # past the poll interval: a claim is on its way
                drain.set()
                with trio.move_on_after(15) as scope:
                    await ended.wait()
            finally:
                for pid in frozen:
                    os.kill(pid, signal.SIGCONT)
            nursery.cancel_scope.cancel()

    assert not scope.cancelled_caught


def with_children(pid: int | None) -> list[int]:
    found: list[int] = [] if pid is None else [pid]
    for entry in Path("/proc").iterdir():
        try:
            parent = entry.joinpath("stat").read_text().rsplit(")", 1)[1].split()[1]
        except (OSError, IndexError):
            continue
        if entry.name.isdigit() and parent == str(pid):
            found.append(int(entry.name))
    return found
