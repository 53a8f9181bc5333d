"""A sync over a real folder into a real database: what is read, kept, deleted, and what survives a stop."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from sercha.domain.source import IssueKind, SyncStatus
from sercha.domain.task import Outcome
from sercha.errors import ClaimLost, Transient
from sercha.services.attempt import Interrupted
from sercha.services.ports import Item, ItemPage
from tests.support.syncing import (
    KINDS,
    TEXT_CHARS_MAX,
    Pages,
    Setup,
    fill,
    one_by_one,
    read_one,
    setup_on,
)


@pytest.fixture
async def setup(postgres_url: str, tmp_path: Path):
    async with setup_on(postgres_url, tmp_path) as setup:
        yield setup


async def test_everything_is_added_once_and_not_read_again(setup: Setup) -> None:
    fill(setup.root, 40)

    first = (await setup.sync()).stats
    second = (await setup.sync()).stats

    assert (first.documents_added, first.documents_read) == (40, 40)
    assert (second.documents_unchanged, second.documents_read) == (40, 0)
    assert len(await setup.paths()) == 40


async def test_changed_added_and_deleted_files_are_seen(setup: Setup) -> None:
    fill(setup.root, 20)
    await setup.sync()

    (setup.root / "d0/f000.md").write_text("# New\n\nother")
    (setup.root / "d1/f001.md").unlink()
    (setup.root / "d9").mkdir()
    (setup.root / "d9/new.md").write_text("brand new")
    stats = (await setup.sync()).stats

    assert (stats.documents_updated, stats.documents_deleted, stats.documents_added) == (1, 1, 1)
    assert (stats.documents_read, stats.documents_unchanged) == (2, 18)
    assert "d1/f001.md" not in await setup.paths()
    assert "d9/new.md" in await setup.paths()


async def test_a_touched_file_is_read_but_not_indexed_again(setup: Setup) -> None:
    fill(setup.root, 3)
    await setup.sync()
    os.utime(setup.root / "d0/f000.md", (1, 1))

    second, third = (await setup.sync()).stats, (await setup.sync()).stats

    assert (second.documents_read, second.documents_updated) == (1, 0)
    assert third.documents_read == 0


async def test_a_removed_folder_takes_its_documents_along(setup: Setup) -> None:
    fill(setup.root, 20)
    await setup.sync()
    for file in (setup.root / "d2").iterdir():
        file.unlink()
    (setup.root / "d2").rmdir()

    assert (await setup.sync()).stats.documents_deleted == 4
    assert (
        await setup.truth.value("SELECT count(*) FROM document WHERE deleted_at IS NOT NULL") == 4
    )


async def test_bad_files_are_recorded_and_do_not_stop_the_sync(setup: Setup) -> None:
    fill(setup.root, 2)
    os.mkfifo(setup.root / "pipe.txt")
    (setup.root / "binary.txt").write_bytes(bytes(range(256)) * 10)
    (setup.root / "empty.txt").write_bytes(b"")
    (setup.root / "nul.txt").write_bytes(b"some\0thing readable " * 3 + b"x" * 500)
    (setup.root / os.fsdecode(b"bad-\xff\nname.txt")).write_text("found by content")
    (setup.root / "out").symlink_to("/etc/passwd")

    stats = (await setup.sync()).stats
    issues = {
        Path(issue.external_id).name: issue.code
        for issue in await setup.truth.sources.issues(setup.source.id, limit=100)
    }

    assert issues["pipe.txt"] == "not-a-file"
    assert issues["binary.txt"] == "binary"
    assert issues["out"] == "link-outside"
    assert stats.documents_added >= 4
    assert any("empty.txt" in path for path in await setup.paths())
    assert (await setup.sync()).stats.documents_read == 0


async def test_a_text_that_is_too_long_is_kept_in_part_and_recorded(setup: Setup) -> None:
    file = setup.root / "long.txt"
    file.write_text("words " * 10_000 + "end")
    issue = (
        "long.txt",
        IssueKind.SKIPPED,
        "truncated",
        "Only the first 50000 of 60003 characters are kept.",
    )

    async def issues() -> list[tuple[str, IssueKind, str, str]]:
        found = await setup.truth.sources.issues(setup.source.id, limit=10)
        return [(Path(each.external_id).name, each.kind, each.code, each.reason) for each in found]

    first = (await setup.sync()).stats
    assert (first.documents_added, first.documents_skipped, first.errors) == (1, 0, 0)
    assert await setup.paths() == ["long.txt"]
    assert await setup.truth.value("SELECT length(text) FROM document") == TEXT_CHARS_MAX
    assert await setup.truth.value("SELECT metadata ->> 'truncated' FROM document")
    assert await issues() == [issue]

    second = (await setup.sync()).stats
    assert (second.documents_unchanged, second.documents_read) == (1, 0)
    os.utime(file, (1, 1))
    touched = (await setup.sync()).stats
    assert (touched.documents_read, touched.documents_updated) == (1, 0)
    assert await issues() == [issue]
    assert (await setup.sync()).stats.documents_read == 0

    file.write_text("short")
    assert (await setup.sync()).stats.documents_updated == 1
    assert await issues() == []
    assert await setup.truth.value("SELECT metadata ->> 'truncated' FROM document") is None


async def test_a_document_that_becomes_no_document_is_deleted_and_comes_back(setup: Setup) -> None:
    fill(setup.root, 1)
    await setup.sync()
    file = setup.root / "d0/f000.md"
    file.unlink()
    os.mkfifo(file)
    assert (await setup.sync()).stats.documents_deleted == 1

    file.unlink()
    file.write_text("text again")

    assert (await setup.sync()).stats.documents_added == 1
    assert await setup.truth.sources.issues(setup.source.id, limit=10) == []


async def test_a_missing_root_deletes_nothing(setup: Setup) -> None:
    fill(setup.root, 5)
    await setup.sync()
    setup.root.rename(setup.root.with_name("away"))

    with pytest.raises(Transient):
        await setup.sync()

    assert (await setup.state()).status is SyncStatus.FAILED
    assert await setup.truth.documents.count() == 5


async def test_a_stopped_sync_goes_on_after_its_last_page(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(setup.root, 40)
    claim = await setup.claim()
    pages = setup.connector.pages

    def drain_at_the_fourth(number: int, page: ItemPage) -> ItemPage:
        if number == 4:
            setup.draining.set()
        return page

    monkeypatch.setattr(
        setup.connector, "pages", lambda *args: Pages(pages(*args), drain_at_the_fourth)
    )
    with pytest.raises(Interrupted):
        await setup.attempt(claim)
    stopped = await setup.state()
    await setup.truth.queue.give_back([claim])
    monkeypatch.undo()
    setup.draining = trio.Event()
    again = await setup.claim_again()
    await setup.attempt(again)

    state = await setup.state()
    assert stopped.cursor is not None
    assert 0 < stopped.stats.documents_added < 40
    assert state.status is SyncStatus.COMPLETED
    assert (state.stats.documents_added, state.stats.documents_read) == (40, 40)
    assert state.items_done == 40


async def test_a_lost_claim_writes_nothing_more(setup: Setup) -> None:
    fill(setup.root, 10)
    claim = await setup.claim()
    await setup.die()

    with pytest.raises(ClaimLost):
        await setup.attempt(claim)

    assert await setup.truth.documents.count() == 0


async def test_a_source_removed_during_its_sync_leaves_nothing_behind(setup: Setup) -> None:
    fill(setup.root, 10)
    claim = await setup.claim()
    fetch = setup.connector.fetch

    async def fetch_and_remove(item: Item) -> bytes:
        setup.connector.fetch = fetch  # type: ignore[method-assign]
        await setup.rules.remove(setup.source.id)
        return await read_one(fetch, item)

    setup.connector.fetch = one_by_one(fetch_and_remove)  # type: ignore[method-assign]
    with pytest.raises(ClaimLost):
        await setup.attempt(claim)

    assert await setup.truth.documents.count() == 0


async def test_a_folder_that_cannot_be_read_keeps_its_documents(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(setup.root, 20)
    await setup.sync()
    hidden = str(setup.root / "d2") + "/"
    pages = setup.connector.pages

    def without_hidden(_: int, page: ItemPage) -> ItemPage:
        items = tuple(item for item in page.items if not item.external_id.startswith(hidden))
        return replace(page, items=items, unknown_prefixes=(hidden,))

    monkeypatch.setattr(setup.connector, "pages", lambda *args: Pages(pages(*args), without_hidden))
    stats = (await setup.sync()).stats

    assert stats.documents_deleted == 0
    assert len(await setup.paths()) == 20


async def test_random_folders_end_equal_to_the_disk(setup: Setup, seed: int) -> None:
    """Random edits between syncs, some of them killed in the middle; in the end all is as on disk."""
    rng = random.Random(seed)
    fill(setup.root, 30)
    for _ in range(8):
        for _ in range(rng.randint(0, 10)):
            file = setup.root / f"d{rng.randrange(5)}" / f"f{rng.randrange(60):03}.md"
            if rng.random() < 0.4:
                file.unlink(missing_ok=True)
            else:
                file.write_text(f"content {rng.random()}")
        with trio.move_on_after(rng.choice([0.02, 0.05, 30])):
            await setup.sync()
        await setup.die()
        for claim in await setup.truth.queue.claim(await setup.live(), 5, KINDS):
            await setup.truth.queue.settle([Outcome(claim, error="killed", is_final=True)])
    await setup.sync()

    on_disk = {str(path.relative_to(setup.root)) for path in setup.root.rglob("*.md")}
    assert set(await setup.paths()) == on_disk
    changes = await setup.truth.documents.read(
        [id_ async for batch in setup.truth.feed.scan(batch=10) for id_ in batch]
    )
    assert {change.document.text for change in changes if change.document} == {
        path.read_text() for path in setup.root.rglob("*.md")
    }
