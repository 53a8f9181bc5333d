"""The change feed never misses a row: not for long transactions, rollbacks, deletes or kills."""

from __future__ import annotations

import random
from dataclasses import replace
from uuid import uuid4

import trio

from sercha.adapters.postgres.changes import PostgresChangeFeed
from sercha.domain.source import Source
from sercha.services.ports import FeedPosition
from tests.support.truth import Truth, draft


async def changed(truth: Truth, position: FeedPosition) -> tuple[set[int], FeedPosition]:
    batch = await truth.feed.poll(position)
    assert batch is not None
    return set(batch.document_ids), batch.position


async def advanced(truth: Truth, position: FeedPosition) -> FeedPosition:
    """Poll, and commit what comes as a copy does: announced first."""
    _, following = await changed(truth, position)
    await truth.feed.advance(position, following)
    return following


async def id_of(truth: Truth, external_id: str) -> object:
    return await truth.value("SELECT id FROM document WHERE external_id = %s", external_id)


async def test_insert_update_and_delete_are_seen_once(truth: Truth) -> None:
    source = await truth.add_source()
    position = await truth.feed.register("c")

    for step in (
        truth.save(source.id, a="one"),
        truth.save(source.id, a="two"),
        truth.delete(source.id, "a"),
    ):
        await step
        seen, following = await changed(truth, position)
        assert seen == {await id_of(truth, "a")}
        await truth.feed.advance(position, following)
        position = following
        assert (await changed(truth, position))[0] == set()


async def test_bookkeeping_is_no_change(truth: Truth) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="one")
    version = await truth.value("SELECT version FROM document")
    position = await truth.feed.register("c")

    async with truth.pool.transaction() as tx:
        await truth.documents.touch(tx, source.id, [("a", "another fingerprint")])

    assert (await changed(truth, position))[0] == set()
    assert await truth.value("SELECT version FROM document") == version


async def test_an_edit_by_hand_raises_the_version_and_is_seen(truth: Truth) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="one")
    position = await truth.feed.register("c")

    await truth.value("UPDATE document SET readers = '{user:1}' RETURNING 1")

    assert len((await changed(truth, position))[0]) == 1
    assert await truth.value("SELECT version FROM document") == 2


async def test_a_tombstone_keeps_its_version_and_a_revival_goes_on_from_it(truth: Truth) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="one")
    await truth.delete(source.id, "a")
    dead = await truth.value("SELECT version FROM document WHERE deleted_at IS NOT NULL")
    await truth.save(source.id, a="one")

    assert dead == 2
    assert await truth.value("SELECT version FROM document WHERE deleted_at IS NULL") == 3
    assert await truth.value("SELECT count(*) FROM document") == 1


async def test_a_transaction_that_outlasts_others_is_neither_missed_nor_in_the_way(
    truth: Truth,
) -> None:
    source = await truth.add_source()
    position = await truth.feed.register("c")

    async with truth.pool.transaction() as tx:
        await truth.documents.save(tx, source.id, [draft("slow", "text")])
        await truth.save(source.id, fast="text")
        seen, following = await changed(truth, position)
        assert seen == {await id_of(truth, "fast")}
        await truth.feed.advance(position, following)
        position = await advanced(truth, following)
        await truth.feed.trim()
    seen, position = await changed(truth, position)

    assert seen == {await id_of(truth, "slow")}


async def test_a_consumer_without_a_row_must_rebuild(truth: Truth) -> None:
    position = await truth.feed.register("c")
    await truth.feed.unregister("c")

    assert await truth.feed.poll(position) is None


async def test_a_silent_consumer_expires_and_the_feed_is_trimmed(truth: Truth) -> None:
    source = await truth.add_source()
    silent = await truth.feed.register("silent")
    awake = await truth.feed.register("awake")
    await truth.save(source.id, a="one")
    awake = await advanced(truth, awake)
    awake = await advanced(truth, awake)
    await truth.feed.trim()
    assert await truth.value("SELECT count(*) FROM change") == 1

    await truth.value("UPDATE consumer SET seen_at = '-infinity' WHERE id = 'silent' RETURNING 1")
    await truth.feed.trim()

    assert await truth.value("SELECT count(*) FROM change") == 0
    assert await truth.feed.poll(silent) is None


