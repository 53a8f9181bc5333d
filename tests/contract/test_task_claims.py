"""Whose a claim is, and what ends it: owners that live by their beats, reapers, and stale attempts."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest
import trio

from sercha.adapters.postgres import task_sql
from sercha.domain.task import Outcome, TaskState
from sercha.errors import ClaimLost
from tests.support.ledger import KINDS, ME, OTHER, TASK, enqueue, lose_all, state_of
from tests.support.truth import Truth, open_truth


@pytest.fixture
async def truth(postgres_url: str):
    async with open_truth(postgres_url) as truth:
        await truth.live(ME, OTHER)
        yield truth


async def test_only_the_present_claim_settles(truth: Truth) -> None:
    await enqueue(truth, TASK)
    (old,) = await truth.queue.claim(ME, 1, KINDS)
    assert await lose_all(truth) == 1
    (new,) = await truth.queue.claim(OTHER, 1, KINDS)

    assert await truth.queue.settle([Outcome(old)]) == set()
    assert await truth.queue.give_back([old]) == set()
    assert await state_of(truth, new) is TaskState.RUNNING
    assert await truth.queue.settle([Outcome(new)]) == {new.task_id}
    assert await truth.queue.settle([Outcome(new)]) == set()


async def test_a_beat_keeps_what_is_ours_and_tells_what_is_not(truth: Truth) -> None:
    await enqueue(truth, TASK, TASK)
    kept, lost = await truth.queue.claim(ME, 2, KINDS)
    await truth.admin.cancel(lost.task_id)

    assert await truth.queue.beat(ME) == {(kept.task_id, kept.attempt)}
    assert await truth.queue.beat(OTHER) == set()
    assert await truth.queue.beat(uuid4()) is None
    assert await truth.queue.reap() == 0


async def test_whoever_is_dead_stays_dead_and_claims_nothing(truth: Truth) -> None:
    await enqueue(truth, TASK, TASK)
    (claim,) = await truth.queue.claim(ME, 1, KINDS)
    await truth.expire(ME)

    assert await truth.queue.beat(ME) is None
    assert await truth.queue.claim(ME, 1, KINDS) == []
    assert await truth.queue.claim_ids(ME, [claim.task_id], KINDS) == []
    assert await truth.queue.reap() == 1
    assert await truth.queue.beat(ME) is None
    assert await truth.value("SELECT count(*) FROM heartbeat WHERE owner = %s", ME) == 0


async def test_a_beat_that_waits_for_a_reaper_does_not_revive_the_dead(truth: Truth) -> None:
    answers: list[object] = []

    async def beat() -> None:
        answers.append(await truth.queue.beat(ME))

    async with trio.open_nursery() as nursery, truth.pool.transaction() as tx:
        await tx.connection.execute(task_sql.EXPIRE_ALL)  # what a reaper does to some
        nursery.start_soon(beat)
        await truth.blocked(1)

    assert answers == [None]


async def test_a_claim_that_came_too_late_for_the_reaper_is_found_by_the_next(truth: Truth) -> None:
    await enqueue(truth, TASK)
    async with truth.pool.transaction() as tx:
        values = {"owner": ME, "limit": 1, "free": 1, "kinds": KINDS}
        await tx.connection.execute(task_sql.CLAIM, values)
        await truth.expire(ME)
        assert await truth.queue.reap() == 0  # our claim is not to be seen yet

    assert await truth.queue.reap() == 1


async def test_claims_whose_answer_was_lost_are_given_back_uncharged(truth: Truth) -> None:
    await enqueue(truth, TASK, TASK)
    known, unknown = await truth.queue.claim(ME, 2, KINDS)

    assert await truth.queue.disown(ME, [(unknown.task_id, unknown.attempt)]) == 1
    assert await truth.queue.disown(OTHER, [(known.task_id, known.attempt)]) == 0
    (again,) = await truth.queue.claim(OTHER, 2, KINDS)
    assert (again.task_id, again.attempt, again.tries) == (unknown.task_id, 2, 1)


async def test_a_lost_claim_rolls_the_page_back(truth: Truth) -> None:
    source = await truth.add_source()
    await enqueue(truth, TASK)
    (claim,) = await truth.queue.claim(ME, 1, KINDS)
    await lose_all(truth)

    with pytest.raises(ClaimLost):
        async with truth.pool.transaction() as tx:
            await truth.documents.delete_all(tx, source.id)
            await truth.queue.verify(tx, claim)


async def test_only_the_present_claim_may_commit_a_page(truth: Truth) -> None:
    """Taken over by another attempt of the same task: running again, but not ours."""
    await enqueue(truth, TASK)
    (old,) = await truth.queue.claim(ME, 1, KINDS)
    await lose_all(truth)
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
    await truth.expire()

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
        await lose_all(truth)

    task = await truth.admin.get(task_id)
    assert task is not None
    assert (runs, task.state) == (3, TaskState.DEAD)
    assert "died" in (task.last_error or "")


async def test_progress_forgives_the_tries_so_far(truth: Truth) -> None:
    await enqueue(truth, replace(TASK, tries_max=2))
    for _ in range(10):
        (claim,) = await truth.queue.claim(ME, 1, KINDS)
        async with truth.pool.transaction() as tx:
            await truth.queue.verify(tx, claim, progressed=True)
        await lose_all(truth)


async def test_a_reaper_takes_nothing_from_an_owner_that_it_does_not_see_yet(truth: Truth) -> None:
    """While it waits for the row, the task is taken back and claimed by a newcomer."""
    (task_id,) = await enqueue(truth, TASK)
    await truth.queue.claim(ME, 1, KINDS)
    await truth.value(task_sql.EXPIRE_ALL)
    newcomer = uuid4()
    patient = task_sql.REAP.replace(" SKIP LOCKED", "")  # waits where the real one steps aside
    values = {"error": "x", "refund": 0, "limit": 9, "notify": False}

    async with trio.open_nursery() as nursery, truth.pool.transaction() as tx:
        await tx.connection.execute("SELECT 1 FROM task FOR UPDATE")
        nursery.start_soon(run, truth, patient, values)
        await truth.blocked(1)
        await tx.connection.execute(task_sql.REGISTER, newcomer_values(newcomer))
        await tx.connection.execute("UPDATE task SET owner = %s, attempt = attempt + 1", [newcomer])

    assert await truth.queue.beat(newcomer) == {(task_id, 2)}


async def run(truth: Truth, statement: str, values: dict[str, object]) -> None:
    async with truth.pool.connection() as connection:
        await connection.execute(statement.encode(), values)


def newcomer_values(owner: UUID) -> dict[str, object]:
    return {"owner": owner, "node_id": owner, "ttl": 60.0}


async def test_only_first_attempts_with_tries_to_spare_are_claimed_for_later(truth: Truth) -> None:
    """Whoever dies is charged for all claims: what did not start must survive that."""
    await enqueue(truth, TASK, TASK)
    for claim in await truth.queue.claim(ME, 2, KINDS):
        await truth.queue.give_back([claim])
    fresh, frail = await enqueue(truth, TASK, replace(TASK, tries_max=2))

    (again,) = await truth.queue.claim(ME, 9, KINDS, free=0)
    claims = await truth.queue.claim(ME, 9, KINDS, free=1)
    rest = await truth.queue.claim(ME, 9, KINDS, free=2)

    assert again.task_id == fresh
    assert [claim.attempt for claim in claims] == [2]
    assert [claim.task_id for claim in rest][1:] == [frail]


@pytest.mark.parametrize("together", [1, 2])
async def test_claims_by_id_are_not_planned_anew_each_time(truth: Truth, together: int) -> None:
    """Planning takes longer than the claim; a connection is given back before the next one is wanted."""
    for _ in range(8):
        ids = await enqueue(truth, *[TASK] * together)
        claims = await truth.queue.claim_ids(ME, ids, KINDS)
        assert await truth.queue.settle([Outcome(claim) for claim in claims]) == set(ids)

    general = await truth.value(
        "SELECT sum(generic_plans) FROM pg_prepared_statements WHERE statement LIKE %s",
        "%UPDATE task SET state = 'running'%",
    )
    assert general == 8 - 5  # the server makes five for the values at hand, to compare with


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "with another"])
async def test_one_task_by_id_is_claimed_only_when_it_may_be(truth: Truth, others: int) -> None:
    keyed = replace(TASK, concurrency_key="source:1")
    later, foreign, blocked, locked, usable = await enqueue(
        truth, replace(TASK, delay=3600), replace(TASK, kind="other"), keyed, TASK, TASK
    )

    async def claimed(task_id: UUID, owner: UUID = ME, **options: int) -> list[UUID]:
        ids = [task_id, *(uuid4() for _ in range(others))]
        claims = await truth.queue.claim_ids(owner, ids, KINDS, **options)
        return [claim.task_id for claim in claims]

    assert await claimed(later) == await claimed(foreign) == await claimed(uuid4()) == []
    assert await claimed(usable, owner=uuid4()) == [], "nobody lives under this name"
    (running,) = await enqueue(truth, keyed)
    assert await claimed(running) == [running]
    assert await claimed(blocked) == [], "its key runs"
    async with truth.pool.transaction() as tx:
        await tx.connection.execute("SELECT 1 FROM task WHERE id = %s FOR UPDATE", [locked])
        with trio.fail_after(5):
            assert await claimed(locked) == [], "it is passed by, not waited for"
    assert await claimed(usable) == [usable]
    assert await claimed(usable) == [], "it runs"
    await truth.queue.give_back(await truth.queue.claim_ids(ME, [locked], KINDS))
    assert await claimed(locked, free=0) == [], "an attempt after the first waits for a slot"
    assert await claimed(locked, free=1) == [locked]


async def test_racers_for_one_key_by_id_run_one_of_its_tasks(truth: Truth) -> None:
    ids = await enqueue(truth, *[replace(TASK, concurrency_key="source:1")] * 8)
    claimed: list[UUID] = []

    async def claim(task_id: UUID) -> None:
        claimed.extend(each.task_id for each in await truth.queue.claim_ids(ME, [task_id], KINDS))

    async with trio.open_nursery() as nursery:
        for task_id in ids:
            nursery.start_soon(claim, task_id)

    assert len(claimed) == 1
