"""The feed of events: what triggers record, and that no reader misses any of it."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import trio

from sercha.adapters.postgres.events import PostgresEventFeed
from sercha.adapters.postgres.notices import open_notices
from sercha.errors import Rejected
from sercha.services.background import running
from sercha.services.events import CHANNEL, EventBatch, Events, Watch
from sercha.services.ports.events import Event, EventPosition
from tests.support.truth import Truth

DAY = 24 * 3600.0
SUBJECT = UUID(int=7)


@pytest.fixture
def feed(truth: Truth) -> PostgresEventFeed:
    return PostgresEventFeed(truth.pool)


async def read(
    feed: PostgresEventFeed, after: EventPosition, limit: int = 1_000
) -> tuple[list[Event], EventPosition]:
    page = await feed.read(after, limit=limit)
    assert page is not None
    assert page.is_last
    return list(page.events), page.until


async def told(truth: Truth, kind: str, subject: UUID = SUBJECT) -> None:
    await truth.value("SELECT record_event(%s, %s, '{}')", kind, subject)


async def types_of(truth: Truth, feed: PostgresEventFeed, *statements: str) -> list[str]:
    position = await feed.now()
    for statement in statements:
        await truth.value(statement)
    return [event.type for event in (await read(feed, position))[0]]


async def test_a_source_is_told_of_when_it_is_added_changed_and_removed(
    truth: Truth, feed: PostgresEventFeed
) -> None:
    position = await feed.now()
    source = await truth.add_source("notes")
    events, _ = await read(feed, position)

    assert [(each.type, each.subject) for each in events] == [("source.added", source.id)]
    assert events[0].data == {"name": "notes", "provider_type": "localfs", "enabled": True}
    changed = await types_of(
        truth,
        feed,
        "UPDATE source SET enabled = false",
        "UPDATE source SET updated_at = clock_timestamp()",
        "DELETE FROM source",
    )
    assert changed == ["source.changed", "source.removed"]


async def test_a_sync_is_told_of_when_it_begins_and_ends_and_not_of_its_progress(
    truth: Truth, feed: PostgresEventFeed
) -> None:
    await truth.add_source()

    told = await types_of(
        truth,
        feed,
        "UPDATE sync_state SET status = 'running', started_at = now()",
        "UPDATE sync_state SET items_done = 5, cursor = 'x', stats = '{\"a\": 1}'",
        "UPDATE sync_state SET status = 'failed', error = 'away'",
        "UPDATE sync_state SET status = 'running', error = NULL",
        "UPDATE sync_state SET status = 'completed', completed_at = now()",
    )

    assert told == ["sync.started", "sync.failed", "sync.started", "sync.finished"]


async def test_a_schedule_is_told_of_by_what_people_change_and_not_by_its_slots(
    truth: Truth, feed: PostgresEventFeed
) -> None:
    told = await types_of(
        truth,
        feed,
        "UPDATE schedule SET next_slot = next_slot + interval '1 day'",
        "UPDATE schedule SET spec = '12h', version = version + 1",
        "UPDATE schedule SET enabled = false, version = version + 1",
        "UPDATE schedule SET enabled = true, version = version + 1",
        "DELETE FROM schedule",
    )

    names = ("changed", "paused", "resumed", "removed")
    assert told == [f"schedule.{name}" for name in names]


async def test_what_is_rolled_back_is_not_told(truth: Truth, feed: PostgresEventFeed) -> None:
    position = await feed.now()
    with pytest.raises(RuntimeError):
        async with truth.pool.transaction() as tx:
            await truth.sources.remove(tx, (await truth.add_source()).id)
            raise RuntimeError

    assert [each.type for each in (await read(feed, position))[0]] == ["source.added"]


async def test_a_transaction_that_commits_later_with_a_lower_number_is_not_missed(
    truth: Truth, feed: PostgresEventFeed
) -> None:
    position = await feed.now()
    async with truth.pool.connection() as slow:
        async with slow.transaction():
            await slow.execute("SELECT record_event('slow', NULL, '{}')")
            await told(truth, "fast")
            first, position = await read(feed, position)
        second, position = await read(feed, position)
    third, _ = await read(feed, position)

    assert [[each.type for each in events] for events in (first, second, third)] == [
        ["fast"],
        ["slow"],
        [],
    ]
    assert second[0].id < first[0].id


async def test_pages_of_a_stretch_give_each_event_once(
    truth: Truth, feed: PostgresEventFeed
) -> None:
    position = await feed.now()
    for number in range(5):
        await told(truth, f"n{number}")
    until = await feed.now()
    await told(truth, "later")

    seen: list[str] = []
    above, is_last = 0, False
    while not is_last:
        page = await feed.read(position, until, above=above, limit=2)
        assert page is not None
        assert 0 < len(page.events) <= 2
        seen += [each.type for each in page.events]
        above, is_last = max(each.id for each in page.events), page.is_last

    assert seen == [f"n{number}" for number in range(5)]


async def test_a_position_goes_through_text(feed: PostgresEventFeed) -> None:
    position = await feed.now()

    assert EventPosition.parse(str(position)) == position
    high = 2**40
    many = replace(position, snapshot=f"3:{high}:{','.join(map(str, range(3, 900)))}")
    assert EventPosition.parse(str(many)).snapshot == "3:3:", "shows less, so nothing is missed"


@pytest.mark.parametrize(
    "text",
    ["", "7", "1/00000001/5", "1/00000001/5:9:3:", "1/00000001/5:3:9:9", "1/00000001/5:3:9:4,4",
     "1/00000001/5:3:9:,", "1/00000001/5:0:9:",
        "1/00000001/5:3:1125899906842624:", "1/00000001/5:3:99999999999999999999:",
     "1/00000001/5:3:9:\n", "1/00000001/5:٣:9:", "x" * 5_000],
)  # fmt: skip
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        EventPosition.parse(text)

    assert caught.value.error_code == "bad-position"


async def test_a_position_of_another_history_or_the_future_means_nothing(
    feed: PostgresEventFeed,
) -> None:
    position = await feed.now()
    ahead = 2**50 + 1

    assert await feed.read(replace(position, timeline="1/00000001/1"), limit=1) is None
    assert await feed.read(replace(position, snapshot=f"{ahead}:{ahead}:"), limit=1) is None


async def test_a_position_older_than_what_was_removed_means_nothing(
    truth: Truth, feed: PostgresEventFeed
) -> None:
    before = await feed.now()
    await told(truth, "old")
    between = await feed.now()
    await truth.value("UPDATE event SET at = clock_timestamp() - interval '25 hours'")
    await told(truth, "new")

    assert await feed.remove(age=DAY, limit=100) > 0
    assert await feed.remove(age=DAY, limit=100) == 0

    assert await feed.read(before, limit=10) is None
    page = await feed.read(between, limit=10)
    assert page is not None
    assert [each.type for each in page.events] == ["new"]


async def test_nothing_is_removed_that_an_open_transaction_may_still_hide(
    truth: Truth, feed: PostgresEventFeed
) -> None:
    async with truth.pool.connection() as slow, slow.transaction():
        await slow.execute("SELECT pg_current_xact_id()")
        position = await feed.now()
        await told(truth, "old")
        await truth.value("UPDATE event SET at = clock_timestamp() - interval '25 hours'")
        await feed.remove(age=DAY, limit=100)
        assert [each.type for each in (await read(feed, position))[0]] == ["old"]


async def test_a_horizon_of_another_server_is_no_horizon(
    truth: Truth, feed: PostgresEventFeed
) -> None:
    """As after a dump and restore: its transaction numbers belong to the future here."""
    position = await feed.now()
    await truth.value("UPDATE event_horizon SET xid = '1000000000000'")
    await truth.value("UPDATE event SET xid = '1000000000000'")
    assert (await read(feed, position))[0] == []

    await told(truth, "ours")
    await truth.value("UPDATE event SET at = clock_timestamp() - interval '25 hours'")
    await feed.remove(age=DAY, limit=1_000)

    assert await truth.value("SELECT count(*) FROM event") == 0
    assert await feed.read(position, limit=10) is None


@asynccontextmanager
async def events_of(truth: Truth, **options: Any):
    options = {"poll_interval": 0.02, **options}
    async with open_notices(truth.pool, [CHANNEL]) as notices:
        events = Events(PostgresEventFeed(truth.pool), notices, **options)
        async with running(events.run):
            await level(events, await PostgresEventFeed(truth.pool).now())
            yield events


async def level(events: Events, position: EventPosition) -> None:
    """Wait until the reader has got as far as *position*."""
    high = int(position.snapshot.split(":")[1])
    with trio.fail_after(20):
        while events.position is None or not events.position.shows(high - 1):
            await trio.sleep(0.005)


async def next_batch(watch: Watch) -> EventBatch:
    with trio.fail_after(20):
        while (batch := await watch.read()) is None:
            await watch.wait()
    return batch


async def test_a_notice_wakes_the_reader(truth: Truth) -> None:
    async with open_notices(truth.pool, [CHANNEL]) as notices:
        events = Events(PostgresEventFeed(truth.pool), notices, poll_interval=3600)
        async with running(events.run):
            with events.watching(await events.start(None)) as watch:
                await level(events, await PostgresEventFeed(truth.pool).now())
                while not notices.is_listening:
                    await trio.sleep(0.01)
                await told(truth, "now")
                batch = await next_batch(watch)

    assert [each.type for each in batch.events] == ["now"]


async def test_a_watcher_gets_its_gap_and_then_what_comes(truth: Truth) -> None:
    async with events_of(truth) as events:
        start = await events.start(None)
        await told(truth, "missed")
        await level(events, await PostgresEventFeed(truth.pool).now())
        with events.watching(start) as watch:
            first = await next_batch(watch)
            await told(truth, "live")
            second = await next_batch(watch)

    assert [each.type for each in first.events] == ["missed"]
    assert [each.type for each in second.events] == ["live"]


async def test_a_watcher_that_falls_behind_is_ended_and_reads_on(truth: Truth) -> None:
    async with events_of(truth, buffer=3) as events:
        start = await events.start(None)
        with events.watching(start) as slow:
            for number in range(12):
                await told(truth, f"n{number}")
            with trio.fail_after(20):
                while not slow.is_ended:
                    await slow.wait()
        await level(events, await PostgresEventFeed(truth.pool).now())
        with events.watching(start) as again:
            seen: list[str] = []
            while len(seen) < 12:
                seen += [each.type for each in (await next_batch(again)).events]

    assert seen == [f"n{number}" for number in range(12)]


async def test_a_lost_position_is_told_as_a_reset(truth: Truth, feed: PostgresEventFeed) -> None:
    async with events_of(truth) as events:
        start = await events.start(None)
        await told(truth, "old")
        await truth.value("UPDATE event SET at = clock_timestamp() - interval '25 hours'")
        await level(events, await feed.now())
        await feed.remove(age=DAY, limit=100)
        with events.watching(start) as watch:
            batch = await next_batch(watch)
            await told(truth, "new")
            following = await next_batch(watch)

    assert batch.is_reset
    assert [each.type for each in following.events] == ["new"]


async def test_eight_writers_and_readers_that_stop_and_go_on(truth: Truth, seed: int) -> None:
    """Every committed event is seen by every reader; those of one source in the order of their commits."""
    sources = [(await truth.add_source(f"s{number}")).id for number in range(4)]
    done = trio.Event()
    seen: list[list[Event]] = [[], [], []]

    async with events_of(truth) as events, events_of(truth) as others:
        start = str(await events.start(None))
        async with trio.open_nursery() as readers:
            for number, mine in enumerate(seen):
                rng = random.Random(seed + 100 + number)
                readers.start_soon(_follow, (events, others), start, mine, rng, done)
            async with trio.open_nursery() as writers:
                for number in range(8):
                    writers.start_soon(_write, truth, sources, random.Random(seed + number))
            done.set()

    async with truth.pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT id FROM event WHERE type <> 'source.added' AND type NOT LIKE 'schedule.%'"
        )
        committed = {row[0] for row in await cursor.fetchall()}
    assert len(committed) > 50
    for mine in seen:
        assert {event.id for event in mine} == committed
        for source in sources:
            first_seen = dict.fromkeys(each.id for each in mine if each.subject == source)
            assert list(first_seen) == sorted(first_seen)


async def _write(truth: Truth, sources: list[UUID], rng: random.Random) -> None:
    for _ in range(25):
        with trio.move_on_after(rng.choice([0.002, 0.02, 5, 5])):
            try:
                async with truth.pool.connection() as connection, connection.transaction():
                    for source in sorted(rng.sample(sources, rng.randint(1, 2))):
                        await connection.execute(
                            "UPDATE source SET name = %s WHERE id = %s", [str(rng.random()), source]
                        )
                    await trio.sleep(rng.choice([0, 0, 0.002, 0.03]))
                    if rng.random() < 0.2:
                        raise RuntimeError
            except RuntimeError:
                pass


async def _follow(
    processes: tuple[Events, Events],
    position: str,
    seen: list[Event],
    rng: random.Random,
    done: trio.Event,
) -> None:
    """Read a while from one process, stop, go on from the last position at either."""
    is_last = False
    while True:
        with rng.choice(processes).watching(EventPosition.parse(position)) as watch:
            with trio.move_on_after(1.0 if is_last else rng.choice([0.005, 0.05, 0.2])):
                while True:
                    if (batch := await watch.read()) is None:
                        await watch.wait()
                        continue
                    assert not batch.is_reset
                    seen += batch.events
                    if batch.position is not None:
                        position = str(batch.position)
                    if not is_last and rng.random() < 0.2:
                        break
        if is_last:
            return
        is_last = done.is_set()
