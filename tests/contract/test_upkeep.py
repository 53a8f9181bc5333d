"""What keeps Sercha tidy: pruning, rebuilding every copy; and who lives and does what."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio

from sercha.adapters.embedded_index.index import open_embedded_index
from sercha.adapters.postgres.accounts import PostgresAccountStore
from sercha.adapters.postgres.copies import PostgresCopyStore
from sercha.adapters.postgres.nodes import NODE_SILENCE, PostgresNodeStore
from sercha.adapters.postgres.retention import PostgresRetentionStore
from sercha.domain.task import Claim, NewTask, TaskKind
from sercha.errors import ClaimLost, Rejected
from sercha.services.attempt import Attempt, Interrupted
from sercha.services.follow import Follower
from sercha.services.ports import Node
from sercha.services.ports.task_admin import TaskFilter
from sercha.services.prune import Prune
from sercha.services.reindex import Reindex
from sercha.services.task_kinds import sync_key, sync_task, task_of
from tests.support.truth import Truth, open_truth

NOW = datetime.now(UTC)


@pytest.fixture
async def truth(postgres_url: str):
    async with open_truth(postgres_url) as truth:
        yield truth


async def claim(truth: Truth, task: NewTask) -> Claim:
    owner = uuid4()
    await truth.live(owner)
    await truth.queue.add([task])
    (claimed,) = await truth.queue.claim(owner, 1, [task.kind])
    return claimed


async def ended_task(truth: Truth, state: str, days: float) -> UUID:
    (task_id,) = await truth.queue.add([NewTask("errand", {})])
    await truth.value(
        "UPDATE task SET state = %s, finished_at = now() - make_interval(secs => %s) WHERE id = %s",
        state,
        days * 86_400,
        task_id,
    )
    return task_id


# Kinds -----------------------------------------------------------------------------------------------


def test_every_kind_has_a_task_that_waits_once_and_runs_once() -> None:
    source_id = uuid4()
    payloads: dict[TaskKind, dict[str, object]] = {
        TaskKind.SYNC_SOURCE: {"source_id": str(source_id)}
    }
    tasks = {kind: task_of(kind, payloads.get(kind)) for kind in TaskKind}

    assert tasks[TaskKind.SYNC_SOURCE] == sync_task(source_id)
    assert tasks[TaskKind.SYNC_SOURCE].concurrency_key == sync_key(source_id)
    assert [task.kind for task in tasks.values()] == list(TaskKind)
    assert all(task.dedupe_key and task.concurrency_key for task in tasks.values())
    limits = {kind for kind, task in tasks.items() if task.time_limit is None}
    assert limits == {TaskKind.SYNC_SOURCE}, "a sync takes as long as it takes"


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("errand", {}),
        ("sync_source", {}),
        ("sync_source", {"source_id": "x"}),
        ("sync_source", {"source_id": str(uuid4()), "more": 1}),
        ("prune", {"days": 3}),
    ],
)
def test_a_wrong_kind_or_payload_is_refused(kind: str, payload: dict[str, object]) -> None:
    with pytest.raises(Rejected):
        task_of(kind, payload)


# Prune -----------------------------------------------------------------------------------------------


def prune_on(truth: Truth, **bounds: int) -> Prune:
    return Prune(PostgresRetentionStore(truth.pool), truth.feed, **bounds)


async def test_prune_removes_what_is_old_and_keeps_the_rest(truth: Truth) -> None:
    kept = {
        await ended_task(truth, "completed", 6.9),
        await ended_task(truth, "dead", 29),
        await ended_task(truth, "cancelled", 29),
    }
    for state, days in (("completed", 7.1), ("dead", 31), ("cancelled", 31)):
        await ended_task(truth, state, days)
    queued = await truth.queue.add([NewTask("errand", {})])
    await truth.value("UPDATE task SET created_at = '2020-01-01' WHERE id = %s", *queued)
    running = await claim(truth, NewTask("long", {}))
    await truth.value("UPDATE task SET claimed_at = '2020-01-01' WHERE id = %s", running.task_id)

    mine = await claim(truth, task_of(TaskKind.PRUNE))
    await prune_on(truth, batch=2)(Attempt(mine, trio.Event()))

    left = {task.id for task in await truth.admin.list(TaskFilter(), limit=100)}
    assert left == kept | {*queued, running.task_id, mine.task_id}


async def test_prune_goes_on_until_nothing_is_left_in_bounded_batches(truth: Truth) -> None:
    for _ in range(7):
        await ended_task(truth, "completed", 8)
    store = PostgresRetentionStore(truth.pool)
    remove = partial(store.remove_tasks, completed=0.0, others=0.0)

    assert await remove(limit=3) == 3
    await prune_on(truth, batch=3)(
        Attempt(await claim(truth, task_of(TaskKind.PRUNE)), trio.Event())
    )
    assert await truth.value("SELECT count(*) FROM task WHERE kind = 'errand'") == 0


async def test_prune_stops_between_batches_when_the_process_drains(truth: Truth) -> None:
    await ended_task(truth, "completed", 8)
    drain = trio.Event()
    drain.set()

    with pytest.raises(Interrupted):
        await prune_on(truth)(Attempt(await claim(truth, task_of(TaskKind.PRUNE)), drain))


async def test_prune_does_not_wait_for_a_task_that_somebody_holds(truth: Truth) -> None:
    held, free = [await ended_task(truth, "dead", 31) for _ in range(2)]
    async with truth.pool.transaction() as tx:
        await tx.connection.execute("SELECT 1 FROM task WHERE id = %s FOR UPDATE", [held])
        with trio.fail_after(10):
            await prune_on(truth)(
                Attempt(await claim(truth, task_of(TaskKind.PRUNE)), trio.Event())
            )

    assert await truth.admin.get(held) is not None
    assert await truth.admin.get(free) is None


async def test_prune_removes_expired_sessions_and_silent_nodes(truth: Truth) -> None:
    accounts, value = PostgresAccountStore(truth.pool), truth.value
    user = uuid4()
    await value(
        """INSERT INTO account (id, email, name, role, password_hash, team_id)
           VALUES (%s, 'a@b.c', 'Ada', 'admin', 'x', %s)""",
        user,
        uuid4(),
    )
    for hours in (-1, 1):
        await accounts.start_session(
            user, uuid4(), str(hours).encode(), NOW + timedelta(hours=hours)
        )
    for days in (0.5, 1.5):
        await value(
            """INSERT INTO node (id, role, host, pid, version, seen_at)
               VALUES (%s, 'api', 'h', 1, '1', now() - make_interval(secs => %s))""",
            uuid4(),
            days * 86_400,
        )
    await prune_on(truth)(Attempt(await claim(truth, task_of(TaskKind.PRUNE)), trio.Event()))

    for table in ("session", "node"):
        assert await value(f"SELECT count(*) FROM {table}") == 1, table


# Reindex ---------------------------------------------------------------------------------------------


async def test_reindex_makes_every_copy_anew_while_the_old_ones_answer(
    truth: Truth, tmp_path: Path
) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="tea", b="oolong")
    handler = Reindex(truth.pool, PostgresCopyStore(), truth.queue)

    async with (
        open_embedded_index(tmp_path / "one") as one,
        open_embedded_index(tmp_path / "two") as two,
        trio.open_nursery() as nursery,
    ):
        followers = [
            Follower(
                index,
                truth.feed,
                truth.documents,
                truth.notices,
                lambda index=index: index.consumer_id,
            )
            for index in (one, two)
        ]
        for follower in followers:
            await nursery.start(follower.run)
        before = [follower.state.rebuilds for follower in followers]
        await handler(Attempt(await claim(truth, task_of(TaskKind.REINDEX)), trio.Event()))
        with trio.fail_after(20):
            for follower, count in zip(followers, before, strict=True):
                while follower.state.rebuilds == count:
                    assert (await one.statistics()).documents == 2
                    await follower.state.changed.wait()
                await follower.catch_up()
        assert [(await index.statistics()).documents for index in (one, two)] == [2, 2]
        assert await truth.value("SELECT count(*) FROM consumer") == 2
        nursery.cancel_scope.cancel()


async def test_reindex_that_lost_its_claim_changes_nothing(truth: Truth) -> None:
    await truth.feed.register("copy")
    mine = await claim(truth, task_of(TaskKind.REINDEX))
    await truth.expire()
    await truth.queue.reap()

    with pytest.raises(ClaimLost):
        await Reindex(truth.pool, PostgresCopyStore(), truth.queue)(Attempt(mine, trio.Event()))

    assert await truth.value("SELECT count(*) FROM consumer") == 1


# Nodes -----------------------------------------------------------------------------------------------


def node(role: str, age: float = 0) -> Node:
    started_at = NOW - timedelta(seconds=age)
    return Node(uuid4(), role, "host", 7, "1.0", started_at, started_at)


async def test_nodes_are_listed_with_what_each_is_doing(truth: Truth) -> None:
    nodes, worker, api = PostgresNodeStore(truth.pool), node("worker", 60), node("api")
    for each in (worker, api):
        await nodes.beat(each)
    source = await truth.add_source("my notes")
    owner = uuid4()
    await truth.queue.register(owner, worker.id)
    await truth.queue.add([sync_task(source.id), NewTask("errand", {})])
    sync, errand = sorted(
        await truth.queue.claim(owner, 2, ["sync_source", "errand"]),
        key=lambda each: -len(each.kind),
    )
    state = await truth.sources.sync_state(source.id)
    assert state is not None
    async with truth.pool.transaction() as tx:
        await truth.sources.save_sync_state(
            tx, replace(state, task_id=sync.task_id, items_done=3, items_expected=9)
        )

    first, second = await nodes.list()
    await truth.value("UPDATE sync_state SET task_id = %s", uuid4())  # as a former sync left it
    _, later = await nodes.list()

    assert (first.node.id, first.is_alive, first.running) == (api.id, True, ())
    assert (second.node.id, second.is_alive) == (worker.id, True)
    doing = {each.task_id: each for each in second.running}
    assert doing.keys() == {sync.task_id, errand.task_id}
    mine = doing[sync.task_id]
    assert (mine.kind, mine.attempt, mine.source_id, mine.source_name) == (
        "sync_source",
        1,
        source.id,
        "my notes",
    )
    assert (mine.items_done, mine.items_expected) == (3, 9)
    assert [each.items_done for each in later.running] == [None, None]
    assert abs((mine.claimed_at - datetime.now(UTC)).total_seconds()) < 60
    assert doing[errand.task_id].source_name is None


async def test_a_silent_node_is_dead_until_it_beats_and_still_shows_its_task(truth: Truth) -> None:
    nodes, worker = PostgresNodeStore(truth.pool), node("worker")
    await nodes.beat(worker)
    owner = uuid4()
    await truth.queue.register(owner, worker.id)
    await truth.queue.add([NewTask("errand", {})])
    assert await truth.queue.claim(owner, 1, ["errand"])
    silence = "UPDATE node SET seen_at = clock_timestamp() - make_interval(secs => %s)"

    async def is_alive() -> bool:
        (state,) = await nodes.list()
        assert len(state.running) == 1
        return state.is_alive

    await truth.value(silence, NODE_SILENCE + 1)
    assert await is_alive(), "its claims live"
    await truth.expire()
    assert not await is_alive()
    await truth.value(silence, NODE_SILENCE - 5)
    assert await is_alive()
