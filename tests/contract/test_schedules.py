"""Slots become tasks exactly once, on PostgreSQL: by policy, under races, edits and lost answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockd.postgres import TrioConnection
from sercha.adapters.postgres.pool import open_pool
from sercha.domain.schedule import CatchUp, ScheduleKind, SlotOutcome
from sercha.errors import Unavailable
from sercha.services.ports import Transaction
from sercha.services.schedules import ScheduleChange
from sercha.testing import open_proxy
from tests.support.postgres import PostgresServer
from tests.support.schedules import Lab, lab_on, open_lab, source_payload, whole_seconds_ago

ENQUEUED, COALESCED = SlotOutcome.ENQUEUED, SlotOutcome.COALESCED
SKIPPED, PAUSED = SlotOutcome.SKIPPED, SlotOutcome.PAUSED
HOUR = timedelta(hours=1)


@pytest.fixture
async def lab(postgres_url: str):
    async with open_lab(postgres_url) as lab:
        yield lab


async def test_a_due_slot_becomes_one_task_and_the_next_slot_keeps_the_grid(lab: Lab) -> None:
    since = whole_seconds_ago(10)
    schedule = await lab.away_since(await lab.add(priority=7), since)

    tick = await lab.tick()
    again = await lab.tick()

    [(slot, last, outcome)] = await lab.slots(schedule)
    assert (slot, last, outcome) == (since, since, ENQUEUED)
    assert (await lab.schedules.get(schedule.id)).next_slot == since + HOUR
    assert (tick.schedules, again.schedules) == (1, 0)
    [claim] = await claimed(lab)
    assert claim.kind == "sync_all"
    assert await lab.truth.value("SELECT priority FROM task") == 7
    assert again.wait is not None
    assert 3500 < again.wait < 3600


async def claimed(lab: Lab) -> list[Any]:
    await lab.truth.live(owner := uuid4())
    return await lab.truth.queue.claim(owner, 100, ["sync_all", "sync_source", "prune", "reindex"])


async def test_eight_schedulers_without_a_lease_enqueue_each_of_1000_slots_once(lab: Lab) -> None:
    await lab.add_many(1_000)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(lab.tick)

    assert await lab.tasks() == 1_000
    assert await lab.truth.value("SELECT count(DISTINCT task_id) FROM schedule_slot") == 1_000
    assert await lab.tasks_without_slot() == 0


async def test_eight_schedulers_enqueue_each_of_1000_slots_of_one_schedule_once(lab: Lab) -> None:
    source_id = (await lab.truth.add_source()).id
    since = whole_seconds_ago(999)
    schedule = await lab.add(
        "a", "1s", catch_up=CatchUp.SKIP, max_late=5_000,
        task_kind="sync_source", payload=source_payload(source_id),
    )  # fmt: skip
    await lab.away_since(schedule, since)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(lab.tick)

    slots = [slot for slot, _, _ in await lab.slots(schedule)]
    assert len(slots) >= 1_000
    assert slots == [since + timedelta(seconds=number) for number in range(len(slots))]
    # The first one's task is queued, and does the work of all.
    assert await lab.tasks() == 1
    outcomes = await lab.outcomes(schedule)
    assert outcomes == {ENQUEUED: 1, COALESCED: len(slots) - 1}


async def test_a_slot_with_an_outcome_is_never_enqueued_again(lab: Lab) -> None:
    """Whatever `next_slot` says: after a restore by hand, say."""
    schedule = await lab.away_since(await lab.add(spec="60s"), whole_seconds_ago(3_600))
    await lab.tick()
    before = await lab.slots(schedule)
    tasks = await lab.tasks()

    for back in (3_600, 1_800, 60):
        await lab.truth.value(
            "UPDATE schedule SET next_slot = anchor + make_interval(secs => %s) WHERE id = %s",
            3_600 - back,
            schedule.id,
        )
        await lab.tick()

    assert await lab.tasks() == tasks
    assert (await lab.slots(schedule))[: len(before)] == before
    assert await lab.doubled() == 0


async def test_a_commit_without_an_answer_neither_loses_nor_doubles_a_slot(
    lab: Lab, postgres_server: PostgresServer, postgres_url: str
) -> None:
    await lab.add_many(20)
    target = conninfo_to_dict(postgres_server.tcp_url)
    async with open_proxy(str(target["host"]), int(str(target["port"]))) as proxy:
        url = make_conninfo(
            postgres_server.tcp_url,
            dbname=conninfo_to_dict(postgres_url)["dbname"],
            host=proxy.host,
            port=proxy.port,
        )
        async with open_pool(url) as pool:
            far = lab_on(lab.truth, pool)

            @asynccontextmanager
            async def deaf() -> AsyncGenerator[Transaction]:
                async with pool.transaction() as tx:
                    yield tx
                    proxy.lose_next_reply()

            with pytest.raises(Unavailable) as caught:
                await far.ticker.tick(deaf)
            assert caught.value.error_code == "commit-unknown"
            await until_settled(lab)
            proxy.heal()
            await far.tick()

    assert await lab.tasks() == 20
    assert await lab.truth.value("SELECT count(*) FROM schedule_slot") == 20
    assert await lab.tasks_without_slot() == 0


async def until_settled(lab: Lab) -> None:
    """Wait until no session holds a schedule any more."""
    statement = "SELECT count(*) FROM (SELECT FROM schedule FOR UPDATE SKIP LOCKED) AS free"
    with trio.fail_after(10):
        while await lab.truth.value(statement) != 20:
            await trio.sleep(0.01)


async def test_a_step_that_fails_leaves_neither_slot_nor_task(lab: Lab) -> None:
    await lab.add_many(10)

    @asynccontextmanager
    async def failing() -> AsyncGenerator[Transaction]:
        async with lab.pool.transaction() as tx:
            yield tx
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        await lab.ticker.tick(failing)

    assert await lab.tasks() == 0
    assert await lab.truth.value("SELECT count(*) FROM schedule_slot") == 0
    assert (await lab.tick()).schedules == 10


async def test_coalesce_runs_the_newest_slot_of_26_hours_and_records_the_others(lab: Lab) -> None:
    since = whole_seconds_ago(26 * 3600 + 60)
    schedule = await lab.away_since(await lab.add(), since)

    await lab.tick()

    assert await lab.slots(schedule) == [
        (since, since + 25 * HOUR, COALESCED),
        (since + 26 * HOUR, since + 26 * HOUR, ENQUEUED),
    ]
    assert await lab.tasks() == 1
    assert await lab.truth.value("SELECT count(DISTINCT task_id) FROM schedule_slot") == 1


async def test_a_stretch_names_the_queued_task_that_its_run_merged_into(lab: Lab) -> None:
    schedule = await lab.add()
    waiting = await lab.schedules.run_now(schedule.id)
    await lab.away_since(schedule, whole_seconds_ago(26 * 3600 + 60))

    await lab.tick()

    tasks = "SELECT count(*) FROM schedule_slot WHERE task_id = %s"
    assert await lab.truth.value(tasks, waiting) == 3  # by hand, the stretch, the newest


async def test_all_runs_the_newest_ones_and_skips_what_is_older(lab: Lab) -> None:
    since = whole_seconds_ago(26 * 3600 + 60)
    asked = await lab.add(catch_up=CatchUp.ALL, runs_max=3)
    schedule = await lab.away_since(asked, since)

    await lab.tick()

    slots = await lab.slots(schedule)
    assert slots[0] == (since, since + 23 * HOUR, SKIPPED)
    assert [slot for slot, _, _ in slots[1:]] == [since + number * HOUR for number in (24, 25, 26)]
    # One task waits under the key of the kind, and does the work of all three.
    assert [outcome for _, _, outcome in slots[1:]] == [ENQUEUED, COALESCED, COALESCED]
    assert await lab.tasks() == 1


async def test_skip_runs_only_what_is_not_too_late(lab: Lab) -> None:
    since = whole_seconds_ago(26 * 3600 + 60)
    asked = await lab.add(catch_up=CatchUp.SKIP, max_late=2 * 3600)
    schedule = await lab.away_since(asked, since)

    await lab.tick()

    slots = await lab.slots(schedule)
    assert slots[0] == (since, since + 24 * HOUR, SKIPPED)
    assert [slot for slot, _, _ in slots[1:]] == [since + 25 * HOUR, since + 26 * HOUR]


@pytest.mark.parametrize(
    ("kind", "spec"), [(ScheduleKind.INTERVAL, "1s"), (ScheduleKind.CRON, "* * * * *")]
)
@pytest.mark.parametrize("policy", list(CatchUp))
async def test_a_year_of_missed_slots_takes_one_step_and_few_rows(
    lab: Lab, kind: ScheduleKind, spec: str, policy: CatchUp
) -> None:
    asked = await lab.add(spec=spec, kind=kind, catch_up=policy, runs_max=5, max_late=60)
    since = whole_seconds_ago(365 * 86_400).replace(second=0)
    schedule = await lab.away_since(asked, since)

    tick = await lab.tick()

    slots = await lab.slots(schedule)
    assert len(slots) < 110
    assert slots[0][0] == since
    assert tick.wait is None or tick.wait > -1
    step = timedelta(seconds=1 if kind is ScheduleKind.INTERVAL else 60)
    for before, after in pairwise(slots):
        assert after[0] == before[1] + step, "no slot is left out, none is there twice"


async def test_2000_due_schedules_take_a_bounded_number_of_statements(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lab.add_many(2_000)
    statements: list[object] = []
    execute = TrioConnection.execute

    async def counting(self: Any, query: Any, *args: Any, **more: Any) -> Any:
        statements.append(query)
        return await execute(self, query, *args, **more)

    monkeypatch.setattr(TrioConnection, "execute", counting)
    tick = await lab.tick()

    assert tick.schedules == 2_000
    assert tick.outcomes == {ENQUEUED: 2_000}
    # Four steps of six statements; a step is cut short by its time, so a busy machine takes some more.
    assert len(statements) <= 8 * 6 + 1
    assert await lab.tasks() == 2_000


async def test_a_task_that_waits_already_does_the_work_of_a_slot(lab: Lab) -> None:
    since = whole_seconds_ago(5)
    first = await lab.away_since(await lab.add("a"), since)
    second = await lab.away_since(await lab.add("b"), since + timedelta(seconds=1))

    tick = await lab.tick()

    assert tick.outcomes == {ENQUEUED: 1, COALESCED: 1}
    assert await lab.outcomes(first) == {ENQUEUED: 1}
    assert await lab.outcomes(second) == {COALESCED: 1}
    assert await lab.truth.value("SELECT count(DISTINCT task_id) FROM schedule_slot") == 1


async def test_an_unknown_zone_pauses_its_schedule_and_no_other(lab: Lab) -> None:
    broken = await lab.add("broken", "0 3 * * *", kind=ScheduleKind.CRON, tz="Europe/Berlin")
    await lab.truth.value("UPDATE schedule SET tz = 'Mars/Olympus' WHERE id = %s", broken.id)
    await lab.away_since(broken, whole_seconds_ago(60))
    await lab.add_many(5)

    tick = await lab.tick()

    assert tick.schedules == 5
    shown = await lab.schedules.get(broken.id)
    assert not shown.enabled
    assert shown.paused_reason == "tz: the time zone 'Mars/Olympus' is not known on this machine"
    mended = await lab.schedules.update(
        broken.id, ScheduleChange(tz="Europe/Paris"), version=shown.version
    )
    assert (await lab.schedules.resume(mended.id)).enabled


async def test_a_kind_of_a_newer_version_is_left_to_it(lab: Lab) -> None:
    schedule = await lab.away_since(await lab.add(), whole_seconds_ago(60))
    await lab.truth.value("UPDATE schedule SET task_kind = 'of_the_future'")
    await lab.add_many(5)

    assert (await lab.tick()).schedules == 5
    assert await lab.slots(schedule) == []
    assert (await lab.schedules.get(schedule.id)).enabled


async def test_slots_of_a_paused_source_are_recorded_and_do_not_run(lab: Lab) -> None:
    source = await lab.truth.add_source()
    asked = await lab.add(task_kind="sync_source", payload=source_payload(source.id))
    schedule = await lab.away_since(asked, whole_seconds_ago(3 * 3600))
    await lab.truth.value("UPDATE source SET enabled = false")

    await lab.tick()

    [(_, _, outcome)] = await lab.slots(schedule)
    assert outcome is PAUSED
    assert await lab.tasks() == 0


async def test_old_outcomes_are_forgotten_and_new_ones_kept(lab: Lab) -> None:
    schedule = await lab.away_since(await lab.add(), whole_seconds_ago(5 * 3600))
    await lab.tick()
    await lab.truth.value(
        "UPDATE schedule_slot SET recorded_at = recorded_at - interval '31 days' "
        "WHERE outcome = 'coalesced'"
    )

    assert await lab.ticker.forget() == 1
    assert await lab.ticker.forget() == 0
    assert await lab.outcomes(schedule) == {ENQUEUED: 1}


async def test_a_changed_schedule_sends_a_notice_and_a_step_sends_none(
    lab: Lab, postgres_url: str
) -> None:
    heard: list[str] = []
    schedule = await lab.away_since(await lab.add(), whole_seconds_ago(60))
    async with lab.pool.dedicated("test") as ear:
        await ear.execute("LISTEN sercha_schedule")
        await lab.tick()
        await lab.schedules.pause(schedule.id)
        await lab.truth.value("SELECT pg_notify('sercha_schedule', 'end')")
        while "end" not in heard:
            heard.extend(notice.payload for notice in await ear.receive_notifies())

    assert heard == ["", "end"]
