"""Sources that are away, items that fail, workers that die: what a sync keeps, and when it is given up."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
import trio

from sercha.adapters.postgres.task_admin import PostgresTaskAdmin
from sercha.domain.source import IssueKind, SyncStatus
from sercha.domain.task import Claim, Outcome, TaskState
from sercha.errors import ItemFailed, Transient
from sercha.services.ports import Item, ItemPage
from sercha.services.task_kinds import SYNC_TRIES_MAX
from tests.support.syncing import Pages, Setup, fill, one_by_one, read_one, setup_on


@pytest.fixture
async def setup(postgres_url: str, tmp_path: Path):
    async with setup_on(postgres_url, tmp_path) as setup:
        yield setup


class Mount:
    """The folder of a source, which can go away and come back."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._away = root.with_name("away")

    def leave(self) -> None:
        self._root.rename(self._away)

    def come_back(self) -> None:
        self._away.rename(self._root)


async def fail_at_page(setup: Setup, claim: Claim, number: int, mount: Mount) -> None:
    """Let the folder go away behind a page, and the attempt fail as a worker lets it fail."""
    pages = setup.connector.pages

    def leave(current: int, page: ItemPage) -> ItemPage:
        if current == number:
            mount.leave()
        return page

    setup.connector.pages = lambda *args: Pages(pages(*args), leave)  # type: ignore[method-assign]
    try:
        with pytest.raises(Transient) as caught:
            await setup.attempt(claim)
    finally:
        setup.connector.pages = pages  # type: ignore[method-assign]
    await setup.fail(claim, caught.value)


async def task_state(setup: Setup, task_id: UUID) -> TaskState:
    task = await setup.truth.admin.get(task_id)
    assert task is not None
    return task.state


async def test_an_outage_keeps_the_cursor_and_deletes_nothing_it_has_not_looked_at(
    setup: Setup,
) -> None:
    fill(setup.root, 40)
    await setup.sync()
    (setup.root / "d0/f000.md").unlink()
    (setup.root / "d4/f039.md").unlink()
    mount = Mount(setup.root)

    claim = await setup.claim()
    await fail_at_page(setup, claim, 3, mount)
    failed = await setup.state()

    assert (failed.status, failed.cursor is not None) == (SyncStatus.FAILED, True)
    assert "away" in (failed.error or "")
    assert failed.stats.documents_deleted == 1
    assert "d4/f039.md" in await setup.paths()

    mount.come_back()
    again = await setup.claim_again()
    await setup.attempt(again)
    state = await setup.state()

    assert again.task_id == claim.task_id
    assert (state.status, state.error) == (SyncStatus.COMPLETED, None)
    assert state.started_at == failed.started_at
    assert (state.stats.documents_deleted, state.stats.documents_unchanged) == (2, 38)
    assert state.items_done == 38


async def test_a_source_that_stays_away_is_given_up_and_the_next_sync_begins_anew(
    setup: Setup,
) -> None:
    fill(setup.root, 40)
    await setup.sync()
    mount = Mount(setup.root)
    claim = await setup.claim()
    await fail_at_page(setup, claim, 3, mount)
    kept = (await setup.state()).cursor

    attempts = 1
    while await task_state(setup, claim.task_id) is not TaskState.DEAD:
        again = await setup.claim_again()
        with pytest.raises(Transient) as caught:
            await setup.attempt(again)
        await setup.fail(again, caught.value)
        attempts += 1
    state = await setup.state()

    assert (
        attempts == SYNC_TRIES_MAX
    )  # progress forgave the try of the first attempt, not the attempt
    assert (state.status, state.cursor) == (SyncStatus.FAILED, kept)
    assert "away" in (state.error or "")
    assert await setup.truth.documents.count() == 40

    mount.come_back()
    (setup.root / "d0/f000.md").unlink()  # before the cursor
    state = await setup.sync()

    assert state.task_id != claim.task_id
    assert (state.status, state.items_done) == (SyncStatus.COMPLETED, 39)
    assert "d0/f000.md" not in await setup.paths()


async def test_a_sync_that_was_given_up_and_is_retried_begins_anew(setup: Setup) -> None:
    fill(setup.root, 40)
    await setup.sync()
    mount = Mount(setup.root)
    claim = await setup.claim()
    await fail_at_page(setup, claim, 3, mount)
    mount.come_back()
    last = await setup.claim_again()
    await setup.truth.queue.settle([Outcome(last, error="no", is_final=True)])
    (setup.root / "d0/f000.md").unlink()  # before the cursor

    assert await PostgresTaskAdmin(setup.truth.pool).retry(claim.task_id) == claim.task_id
    again = await setup.claim_again()
    await setup.attempt(again)

    assert (again.task_id, again.attempt) == (claim.task_id, last.attempt + 1)
    assert (await setup.state()).items_done == 39
    assert "d0/f000.md" not in await setup.paths()


