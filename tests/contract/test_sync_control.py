"""Syncs by real workers: requests that come at once, pause and resume, removal in the middle."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio

from sercha.domain.source import Source, SyncStatus
from sercha.domain.task import Outcome, TaskKind, TaskState
from sercha.errors import ClaimLost, Conflict
from sercha.roles.worker import Worker, WorkerSettings
from sercha.services.attempt import Attempt
from sercha.services.ports import Item
from sercha.services.ports.task_admin import TaskFilter
from sercha.services.sync_all import SyncAll
from sercha.services.task_kinds import sync_task, task_of
from tests.support.syncing import Setup, fill, one_by_one, read_one, setup_on


@pytest.fixture
async def setup(postgres_url: str, tmp_path: Path):
    async with setup_on(postgres_url, tmp_path) as setup:
        yield setup


class Watch:
    """The handler of syncs, watched: which sources are synced at once, and a gate before the first item."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self.running: list[str] = []
        self.begun: list[str] = []
        self.overlaps: list[str] = []
        self.gate = trio.Event()
        self.gate.set()
        self.at_gate = trio.Event()
        fetch = setup.connector.fetch

        async def fetch_behind_gate(item: Item) -> bytes:
            self.at_gate.set()
            await self.gate.wait()
            return await read_one(fetch, item)

        setup.connector.fetch = one_by_one(fetch_behind_gate)  # type: ignore[method-assign]

    async def __call__(self, attempt: Attempt) -> None:
        source_id = str(attempt.claim.payload["source_id"])
        self.overlaps += [source_id] * self.running.count(source_id)
        self.running.append(source_id)
        self.begun.append(source_id)
        try:
            await self._setup.handler(attempt)
        finally:
            self.running.remove(source_id)

    def close_gate(self) -> None:
        self.gate, self.at_gate = trio.Event(), trio.Event()


@asynccontextmanager
async def working(setup: Setup, watch: Watch, *, workers: int = 1) -> AsyncIterator[None]:
    """Run workers for the block, then drain them."""
    truth, drain = setup.truth, trio.Event()
    sync_all = SyncAll(truth.pool, truth.sources, truth.queue)
    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            worker = Worker(
                uuid4(),
                truth.queue,
                truth.notices,
                {TaskKind.SYNC_SOURCE: watch, TaskKind.SYNC_ALL: sync_all},
                WorkerSettings(slots=4, poll_interval=0.2, grace=5),
            )
            await nursery.start(partial(worker.run, drain=drain))
        try:
            with trio.fail_after(30):
                yield
        finally:
            drain.set()


async def ended(setup: Setup, *task_ids: UUID) -> list[TaskState]:
    """Wait for the end of tasks; their states."""
    states: list[TaskState] = []
    for task_id in task_ids:
        while True:
            task = await setup.truth.admin.get(task_id)
            assert task is not None
            if task.state not in (TaskState.QUEUED, TaskState.RUNNING):
                states.append(task.state)
                break
            await trio.sleep(0.02)
    return states


async def second_source(setup: Setup) -> Source:
    return await setup.truth.add_source("other", paths=[str(setup.root)])


async def test_requests_from_everywhere_make_one_sync_at_a_time_and_one_afterwards(
    setup: Setup,
) -> None:
    """While one sync runs: two requests of the API, a `sync_all` and, once that is done, another request."""
    fill(setup.root, 20)
    other = await second_source(setup)
    watch = Watch(setup)
    watch.close_gate()
    first = await setup.rules.request_sync(setup.source.id)

    async with working(setup, watch, workers=3):
        await watch.at_gate.wait()
        (all_of_them,) = await setup.truth.queue.add([task_of(TaskKind.SYNC_ALL)])
        asked: list[UUID] = []

        async def ask() -> None:
            asked.append(await setup.rules.request_sync(setup.source.id))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            nursery.start_soon(ask)
        assert await ended(setup, all_of_them) == [TaskState.COMPLETED]
        await ask()
        while str(other.id) not in watch.begun:  # claimed behind the one that had to wait
            await trio.sleep(0.02)
        begun_meanwhile = watch.begun.count(str(setup.source.id))
        (setup.root / "d0/f000.md").write_text("changed after the first sync looked at it")
        watch.gate.set()
        states = await ended(setup, first, *asked)
        while await setup.truth.value("SELECT count(*) FROM task WHERE state <> 'completed'"):
            await trio.sleep(0.02)

    assert begun_meanwhile == 1
    assert set(states) == {TaskState.COMPLETED}
    assert len(set(asked)) == 1
    assert first not in asked
    assert watch.overlaps == []
    assert sorted(watch.begun) == sorted([str(setup.source.id)] * 2 + [str(other.id)])
    assert await setup.truth.value(
        "SELECT text LIKE 'changed%%' FROM document WHERE source_id = %s AND path LIKE '%%f000.md'",
        setup.source.id,
    )


