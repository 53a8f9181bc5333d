"""What every task queue promises; held against PostgreSQL."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
import trio

from sercha.adapters.postgres import task_sql
from sercha.adapters.postgres.tasks import PostgresTaskQueue
from sercha.domain.ids import new_id
from sercha.domain.task import Claim, Outcome, TaskState
from sercha.errors import Conflict
from tests.support.ledger import KINDS, ME, OTHER, TASK, enqueue, state_of
from tests.support.truth import Truth, open_truth


@pytest.fixture
async def truth(postgres_url: str):
    async with open_truth(postgres_url) as truth:
        await truth.live(ME, OTHER)
        yield truth


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
        await truth.live(owner := uuid4())
        while claims := await truth.queue.claim(owner, 7, KINDS):
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
        await truth.live(owner := uuid4())
        claims.extend(await truth.queue.claim(owner, 5, KINDS))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(work)

    assert len(claims) == 1
    await truth.queue.settle([Outcome(claims[0])])
    assert len(await truth.queue.claim(ME, 5, KINDS)) == 1


async def test_claims_by_id_take_what_is_due_and_free_and_leave_the_rest(truth: Truth) -> None:
    keyed = replace(TASK, concurrency_key="source:1")
    ids = await enqueue(
        truth, TASK, replace(TASK, delay=3600), keyed, keyed, replace(TASK, kind="other"), TASK
    )
    await truth.queue.claim_ids(OTHER, [ids[5]], KINDS)

    claims = await truth.queue.claim_ids(ME, [*reversed(ids), uuid4()], KINDS)

    assert [claim.task_id for claim in claims] == [ids[0], ids[2]]
    assert [claim.is_keyed for claim in claims] == [False, True]
    assert await truth.queue.due(10, KINDS) == []


async def test_what_is_due_comes_in_the_order_of_claims_and_stays_free(truth: Truth) -> None:
    first, second, urgent = await enqueue(truth, TASK, TASK, replace(TASK, priority=9))

    assert await truth.queue.due(2, KINDS) == [urgent, first]
    assert await truth.queue.due(9, KINDS) == [urgent, first, second]
    claims = await truth.queue.claim(ME, 9, KINDS)
    assert [claim.task_id for claim in claims] == [urgent, first, second]


async def test_tasks_of_one_batch_merge_by_key_too(truth: Truth) -> None:
    keyed = replace(TASK, dedupe_key="a")
    (queued,) = await enqueue(truth, replace(keyed, delay=3600))

    ids = await truth.queue.add(
        [TASK, replace(keyed, priority=3), replace(TASK, dedupe_key="b"), keyed, TASK]
    )

    assert ids[1] == ids[3] == queued
    assert len(set(ids)) == 4
    claims = await truth.queue.claim(ME, 9, KINDS)  # the twin is due now, and urgent
    assert claims[0].task_id == queued
    assert {claim.task_id for claim in claims} == set(ids)


async def test_an_id_is_enqueued_once(truth: Truth) -> None:
    task = replace(TASK, id=new_id())
    assert await truth.queue.add([task]) == [task.id]

    with pytest.raises(Conflict):
        await truth.queue.add([TASK, task])

    assert len(await truth.queue.due(9, KINDS)) == 1


async def test_twins_that_go_back_together_leave_one(truth: Truth) -> None:
    keyed = replace(TASK, dedupe_key="sync:1")
    claims: list[Claim] = []
    for _ in range(3):
        await enqueue(truth, keyed)
        claims += await truth.queue.claim(ME, 1, KINDS)

    assert await truth.queue.give_back(claims) == {claim.task_id for claim in claims}

    states = [await state_of(truth, claim) for claim in claims]
    assert sorted(states) == [TaskState.CANCELLED, TaskState.CANCELLED, TaskState.QUEUED]


async def test_outcomes_of_every_kind_are_settled_in_one_batch(truth: Truth) -> None:
    await enqueue(truth, *(replace(TASK, tries_max=2) for _ in range(4)))
    done, failed, hopeless, late = await truth.queue.claim(ME, 4, KINDS)
    outcomes = [
        Outcome(done),
        Outcome(failed, error="x", retry_delay=3600),
        Outcome(hopeless, error="y", is_final=True),
        Outcome(replace(late, attempt=2), error="z"),
    ]

    accepted = await truth.queue.settle(outcomes)

    assert accepted == {done.task_id, failed.task_id, hopeless.task_id}
    assert [await state_of(truth, claim) for claim in (done, failed, hopeless, late)] == [
        TaskState.COMPLETED,
        TaskState.QUEUED,
        TaskState.DEAD,
        TaskState.RUNNING,
    ]


async def test_who_may_be_claimed_is_announced_after_the_commit(truth: Truth) -> None:
    told: list[UUID] = []
    queue = PostgresTaskQueue(truth.pool, announce=told.extend)
    async with truth.pool.transaction() as tx:
        first, _ = await queue.enqueue(tx, [TASK, replace(TASK, delay=60)])
        assert told == []
    (second,) = await queue.add([TASK])
    claims = await queue.claim(ME, 2, KINDS)
    await queue.give_back(claims[:1])

    assert told == [first, second, claims[0].task_id]
    with pytest.raises(RuntimeError):
        async with truth.pool.transaction() as tx:
            await queue.enqueue(tx, [TASK])
            raise RuntimeError
    assert len(told) == 3


async def test_a_failure_is_retried_later_and_the_last_one_is_a_dead_letter(truth: Truth) -> None:
    (task_id,) = await enqueue(truth, replace(TASK, tries_max=2))
    (claim,) = await truth.queue.claim(ME, 1, KINDS)
    await truth.queue.settle([Outcome(claim, error="no\0luck", retry_delay=3600)])
    assert await truth.queue.claim(ME, 1, KINDS) == []
    await truth.value("UPDATE task SET run_at = clock_timestamp()")
    (claim,) = await truth.queue.claim(ME, 1, KINDS)
    await truth.queue.settle([Outcome(claim, error="again")])

    task = await truth.admin.get(task_id)
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
    completions: Counter[UUID] = Counter()

    async def work(queue: PostgresTaskQueue) -> None:
        await truth.live(owner := uuid4())
        while (await truth.admin.counts())[TaskState.COMPLETED] < len(ids):
            claims = await queue.claim(owner, rng.randint(1, 5), KINDS)
            for claim in claims:
                match rng.randrange(6):
                    case 0:
                        await queue.give_back([claim])
                    case 1:
                        await queue.settle([Outcome(claim, error="x")])
                    case 2:
                        await truth.expire(owner)
                        await queue.reap()
                        completions.update(await queue.settle([Outcome(claim)]))
                        await truth.live(owner := uuid4())
                    case _:
                        await queue.beat(owner)
                        completions.update(await queue.settle([Outcome(claim)]))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(work, truth.queue)

    assert completions == Counter(ids)


async def test_a_claim_reads_few_rows_whatever_the_statistics_say(truth: Truth) -> None:
    """Those of a queue are old: here they are from when it was empty."""
    await truth.value("ANALYZE task")
    ids = await truth.queue.add([TASK] * 5_000)
    read = """SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables
              WHERE relname = 'task'"""
    claim = {"owner": ME, "limit": 3, "free": 3, "kinds": KINDS}
    mine = {"owners": [ME] * 3, "attempts": [1] * 3, "notify": False}
    back = {"errors": [None] * 3, "delays": [0.0] * 3, "finals": [False] * 3, "refund": 1}
    async with truth.pool.transaction() as tx:
        for statement, values in (
            (task_sql.DUE, claim),
            (task_sql.CLAIM, claim),
            (task_sql.CLAIM_IDS, claim | {"ids": ids[-3:]}),
            (task_sql.CLAIM_IDS, claim | {"ids": ids[-6:-3]}),
            (task_sql.COMPLETE, mine | {"ids": ids[-3:]}),
            (task_sql.REQUEUE, mine | back | {"ids": ids[-6:-3]}),
        ):
            cursor = await tx.connection.execute(statement, values)
            assert len(await cursor.fetchall()) == 3, statement
        row = await (await tx.connection.execute(read)).fetchone()

    assert row is not None
    assert row[0] < 100
