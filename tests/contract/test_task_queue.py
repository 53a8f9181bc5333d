"""What every task queue promises; held against PostgreSQL."""

from __future__ import annotations

import random
from dataclasses import replace
from uuid import uuid4

import pytest
import trio

from sercha.adapters.postgres.tasks import PostgresTaskQueue
from sercha.domain.task import Claim, NewTask, Outcome, TaskKind, TaskState
from sercha.errors import ClaimLost
from tests.support.truth import Truth, open_truth

KINDS = [TaskKind.SYNC_SOURCE]
TASK = NewTask(TaskKind.SYNC_SOURCE, {"n": 1})
ME, OTHER = uuid4(), uuid4()


@pytest.fixture
async def truth(postgres_url: str):
    async with open_truth(postgres_url) as truth:
        yield truth


async def enqueue(truth: Truth, *tasks: NewTask):
    async with truth.pool.transaction() as tx:
        return await truth.queue.enqueue(tx, tasks)


async def expire(truth: Truth) -> None:
    await truth.value("UPDATE task_heartbeat SET expires_at = '-infinity'")


async def state_of(truth: Truth, claim: Claim) -> TaskState:
    task = await truth.queue.get(claim.task_id)
    assert task is not None
    return task.state


async def test_enqueue_in_a_rolled_back_transaction_leaves_nothing(truth: Truth) -> None:
    with pytest.raises(RuntimeError):
        async with truth.pool.transaction() as tx:
            await truth.queue.enqueue(tx, [TASK])
            raise RuntimeError

    assert await truth.queue.claim(ME, 10, KINDS) == []


async def test_claims_come_by_priority_then_due_time(truth: Truth) -> None:
    await enqueue(truth, replace(TASK, payload={"n": 1}))
    await enqueue(truth, replace(TASK, payload={"n": 2}))
    await enqueue(truth, replace(TASK, payload={"n": 3}, priority=5))
    await enqueue(truth, replace(TASK, payload={"n": 4}, delay=3600))

    claims = await truth.queue.claim(ME, 10, KINDS)

    assert [claim.payload["n"] for claim in claims] == [3, 1, 2]
    assert {claim.attempt for claim in claims} == {1}


async def test_a_priority_wins_when_only_one_may_be_claimed(truth: Truth) -> None:
    await enqueue(truth, replace(TASK, payload={"n": 1}))
    await enqueue(truth, replace(TASK, payload={"n": 2}, priority=1))

    (claim,) = await truth.queue.claim(ME, 1, KINDS)

    assert claim.payload == {"n": 2}


async def test_no_task_is_claimed_twice_by_many_workers(truth: Truth) -> None:
    await enqueue(truth, *(replace(TASK, payload={"n": n}) for n in range(200)))
    claimed: list[object] = []

    async def work() -> None:
        while claims := await truth.queue.claim(uuid4(), 7, KINDS):
            claimed.extend(claim.payload["n"] for claim in claims)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(work)

    assert sorted(claimed) == list(range(200))


async def test_a_queued_twin_absorbs_an_enqueue(truth: Truth) -> None:
    keyed = replace(TASK, dedupe_key="sync:1")
    (first,) = await enqueue(truth, keyed)
    (second,) = await enqueue(truth, keyed)
    await truth.queue.claim(ME, 1, KINDS)
    (third,) = await enqueue(truth, keyed)

    assert first == second
    assert third != first


async def test_one_concurrency_key_runs_once_and_the_next_waits(truth: Truth) -> None:
    keyed = replace(TASK, concurrency_key="source:1")
    await enqueue(truth, keyed, keyed, keyed)
    claims: list[Claim] = []

    async def work() -> None:
        claims.extend(await truth.queue.claim(uuid4(), 5, KINDS))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(work)

    assert len(claims) == 1
    await truth.queue.settle([Outcome(claims[0])])
    assert len(await truth.queue.claim(ME, 5, KINDS)) == 1


async def test_only_the_present_claim_settles(truth: Truth) -> None:
    await enqueue(truth, TASK)
    (old,) = await truth.queue.claim(ME, 1, KINDS)
    await expire(truth)
    assert await truth.queue.reap() == 1
    (new,) = await truth.queue.claim(OTHER, 1, KINDS)

    assert await truth.queue.settle([Outcome(old)]) == set()
    assert await truth.queue.give_back([old]) == set()
    assert await state_of(truth, new) is TaskState.RUNNING
    assert await truth.queue.settle([Outcome(new)]) == {new.task_id}
    assert await truth.queue.settle([Outcome(new)]) == set()


async def test_a_beat_keeps_what_is_ours_and_tells_what_is_not(truth: Truth) -> None:
    await enqueue(truth, TASK, TASK)
    kept, lost = await truth.queue.claim(ME, 2, KINDS)
    await truth.queue.cancel(lost.task_id)

    assert await truth.queue.beat(ME, [kept, lost]) == {(kept.task_id, kept.attempt)}
    assert await truth.queue.beat(OTHER, [kept]) == set()
    assert await truth.queue.reap() == 0


async def test_a_lost_claim_rolls_the_page_back(truth: Truth) -> None:
    source = await truth.add_source()
    await enqueue(truth, TASK)
    (claim,) = await truth.queue.claim(ME, 1, KINDS)
    await expire(truth)
    await truth.queue.reap()

    with pytest.raises(ClaimLost):
        async with truth.pool.transaction() as tx:
            await truth.documents.delete_all(tx, source.id)
            await truth.queue.verify(tx, claim)


