"""Schedules that people change, pause and run, while the scheduler works."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import trio

from sercha.domain.schedule import SlotOutcome
from sercha.errors import Conflict
from sercha.services.ports import Transaction
from sercha.services.schedules import ScheduleChange
from tests.support.schedules import Lab, open_lab, whole_seconds_ago

ENQUEUED, COALESCED, PAUSED = SlotOutcome.ENQUEUED, SlotOutcome.COALESCED, SlotOutcome.PAUSED
HOUR = timedelta(hours=1)


@pytest.fixture
async def lab(postgres_url: str):
    async with open_lab(postgres_url) as lab:
        yield lab


async def test_an_edit_within_a_step_waits_for_it_and_loses_no_slot(lab: Lab) -> None:
    since = whole_seconds_ago(90)
    schedule = await lab.away_since(await lab.add(spec="60s"), since)
    async with trio.open_nursery() as nursery:

        @asynccontextmanager
        async def slow() -> AsyncGenerator[Transaction]:
            async with lab.pool.transaction() as tx:
                yield tx
                nursery.start_soon(edit)
                await lab.truth.blocked(1)

        async def edit() -> None:
            change = ScheduleChange(spec="1h")
            await lab.schedules.update(schedule.id, change, version=schedule.version)

        await lab.ticker.tick(slow)

    slots = await lab.slots(schedule)
    assert [slot for slot, _, _ in slots] == [since, since + timedelta(seconds=60)]
    edited = await lab.schedules.get(schedule.id)
    assert (edited.spec, edited.version) == ("1h", schedule.version + 1)
    assert edited.next_slot == edited.anchor + HOUR
    assert await lab.tasks() == 1


async def test_a_step_passes_over_what_is_being_edited_and_finds_the_new_definition(
    lab: Lab,
) -> None:
    since = whole_seconds_ago(90)
    schedule = await lab.away_since(await lab.add(spec="60s"), since)
    async with lab.pool.transaction() as tx:
        assert await lab.store.lock(tx, schedule.id) is not None
        with trio.fail_after(20):
            assert (await lab.tick()).schedules == 0
    # The edit itself gives outcomes to what was due.
    await lab.schedules.update(schedule.id, ScheduleChange(spec="2h"), version=schedule.version)

    assert (await lab.tick()).schedules == 0
    slots = await lab.slots(schedule)
    assert [slot for slot, _, _ in slots] == [since, since + timedelta(seconds=60)]
    assert [outcome for _, _, outcome in slots] == [COALESCED, ENQUEUED]


async def test_the_second_of_two_edits_of_one_version_is_refused(lab: Lab) -> None:
    schedule = await lab.add()
    await lab.schedules.update(schedule.id, ScheduleChange(spec="2h"), version=schedule.version)

    with pytest.raises(Conflict) as caught:
        await lab.schedules.update(schedule.id, ScheduleChange(spec="3h"), version=schedule.version)

    assert caught.value.error_code == "schedule-changed"
    assert (await lab.schedules.get(schedule.id)).spec == "2h"


async def test_what_falls_due_during_a_pause_is_recorded_as_paused(lab: Lab) -> None:
    schedule = await lab.add(spec="60s")
    await lab.schedules.pause(schedule.id)
    since = whole_seconds_ago(300)
    await lab.away_since(schedule, since)

    assert (await lab.tick()).schedules == 0
    resumed = await lab.schedules.resume(schedule.id)

    assert await lab.slots(schedule) == [(since, since + timedelta(seconds=300), PAUSED)]
    assert resumed.next_slot == since + timedelta(seconds=360)
    assert await lab.tasks() == 0


async def test_running_now_is_recorded_and_moves_nothing(lab: Lab) -> None:
    schedule = await lab.add()

    task_id = await lab.schedules.run_now(schedule.id)

    [(_, _, outcome)] = await lab.slots(schedule)
    assert outcome is SlotOutcome.MANUAL
    assert await lab.truth.admin.get(task_id) is not None
    assert (await lab.schedules.get(schedule.id)).next_slot == schedule.next_slot
