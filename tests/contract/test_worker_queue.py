"""How a worker treats the queue: what it fetches ahead, what it gives back, and how it goes on after its death."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID, uuid4

import pytest
import trio

from sercha.domain.task import NewTask, TaskState
from sercha.roles.worker import Worker, WorkerSettings
from sercha.services.attempt import Attempt, Handler
from sercha.services.ports import Dispatch
from tests.support.dispatch import MemoryDispatch, MemoryStream
from tests.support.truth import Truth, open_truth

CLAIM_TTL = 1.5


@pytest.fixture
async def truth(postgres_url: str):
    async with open_truth(postgres_url, claim_ttl=CLAIM_TTL) as truth:
        yield truth


@asynccontextmanager
async def working(
    truth: Truth, *, slots: int = 2, dispatch: Dispatch | None = None, **handlers: Handler
) -> AsyncIterator[Worker]:
    settings = WorkerSettings(slots=slots, poll_interval=0.5, grace=0.1)
    worker = Worker(uuid4(), truth.queue, truth.notices, handlers, settings, dispatch=dispatch)
    drain = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(worker.run, drain=drain))
        yield worker
        drain.set()


async def until(truth: Truth, state: TaskState, count: int) -> None:
    with trio.fail_after(20):
        while (await truth.admin.counts())[state] < count:
            await trio.sleep(0.02)


async def nothing(_: Attempt) -> None:
    pass


async def for_ever(_: Attempt) -> None:
    await trio.sleep_forever()


@pytest.fixture(params=["postgres", "dispatch"])
def dispatch(request: pytest.FixtureRequest) -> Dispatch | None:
    return MemoryDispatch(MemoryStream(), "one") if request.param == "dispatch" else None


async def test_all_of_a_long_queue_is_done_once(truth: Truth, dispatch: Dispatch | None) -> None:
    runs: list[object] = []

    async def note(attempt: Attempt) -> None:
        runs.append(attempt.claim.task_id)

    ids = await truth.queue.add([NewTask("note", {}) for _ in range(5_000)])
    async with working(truth, slots=8, dispatch=dispatch, note=note):
        await until(truth, TaskState.COMPLETED, 5_000)

    assert sorted(runs, key=str) == sorted(ids, key=str)


async def test_retried_tasks_get_slots_while_others_flood_in(
    truth: Truth, dispatch: Dispatch | None
) -> None:
    """They are not fetched ahead, and must not starve for that."""
    order: list[str] = []

    async def note(attempt: Attempt) -> None:
        order.append(attempt.claim.kind)

    await truth.queue.add([NewTask("again", {}) for _ in range(20)])
    await truth.live(other := uuid4())
    await truth.queue.give_back(await truth.queue.claim(other, 20, ["again"]))
    await truth.queue.add([NewTask("flood", {}) for _ in range(8_000)])
    async with working(truth, slots=4, dispatch=dispatch, again=note, flood=note):
        await until(truth, TaskState.COMPLETED, 8_020)

    last = max(n for n, kind in enumerate(order) if kind == "again")
    assert last < 4_000


async def test_an_attempt_that_takes_too_long_fails_and_is_tried_again(truth: Truth) -> None:
    (task_id,) = await truth.queue.add([NewTask("slow", {}, time_limit=0.1)])
    async with working(truth, slow=for_ever):
        with trio.fail_after(10):
            while not (await _task(truth, task_id)).last_error:
                await trio.sleep(0.02)

    task = await _task(truth, task_id)
    assert (task.state, task.tries) == (TaskState.QUEUED, 1)
    assert "longer than its 0.1 s" in (task.last_error or "")


async def test_a_claim_whose_answer_was_lost_is_given_back_uncharged(truth: Truth) -> None:
    async with working(truth, other=nothing) as worker:
        (task_id,) = await truth.queue.add([NewTask("mine", {})])
        while (owner := worker.statistics().owner) is None:
            await trio.sleep(0.01)
        assert await truth.queue.claim(owner, 1, ["mine"])  # nobody in the worker knows
        await until(truth, TaskState.QUEUED, 1)

        task = await _task(truth, task_id)
        assert (task.attempt, task.tries) == (1, 0)


async def test_a_worker_that_died_in_the_ledger_stops_its_tasks_and_lives_on(truth: Truth) -> None:
    started, stopped, done = trio.Event(), trio.Event(), trio.Event()

    async def first(attempt: Attempt) -> None:
        if attempt.claim.attempt > 1:
            done.set()
            return
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()

    async with working(truth, first=first) as worker:
        await truth.queue.add([NewTask("first", {})])
        await started.wait()
        owner = worker.statistics().owner
        assert owner is not None
        await truth.expire(owner)
        with trio.fail_after(10):
            await stopped.wait()
            await done.wait()
        assert worker.statistics().owner not in (None, owner)


async def test_claims_that_find_no_slot_are_given_back_for_others(truth: Truth) -> None:
    """Short tasks made it fetch ahead; then long ones took its slots."""
    release = trio.Event()

    async def turn_long(attempt: Attempt) -> None:
        if attempt.claim.payload["n"] == 1_000:
            await release.wait()

    tasks = [NewTask("turn", {"n": n}) for n in range(1_001)] + [NewTask("turn", {"n": 0})] * 200
    await truth.queue.add(tasks)
    async with working(truth, slots=1, turn=turn_long) as worker:
        with trio.fail_after(20):
            while worker.statistics().waiting or not worker.statistics().running:
                await trio.sleep(0.02)
            await until(truth, TaskState.QUEUED, 1)
        async with working(truth, slots=1, turn=turn_long):
            await until(truth, TaskState.COMPLETED, 1_200)
        release.set()
        await until(truth, TaskState.COMPLETED, 1_201)


async def _task(truth: Truth, task_id: UUID):
    task = await truth.admin.get(task_id)
    assert task is not None
    return task