async def test_only_the_present_claim_may_commit_a_page(truth: Truth) -> None:
    """Taken over by another attempt of the same task: running again, but not ours."""
    await enqueue(truth, TASK)
    (old,) = await truth.queue.claim(ME, 1, KINDS)
    await expire(truth)
    await truth.queue.reap()
    (new,) = await truth.queue.claim(ME, 1, KINDS)

    for stale in (old, replace(new, owner=OTHER)):
        for progressed in (False, True):
            with pytest.raises(ClaimLost):
                async with truth.pool.transaction() as tx:
                    await truth.queue.verify(tx, stale, progressed=progressed)
        assert await truth.queue.settle([Outcome(stale)]) == set()
    async with truth.pool.transaction() as tx:
        await truth.queue.verify(tx, new)
    assert await truth.queue.settle([Outcome(new)]) == {new.task_id}
    assert await state_of(truth, new) is TaskState.COMPLETED


async def test_the_reaper_waits_for_a_page_that_is_being_committed(truth: Truth) -> None:
    await enqueue(truth, TASK)
    (claim,) = await truth.queue.claim(ME, 1, KINDS)
    await expire(truth)

    async with truth.pool.transaction() as tx:
        await truth.queue.verify(tx, claim)
        assert await truth.queue.reap() == 0

    assert await truth.queue.reap() == 1


async def test_an_interrupted_attempt_is_not_charged(truth: Truth) -> None:
    await enqueue(truth, TASK)
    for attempt in range(1, 12):
        (claim,) = await truth.queue.claim(ME, 1, KINDS)
        assert (claim.attempt, claim.tries) == (attempt, 1)
        await truth.queue.give_back([claim])


async def test_a_task_that_kills_its_workers_is_buried_before_it_runs_again(truth: Truth) -> None:
    (task_id,) = await enqueue(truth, replace(TASK, tries_max=3))
    runs = 0
    while claims := await truth.queue.claim(ME, 1, KINDS):
        runs += len(claims)
        await expire(truth)
        await truth.queue.reap()

    task = await truth.queue.get(task_id)
    assert task is not None
    assert (runs, task.state) == (3, TaskState.DEAD)
    assert "died" in (task.last_error or "")


async def test_progress_forgives_the_tries_so_far(truth: Truth) -> None:
    await enqueue(truth, replace(TASK, tries_max=2))
    for _ in range(10):
        (claim,) = await truth.queue.claim(ME, 1, KINDS)
        async with truth.pool.transaction() as tx:
            await truth.queue.verify(tx, claim, progressed=True)
        await expire(truth)
        await truth.queue.reap()


async def test_a_failure_is_retried_later_and_the_last_one_is_a_dead_letter(truth: Truth) -> None:
    (task_id,) = await enqueue(truth, replace(TASK, tries_max=2))
    (claim,) = await truth.queue.claim(ME, 1, KINDS)
    await truth.queue.settle([Outcome(claim, error="no\0luck", retry_delay=3600)])
    assert await truth.queue.claim(ME, 1, KINDS) == []
    await truth.value("UPDATE task SET run_at = clock_timestamp()")
    (claim,) = await truth.queue.claim(ME, 1, KINDS)
    await truth.queue.settle([Outcome(claim, error="again")])

    task = await truth.queue.get(task_id)
    assert task is not None
    assert (task.state, task.last_error) == (TaskState.DEAD, "again")


async def test_a_final_error_is_a_dead_letter_at_once(truth: Truth) -> None:
    await enqueue(truth, TASK)
    (claim,) = await truth.queue.claim(ME, 1, KINDS)

    await truth.queue.settle([Outcome(claim, error="gone", is_final=True)])

    assert await state_of(truth, claim) is TaskState.DEAD


async def test_going_back_merges_into_a_queued_twin(truth: Truth) -> None:
    keyed = replace(TASK, dedupe_key="sync:1", concurrency_key="source:1")
    await enqueue(truth, keyed)
    (claim,) = await truth.queue.claim(ME, 1, KINDS)
    (twin,) = await enqueue(truth, keyed)

    assert await truth.queue.give_back([claim]) == {claim.task_id}
    assert await state_of(truth, claim) is TaskState.CANCELLED
    (next_claim,) = await truth.queue.claim(ME, 5, KINDS)
    assert next_claim.task_id == twin


async def test_random_histories_accept_one_completion_per_task(truth: Truth, seed: int) -> None:
    """Eight workers claim, beat, lose, give back, fail and complete; every task ends exactly once."""
    rng = random.Random(seed)
    ids = await enqueue(truth, *(replace(TASK, payload={"n": n}, tries_max=100) for n in range(60)))
    completions: dict[object, int] = dict.fromkeys(ids, 0)

    async def work(queue: PostgresTaskQueue) -> None:
        owner = uuid4()
        while (await queue.counts())[TaskState.COMPLETED] < len(ids):
            claims = await queue.claim(owner, rng.randint(1, 5), KINDS)
            for claim in claims:
                match rng.randrange(6):
                    case 0:
                        await queue.give_back([claim])
                    case 1:
                        await queue.settle([Outcome(claim, error="x")])
                    case 2:
                        await truth.value(
                            "UPDATE task_heartbeat SET expires_at = '-infinity' WHERE task_id = %s",
                            claim.task_id,
                        )
                        await queue.reap()
                        for done in await queue.settle([Outcome(claim)]):
                            completions[done] += 1
                    case _:
                        await queue.beat(owner, [claim])
                        for done in await queue.settle([Outcome(claim)]):
                            completions[done] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(work, truth.queue)

    assert set(completions.values()) == {1}
    assert await truth.value("SELECT count(*) FROM task_heartbeat") == 0