async def test_a_request_that_comes_during_an_outage_is_answered_by_a_whole_sync(
    setup: Setup,
) -> None:
    """The failed attempt merges into the waiting request, which must see what changed until it came."""
    fill(setup.root, 40)
    await setup.sync()
    mount = Mount(setup.root)
    claim = await setup.claim()
    asked = await setup.rules.request_sync(setup.source.id)
    await fail_at_page(setup, claim, 3, mount)
    mount.come_back()
    (setup.root / "d0/f000.md").unlink()  # before the cursor

    again = await setup.claim_again()
    await setup.attempt(again)

    assert again.task_id == asked != claim.task_id
    assert await task_state(setup, claim.task_id) is TaskState.CANCELLED
    assert (await setup.state()).items_done == 39
    assert "d0/f000.md" not in await setup.paths()


async def test_an_item_that_fails_waits_longer_each_time_and_stalls_nothing(setup: Setup) -> None:
    fill(setup.root, 20)
    bad = str(setup.root / "d1/f001.md")
    fetch = setup.connector.fetch
    is_bad = True
    asked = 0

    async def fetch_all_but_one(item: Item) -> bytes:
        nonlocal asked
        if item.external_id == bad:
            asked += 1
            if is_bad:
                raise ItemFailed("The disk says no.")
        return await read_one(fetch, item)

    async def backoff() -> tuple[object, object]:
        due = "round(extract(epoch FROM retry_at - last_seen_at))::integer"
        value = setup.truth.value
        return (
            await value("SELECT tries FROM item_issue"),
            await value(f"SELECT {due} FROM item_issue"),
        )

    setup.connector.fetch = one_by_one(fetch_all_but_one)  # type: ignore[method-assign]
    first = await setup.sync()
    assert (first.status, first.stats.documents_added) == (SyncStatus.COMPLETED, 19)
    assert (first.stats.errors, first.cursor, await backoff()) == (1, None, (1, 60))

    assert (await setup.sync()).stats.errors == 0
    assert asked == 1, "asked before it was due"

    for tries, seconds in ((2, 120), (3, 240)):
        await setup.truth.value("UPDATE item_issue SET retry_at = clock_timestamp()")
        assert (await setup.sync()).stats.errors == 1
        assert (asked, await backoff()) == (tries, (tries, seconds))
    (issue,) = await setup.truth.sources.issues(setup.source.id, limit=10)
    assert (issue.kind, issue.code) == (IssueKind.FAILED, "unreadable")

    is_bad = False
    await setup.truth.value("UPDATE item_issue SET retry_at = clock_timestamp()")
    assert (await setup.sync()).stats.documents_added == 1
    assert await setup.truth.sources.issues(setup.source.id, limit=10) == []


async def test_an_item_that_failed_and_changed_is_read_at_once(setup: Setup) -> None:
    fill(setup.root, 3)
    file = setup.root / "d1/f001.md"
    fetch = setup.connector.fetch

    async def fail_one(item: Item) -> bytes:
        if item.external_id == str(file):
            raise ItemFailed("The disk says no.")
        return await read_one(fetch, item)

    setup.connector.fetch = one_by_one(fail_one)  # type: ignore[method-assign]
    assert (await setup.sync()).stats.errors == 1
    setup.connector.fetch = fetch  # type: ignore[method-assign]
    file.write_text("another text")

    assert (await setup.sync()).stats.documents_added == 1


async def kill_once_begun(setup: Setup, claim: Claim) -> None:
    """Let the attempt begin and end without a word, as with its process."""
    pages = setup.connector.pages
    with trio.CancelScope() as scope:

        def kill(_: int, page: ItemPage) -> ItemPage:
            scope.cancel()
            return page

        setup.connector.pages = lambda *args: Pages(pages(*args), kill)  # type: ignore[method-assign]
        await setup.attempt(claim)
    assert scope.cancelled_caught
    setup.connector.pages = pages  # type: ignore[method-assign]


async def test_a_sync_whose_workers_die_is_not_running_for_ever(setup: Setup) -> None:
    fill(setup.root, 3)
    claim = await setup.claim()
    for tries in range(1, SYNC_TRIES_MAX + 1):
        await kill_once_begun(setup, claim)
        assert (await setup.state()).status is SyncStatus.RUNNING
        await setup.die()
        if tries < SYNC_TRIES_MAX:
            claim = await setup.claim_again()
    state = await setup.state()

    assert await task_state(setup, claim.task_id) is TaskState.DEAD
    assert (state.status, state.error) == (
        SyncStatus.FAILED,
        "the worker of the attempt died or lost its claim",
    )
    assert (await setup.sync()).status is SyncStatus.COMPLETED


async def test_a_sync_that_is_cancelled_is_not_running_any_more(setup: Setup) -> None:
    fill(setup.root, 3)
    claim = await setup.claim()
    await kill_once_begun(setup, claim)

    await PostgresTaskAdmin(setup.truth.pool).cancel(claim.task_id)

    assert (await setup.state()).status is SyncStatus.IDLE
    assert [each.status for each in await setup.truth.sources.sync_states()] == [SyncStatus.IDLE]