async def test_random_requests_never_sync_a_source_twice_at_once(setup: Setup, seed: int) -> None:
    fill(setup.root, 10)
    other = await second_source(setup)
    watch = Watch(setup)
    asked: set[UUID] = set()

    async def ask(rng: random.Random) -> None:
        for _ in range(10):
            if rng.random() < 0.2:
                (task_id,) = await setup.truth.queue.add([task_of(TaskKind.SYNC_ALL)])
            else:
                task_id = await setup.rules.request_sync(rng.choice([setup.source.id, other.id]))
            asked.add(task_id)
            await trio.sleep(rng.uniform(0, 0.05))

    async with working(setup, watch, workers=3):
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(ask, random.Random(f"{seed}/{number}"))
        states = await ended(setup, *asked)
        while await setup.truth.value("SELECT count(*) FROM task WHERE state <> 'completed'"):
            await trio.sleep(0.02)

    assert set(states) == {TaskState.COMPLETED}
    assert watch.overlaps == []
    assert len(await setup.paths()) == 10


async def test_a_pause_ends_a_running_sync_and_a_resume_syncs_again(setup: Setup) -> None:
    fill(setup.root, 20)
    watch = Watch(setup)
    watch.close_gate()
    running = await setup.rules.request_sync(setup.source.id)

    async with working(setup, watch):
        await watch.at_gate.wait()
        waiting = await setup.rules.request_sync(setup.source.id)
        paused = await setup.rules.update(setup.source.id, enabled=False)
        watch.gate.set()
        assert await ended(setup, running, waiting) == [TaskState.CANCELLED] * 2
        while watch.running:
            await trio.sleep(0.02)

        assert (paused.enabled, paused.name) == (False, setup.source.name)
        assert (await setup.state()).status is SyncStatus.IDLE
        assert await setup.paths() == []
        with pytest.raises(Conflict, match="disabled"):
            await setup.rules.request_sync(setup.source.id)
        assert await setup.truth.value("SELECT count(*) FROM task WHERE state = 'queued'") == 0

        await setup.rules.update(setup.source.id, enabled=True)
        while (await setup.state()).status is not SyncStatus.COMPLETED:
            await trio.sleep(0.02)

    assert len(await setup.paths()) == 20


async def test_a_pause_that_a_claim_slipped_by_ends_the_sync_at_its_next_commit(
    setup: Setup,
) -> None:
    """The task is not cancelled, as when it was claimed from a queue that the pause had just looked at."""
    fill(setup.root, 40)
    claim = await setup.claim()
    fetch, fetched = setup.connector.fetch, 0

    async def fetch_and_pause(item: Item) -> bytes:
        nonlocal fetched
        fetched += 1
        if fetched == 15:  # the first item of the third page
            await setup.truth.value("UPDATE source SET enabled = false")
        return await read_one(fetch, item)

    setup.connector.fetch = one_by_one(fetch_and_pause)  # type: ignore[method-assign]
    await setup.attempt(claim)

    assert (fetched, len(await setup.paths())) == (21, 14)
    await setup.truth.queue.settle([Outcome(claim)])
    assert (await setup.state()).status is SyncStatus.IDLE


async def test_a_change_does_not_undo_a_pause_that_came_meanwhile(setup: Setup) -> None:
    validate = setup.connector.validate

    async def validate_slowly(config: dict[str, object]) -> dict[str, object]:
        await setup.rules.update(setup.source.id, enabled=False)
        return await validate(config)

    setup.connector.validate = validate_slowly  # type: ignore[method-assign]
    changed = await setup.rules.update(
        setup.source.id, name="renamed", config={"paths": [str(setup.root)]}
    )

    assert (changed.name, changed.enabled) == ("renamed", False)