async def test_a_position_of_another_database_must_rebuild(truth: Truth) -> None:
    position = await truth.feed.register("c")

    assert await truth.feed.poll(replace(position, timeline="elsewhere/1/1")) is None


async def test_a_copy_older_than_its_consumer_row_must_rebuild(truth: Truth) -> None:
    """A folder restored from a backup: the feed may have been trimmed past it."""
    source = await truth.add_source()
    old = await truth.feed.register("c")
    await truth.save(source.id, a="one")
    await advanced(truth, await advanced(truth, old))
    await truth.feed.trim()

    assert await truth.feed.poll(old) is None


async def test_eight_writers_and_two_followers_end_equal(truth: Truth, seed: int) -> None:
    """Random lengths, rollbacks, deletes and cancelled writers; every copy ends equal to the truth."""
    source = await truth.add_source()
    done = trio.Event()
    copies: list[dict[int, int]] = [{}, {}]

    async with trio.open_nursery() as followers:
        for number, copy in enumerate(copies):
            position = await truth.feed.register(f"copy-{number}")
            followers.start_soon(_follow, truth, position, copy, done)
        async with trio.open_nursery() as writers:
            for number in range(8):
                writers.start_soon(_write, truth, source, random.Random(seed + number))
        done.set()

    versions = {
        version.id: version.version
        async for batch in PostgresChangeFeed(truth.pool).versions(batch=100)
        for version in batch
    }
    assert versions
    assert copies == [versions, versions]


async def _write(truth: Truth, source: Source, rng: random.Random) -> None:
    for _ in range(40):
        names = [f"d{rng.randrange(60):02}" for _ in range(rng.randint(1, 4))]
        with trio.move_on_after(rng.choice([0.001, 0.01, 5, 5])):
            try:
                async with truth.pool.transaction() as tx:
                    if rng.random() < 0.3:
                        await truth.documents.delete(tx, source.id, sorted(set(names)))
                    else:
                        drafts = [draft(name, str(rng.random())) for name in sorted(set(names))]
                        await truth.documents.save(tx, source.id, drafts)
                    await trio.sleep(rng.choice([0, 0, 0.002, 0.03]))
                    if rng.random() < 0.2:
                        raise RuntimeError
            except RuntimeError:
                pass


async def _follow(
    truth: Truth, position: FeedPosition, copy: dict[int, int], done: trio.Event
) -> None:
    is_last = False
    while True:
        batch = await truth.feed.poll(position)
        assert batch is not None
        await truth.feed.advance(position, batch.position)
        for change in await truth.documents.read(batch.document_ids):
            if change.document is not None:
                copy[change.document_id] = change.document.version
            else:
                copy.pop(change.document_id, None)
        position = batch.position
        await truth.feed.trim()
        if is_last and not batch.document_ids:
            return
        is_last = done.is_set()


async def test_a_position_covers_a_moment_when_it_has_every_change_of_it(truth: Truth) -> None:
    source = await truth.add_source()
    position = await truth.feed.register("c")
    assert await truth.feed.covers(position, await truth.feed.moment())

    async with truth.pool.transaction() as tx:
        await truth.documents.save(tx, source.id, [draft("late", "not committed yet")])
        before = await truth.feed.moment()
        assert await truth.feed.covers(position, before), "what is not committed is not waited for"
    after = await truth.feed.moment()

    assert await truth.feed.covers(position, before)
    assert not await truth.feed.covers(position, after)
    following = await advanced(truth, position)
    assert await truth.feed.covers(following, after)
    await truth.save(source.id, late="changed once more")
    assert await truth.feed.covers(following, after), "later changes are not asked for"


async def test_a_position_of_another_history_covers_nothing(truth: Truth) -> None:
    position = await truth.feed.register("c")
    moment = await truth.feed.moment()

    assert not await truth.feed.covers(replace(position, timeline="1/00000001/1"), moment)
    assert not await truth.feed.covers(replace(position, mark=str(uuid4())), moment)
    await truth.feed.unregister("c")
    assert not await truth.feed.covers(position, moment)
