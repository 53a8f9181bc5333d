"""Every source has a default schedule, which follows the team's settings until somebody changes it."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from sercha.adapters.postgres.accounts import PostgresAccountStore
from sercha.adapters.postgres.migrate import known_migrations, migrate
from sercha.adapters.postgres.pool import open_pool
from sercha.domain.schedule import Schedule, SlotOutcome
from sercha.domain.source import Source
from sercha.services.schedules import ScheduleChange
from tests.support.schedules import Lab, open_lab, whole_seconds_ago


@pytest.fixture
async def lab(postgres_url: str):
    async with open_lab(postgres_url) as lab:
        yield lab


async def with_default(lab: Lab, name: str) -> tuple[Source, Schedule]:
    source = await lab.truth.add_source(name)
    async with lab.pool.transaction() as tx:
        await lab.store.add_default(tx, source)
    return source, await default_of(lab, source.id)


async def default_of(lab: Lab, source_id: UUID) -> Schedule:
    [schedule] = (await lab.schedules.list(source_id=source_id, limit=10, offset=0)).schedules
    return schedule


async def set_team(lab: Lab, *, minutes: int = 60, enabled: bool = True) -> None:
    store = PostgresAccountStore(lab.pool)
    settings = await store.settings()
    changed = {"sync_interval_minutes": minutes, "sync_enabled": enabled}
    async with lab.pool.transaction() as tx:
        await store.save_settings(tx, type(settings)(**{**fields_of(settings), **changed}))


def fields_of(settings: object) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__slots__}  # type: ignore[attr-defined]


async def test_a_source_gets_one_with_the_teams_interval(lab: Lab) -> None:
    source, schedule = await with_default(lab, "notes")

    assert (schedule.name, schedule.spec, schedule.is_default) == ("sync: notes", "60m", True)
    assert schedule.payload == {"source_id": str(source.id)}
    assert schedule.next_slot == schedule.anchor + timedelta(hours=1)


async def test_a_name_that_is_taken_does_not_keep_a_source_from_getting_one(lab: Lab) -> None:
    await lab.add("sync: notes")

    source, schedule = await with_default(lab, "notes")

    assert schedule.name == f"sync: notes ({source.id})"


async def test_it_goes_with_its_source(lab: Lab) -> None:
    source, schedule = await with_default(lab, "notes")
    await lab.away_since(schedule, whole_seconds_ago(60))
    await lab.tick()

    async with lab.pool.transaction() as tx:
        await lab.truth.sources.remove(tx, source.id)

    assert await lab.store.get(schedule.id) is None
    assert await lab.truth.value("SELECT count(*) FROM schedule_slot") == 0


async def test_it_syncs_its_source_and_merges_with_a_request(lab: Lab) -> None:
    source, schedule = await with_default(lab, "notes")
    await lab.away_since(schedule, whole_seconds_ago(60))

    tick = await lab.tick()

    assert tick.outcomes == {SlotOutcome.ENQUEUED: 1}
    key = await lab.truth.value("SELECT dedupe_key FROM task")
    assert key == f"sync:{source.id}"


async def test_the_teams_interval_moves_those_that_nobody_changed(lab: Lab) -> None:
    _, followed = await with_default(lab, "a")
    _, changed = await with_default(lab, "b")
    await lab.schedules.update(changed.id, ScheduleChange(spec="1d"), version=changed.version)

    await set_team(lab, minutes=5)

    followed = await lab.schedules.get(followed.id)
    assert (followed.spec, followed.version) == ("5m", 2)
    assert followed.next_slot is not None
    assert (followed.next_slot - followed.anchor) == timedelta(minutes=5)
    changed = await lab.schedules.get(changed.id)
    assert (changed.spec, changed.is_default) == ("1d", False)


async def test_a_slot_that_is_due_survives_a_change_of_the_interval(lab: Lab) -> None:
    _, schedule = await with_default(lab, "a")
    since = whole_seconds_ago(30)
    await lab.away_since(schedule, since)

    await set_team(lab, minutes=7)
    await lab.tick()

    assert [slot for slot, _, _ in await lab.slots(schedule)] == [since]
    assert (await lab.schedules.get(schedule.id)).next_slot == since + timedelta(minutes=7)


async def test_syncs_that_are_switched_off_rest_and_what_passed_is_recorded(lab: Lab) -> None:
    _, schedule = await with_default(lab, "a")
    await set_team(lab, enabled=False)
    since = whole_seconds_ago(3 * 3600 + 60)
    await lab.away_since(schedule, since)
    off = await lab.schedules.get(schedule.id)
    assert (off.enabled, off.paused_reason) == (False, "syncs are switched off in the settings")
    assert (await lab.tick()).schedules == 0

    await set_team(lab, enabled=True)

    on = await lab.schedules.get(schedule.id)
    assert (on.enabled, on.paused_reason) == (True, None)
    hours = timedelta(hours=3)
    assert await lab.slots(schedule) == [(since, since + hours, SlotOutcome.PAUSED)]
    assert on.next_slot == since + timedelta(hours=4)


async def test_settings_that_stay_change_no_schedule(lab: Lab) -> None:
    _, schedule = await with_default(lab, "a")

    await set_team(lab)

    assert (await lab.schedules.get(schedule.id)).version == 1


async def test_the_migration_gives_one_to_each_source_that_there_is(
    empty_postgres_url: str,
) -> None:
    async with open_pool(empty_postgres_url) as pool:
        await migrate(pool, known_migrations()[:3])
        async with pool.connection() as connection:
            await connection.execute(
                """INSERT INTO source (id, name, provider_type, created_at)
                   SELECT gen_random_uuid(), 'source ' || n, 'localfs',
                          now() - interval '10 days' - n * interval '10 minutes'
                   FROM generate_series(1, 50) n"""
            )
        await migrate(pool)
        async with pool.connection() as connection:
            cursor = await connection.execute(
                """SELECT count(*), count(DISTINCT next_slot), min(next_slot) > now(),
                          max(next_slot) <= now() + interval '1 hour', count(DISTINCT source_id)
                   FROM schedule WHERE is_default AND enabled"""
            )
            assert await cursor.fetchone() == (50, 6, True, True, 50)