async def test_another_configuration_is_synced_and_the_same_one_is_not(setup: Setup) -> None:
    (setup.root / "in").mkdir()

    async def queued() -> object:
        return await setup.truth.value("SELECT count(*) FROM task WHERE state = 'queued'")

    await setup.rules.update(setup.source.id, name="renamed")
    await setup.rules.update(setup.source.id, enabled=True)
    await setup.rules.update(setup.source.id, config={"paths": [str(setup.root)]})
    assert await queued() == 0
    await setup.rules.update(setup.source.id, config={"paths": [str(setup.root / "in")]})
    assert await queued() == 1


async def test_a_source_removed_in_the_middle_of_its_sync_is_gone(setup: Setup) -> None:
    fill(setup.root, 20)
    watch = Watch(setup)
    running = await setup.rules.request_sync(setup.source.id)
    async with working(setup, watch):
        assert await ended(setup, running) == [TaskState.COMPLETED]
        (setup.root / "d0/f000.md").write_text("changed")
        watch.close_gate()
        running = await setup.rules.request_sync(setup.source.id)
        await watch.at_gate.wait()
        await setup.rules.remove(setup.source.id)
        watch.gate.set()
        assert await ended(setup, running) == [TaskState.CANCELLED]
        while watch.running:
            await trio.sleep(0.02)

    assert await setup.truth.documents.count() == 0
    assert await setup.truth.sources.sync_state(setup.source.id) is None
    assert await setup.truth.value("SELECT count(*) FROM item_issue") == 0


async def test_a_removal_that_meets_the_scheduler_waits_and_is_not_a_deadlock(
    setup: Setup,
) -> None:
    """The scheduler holds a schedule and enqueues; the removal cancels tasks and takes schedules along."""
    truth = setup.truth
    rules = setup.rules_with_schedules()
    source = await rules.create(
        "scheduled", "localfs", {"paths": [str(setup.root)]}, created_by=None
    )
    asked = await rules.request_sync(source.id)
    schedules = "SELECT count(*) FROM schedule WHERE source_id = %s"
    assert await truth.value(schedules, source.id) == 1

    async with trio.open_nursery() as nursery, truth.pool.transaction() as tx:
        await tx.connection.execute("SELECT 1 FROM schedule FOR UPDATE")
        nursery.start_soon(rules.remove, source.id)
        await truth.blocked(1)
        assert await truth.queue.enqueue(tx, [sync_task(source.id)]) == [asked]

    assert await ended(setup, asked) == [TaskState.CANCELLED]
    assert await truth.value(schedules, source.id) == 0


async def test_sync_all_asks_for_every_source_that_is_not_paused_and_merges(setup: Setup) -> None:
    truth = setup.truth
    paused, third = await second_source(setup), await truth.add_source("third")
    await setup.rules.update(paused.id, enabled=False)
    waiting = await setup.rules.request_sync(third.id)
    handler = SyncAll(truth.pool, truth.sources, truth.queue)
    await truth.queue.add([task_of(TaskKind.SYNC_ALL)])
    (claim,) = await truth.queue.claim(await setup.live(), 1, [TaskKind.SYNC_ALL])

    await handler(Attempt(claim, trio.Event()))
    await handler(Attempt(claim, trio.Event()))  # once more, as after an end that was not recorded
    tasks = await truth.admin.list(TaskFilter(state=TaskState.QUEUED), limit=10)
    assert {str(task.payload["source_id"]) for task in tasks} == {
        str(setup.source.id),
        str(third.id),
    }
    assert len(tasks) == 2
    assert waiting in {task.id for task in tasks}


async def test_sync_all_that_lost_its_claim_asks_for_nothing(setup: Setup) -> None:
    truth = setup.truth
    await truth.queue.add([task_of(TaskKind.SYNC_ALL)])
    (claim,) = await truth.queue.claim(await setup.live(), 1, [TaskKind.SYNC_ALL])
    await setup.die()

    with pytest.raises(ClaimLost):
        await SyncAll(truth.pool, truth.sources, truth.queue)(Attempt(claim, trio.Event()))

    assert await truth.value("SELECT count(*) FROM task WHERE kind = 'sync_source'") == 0
