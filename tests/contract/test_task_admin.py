"""Tasks looked at, put back and cancelled by hand."""

from __future__ import annotations

import random
from functools import partial
from uuid import UUID, uuid4

import pytest
import trio

from sercha.adapters.postgres.task_admin import PostgresTaskAdmin
from sercha.domain.ids import new_id
from sercha.domain.task import Claim, NewTask, Outcome, TaskKind, TaskState
from sercha.errors import ClaimLost, Conflict, SerchaError
from sercha.services.ports.task_admin import TaskFilter
from sercha.services.retry import retrying
from sercha.services.task_kinds import sync_task
from tests.support.truth import Truth, open_truth

KIND = "errand"
KINDS = [KIND]
ME = uuid4()
EVERYTHING = TaskFilter()


@pytest.fixture
async def truth(postgres_url: str):
    async with open_truth(postgres_url) as truth:
        await truth.live(ME)
        yield truth


@pytest.fixture
def admin(truth: Truth) -> PostgresTaskAdmin:
    return PostgresTaskAdmin(truth.pool)


async def claim_one(truth: Truth) -> Claim:
    (claim,) = await truth.queue.claim(ME, 1, KINDS)
    return claim


async def bury(truth: Truth, key: str | None = None) -> UUID:
    """Enqueue a task and let it fail for good."""
    (task_id,) = await truth.queue.add([NewTask(KIND, {}, dedupe_key=key)])
    await truth.queue.settle([Outcome(await claim_one(truth), error="no", is_final=True)])
    return task_id


async def state_of(admin: PostgresTaskAdmin, task_id: UUID) -> TaskState:
    task = await admin.get(task_id)
    assert task is not None
    return task.state


async def refused(call: object) -> str:
    with pytest.raises(SerchaError) as caught:
        await call  # type: ignore[misc]
    return caught.value.error_code


async def test_pages_of_tasks_go_back_in_time_without_gaps(
    truth: Truth, admin: PostgresTaskAdmin
) -> None:
    made = await truth.queue.add([NewTask(KIND, {"n": n}) for n in range(25)])
    seen: list[UUID] = []
    while len(seen) < 100 and (
        page := await admin.list(TaskFilter(before=seen[-1] if seen else None), limit=10)
    ):
        seen += [task.id for task in page]
        await truth.queue.add([NewTask(KIND, {})])  # what comes meanwhile moves no page

    assert seen == sorted(made, reverse=True)


async def test_tasks_are_listed_by_state_kind_and_source(
    truth: Truth, admin: PostgresTaskAdmin
) -> None:
    source_id = uuid4()
    (sync,) = await truth.queue.add([sync_task(source_id)])
    await truth.queue.add([sync_task(uuid4())])
    dead = await bury(truth)

    async def ids(chosen: TaskFilter) -> list[UUID]:
        return [task.id for task in await admin.list(chosen, limit=10)]

    assert await ids(TaskFilter(state=TaskState.DEAD)) == [dead]
    assert await ids(TaskFilter(kind=KIND)) == [dead]
    assert len(await ids(TaskFilter(kind=TaskKind.SYNC_SOURCE))) == 2
    assert await ids(TaskFilter(source_id=source_id)) == [sync]
    assert await ids(TaskFilter(state=TaskState.DEAD, source_id=source_id)) == []
    assert (await admin.counts())[TaskState.QUEUED] == 2
    assert (await admin.counts())[TaskState.RUNNING] == 0


async def test_a_dead_task_is_retried_with_all_its_tries(
    truth: Truth, admin: PostgresTaskAdmin
) -> None:
    task_id = await bury(truth)

    assert await admin.retry(task_id) == task_id
    task = await admin.get(task_id)
    assert task is not None
    assert (task.state, task.tries, task.finished_at) == (TaskState.QUEUED, 0, None)
    again = await claim_one(truth)
    assert (again.task_id, again.attempt, again.tries) == (task_id, 2, 1)


async def test_a_cancelled_task_is_retried(truth: Truth, admin: PostgresTaskAdmin) -> None:
    (task_id,) = await truth.queue.add([NewTask(KIND, {}, delay=3600)])
    await admin.cancel(task_id)

    await admin.retry(task_id)

    assert (await claim_one(truth)).task_id == task_id, "due at once"


async def test_a_retry_leaves_the_work_to_a_twin_that_waits(
    truth: Truth, admin: PostgresTaskAdmin
) -> None:
    task_id = await bury(truth, "k")
    (twin,) = await truth.queue.add([NewTask(KIND, {}, dedupe_key="k")])

    assert await admin.retry(task_id) == twin
    assert await state_of(admin, task_id) is TaskState.DEAD
    running = await claim_one(truth)
    assert running.task_id == twin
    assert await admin.retry(task_id) == task_id, "one that runs is no twin"


async def test_only_what_has_failed_or_was_cancelled_is_retried(
    truth: Truth, admin: PostgresTaskAdmin
) -> None:
    (task_id,) = await truth.queue.add([NewTask(KIND, {})])
    assert await refused(admin.retry(task_id)) == "task-state"
    claim = await claim_one(truth)
    assert await refused(admin.retry(task_id)) == "task-state"
    await truth.queue.settle([Outcome(claim)])
    assert await refused(admin.retry(task_id)) == "task-state"
    assert await refused(admin.retry(new_id())) == "task-not-found"


async def test_only_what_has_not_ended_is_cancelled(truth: Truth, admin: PostgresTaskAdmin) -> None:
    for state in (TaskState.DEAD, TaskState.CANCELLED):
        task_id = await bury(truth)
        await truth.value("UPDATE task SET state = %s WHERE id = %s", state, task_id)
        assert await refused(admin.cancel(task_id)) == "task-state"
    assert await refused(admin.cancel(new_id())) == "task-not-found"


async def test_a_running_task_that_is_cancelled_writes_no_more_and_lets_the_next_one_run(
    truth: Truth, admin: PostgresTaskAdmin
) -> None:
    task = NewTask(KIND, {}, concurrency_key="c")
    with truth.notices.subscribe("sercha_task") as notices, trio.fail_after(10):
        first, second = await truth.queue.add([task, task])
        await notices.wait()
        claim = await claim_one(truth)
        assert await truth.queue.claim(ME, 1, KINDS) == []
        await admin.cancel(first)
        await notices.wait()

    with pytest.raises(ClaimLost):
        async with truth.pool.transaction() as tx:
            await truth.queue.verify(tx, claim)
    assert await truth.queue.settle([Outcome(claim)]) == set()
    assert (await claim_one(truth)).task_id == second
    assert await state_of(admin, first) is TaskState.CANCELLED


async def test_a_cancel_waits_for_a_commit_under_way_and_wins_afterwards(
    truth: Truth, admin: PostgresTaskAdmin
) -> None:
    (task_id,) = await truth.queue.add([NewTask(KIND, {})])
    claim = await claim_one(truth)
    async with trio.open_nursery() as nursery, truth.pool.transaction() as tx:
        await truth.queue.verify(tx, claim)
        nursery.start_soon(admin.cancel, task_id)
        await truth.blocked(1)

    assert await state_of(admin, task_id) is TaskState.CANCELLED


async def test_workers_are_told_of_a_retried_task(truth: Truth) -> None:
    told: list[UUID] = []
    admin = PostgresTaskAdmin(truth.pool, announce=told.extend)
    with truth.notices.subscribe("sercha_task") as notices, trio.fail_after(10):
        (task_id,) = await truth.queue.add([NewTask(KIND, {}, tries_max=1)])
        await notices.wait()
        await truth.queue.settle([Outcome(await claim_one(truth), error="no")])
        await notices.wait()
        await admin.retry(task_id)
        await notices.wait()

    assert told == [task_id]


async def test_a_retry_that_meets_a_new_twin_leaves_one_of_them(
    truth: Truth, admin: PostgresTaskAdmin
) -> None:
    """The twin is enqueued, and not committed yet, when the retry looks for one."""
    task_id = await bury(truth, "k")
    answers: list[UUID] = []

    async def retry() -> None:
        answers.append(await admin.retry(task_id))

    async with trio.open_nursery() as nursery, truth.pool.transaction() as tx:
        (twin,) = await truth.queue.enqueue(tx, [NewTask(KIND, {}, dedupe_key="k")])
        nursery.start_soon(retry)
        await truth.blocked(1)

    assert answers == [twin]
    assert await state_of(admin, task_id) is TaskState.DEAD


async def test_a_retry_does_not_leave_the_work_to_a_twin_that_is_being_cancelled(
    truth: Truth, admin: PostgresTaskAdmin
) -> None:
    task_id = await bury(truth, "k")
    (twin,) = await truth.queue.add([NewTask(KIND, {}, dedupe_key="k")])
    answers: list[UUID] = []

    async def retry() -> None:
        answers.append(await admin.retry(task_id))

    async with trio.open_nursery() as nursery, truth.pool.transaction() as tx:
        await tx.connection.execute("UPDATE task SET state = 'cancelled' WHERE id = %s", [twin])
        nursery.start_soon(retry)
        await truth.blocked(1)

    assert answers == [task_id]
    assert await state_of(admin, task_id) is TaskState.QUEUED


async def test_random_hands_at_once_keep_the_ledger_whole(
    truth: Truth, admin: PostgresTaskAdmin, seed: int
) -> None:
    """Retries, cancels, requests and workers at once: one task waits for each key, and all come to an end."""
    keys = ["a", "b"]

    async def hand(rng: random.Random) -> None:
        for _ in range(30):
            tasks = await admin.list(EVERYTHING, limit=100)
            try:
                match rng.randrange(4):
                    case 0:
                        await truth.queue.add([NewTask(KIND, {}, dedupe_key=rng.choice(keys))])
                    case 1 if tasks:
                        await admin.retry(rng.choice(tasks).id)
                    case 2 if tasks:
                        await admin.cancel(rng.choice(tasks).id)
                    case _:
                        for claim in await truth.queue.claim(ME, 1, KINDS):
                            error = rng.choice([None, "no"])
                            await retrying(
                                partial(truth.queue.settle, [Outcome(claim, error=error)])
                            )
            except Conflict:
                pass

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(hand, random.Random(f"{seed}/{number}"))

    doubles = "SELECT dedupe_key FROM task WHERE state = 'queued' GROUP BY 1 HAVING count(*) > 1"
    assert await truth.value(doubles) is None
    while claims := await truth.queue.claim(ME, 10, KINDS):
        await truth.queue.settle([Outcome(claim) for claim in claims])
    counts = await admin.counts()
    assert counts[TaskState.RUNNING] == counts[TaskState.QUEUED] == 0
    assert sum(counts.values()) > 2
