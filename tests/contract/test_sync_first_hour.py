"""Syncs of folders that change their rights, hang, or have only the names of what is in a cloud."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from sercha.adapters.connectors import localfs, localfs_open, localfs_walk
from sercha.adapters.connectors.localfs import Localfs
from sercha.adapters.connectors.localfs_calls import HUNG_MAX, Calls
from sercha.domain.source import IssueKind, ItemIssue, SyncStatus
from sercha.errors import ItemFailed, Transient
from sercha.services.ports import Item, ItemPage
from tests.support.syncing import Pages, Setup, fill, read_one, setup_on

NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """Give a folder into which an ordinary user can go."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def setup(postgres_url: str, place: Path) -> AsyncIterator[Setup]:
    async with setup_on(postgres_url, place) as setup:
        yield setup


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Run the block without root's right to read everything."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def read_as_ordinary_user(connector: Localfs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the connector's threads, and only them, do without root's rights: each looks by itself."""

    def ordinary(work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            with as_ordinary_user():
                return work(*arguments)

        return call

    monkeypatch.setattr(connector, "_read", ordinary(connector._read))
    monkeypatch.setattr(localfs_walk.Walk, "next_page", ordinary(localfs_walk.Walk.next_page))


def relative(issue: ItemIssue, setup: Setup) -> str:
    return issue.external_id.removeprefix(f"{setup.root}/").rstrip("/")


async def issues_of(setup: Setup) -> dict[str, str]:
    found = await setup.truth.sources.issues(setup.source.id, limit=100)
    return {relative(issue, setup): issue.code for issue in found}


async def test_rights_taken_away_in_the_middle_of_a_sync_delete_nothing_and_heal(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(setup.root, 20)
    read_as_ordinary_user(setup.connector, monkeypatch)
    await setup.sync()
    for file in setup.root.rglob("*.md"):
        file.write_text(file.read_text() + "more\n")
    pages = setup.connector.pages
    closed = [setup.root / "d3", setup.root / "d4/f004.md"]

    def close(number: int, page: ItemPage) -> ItemPage:
        if number == 1:
            for path in closed:
                path.chmod(0)
        return page

    with monkeypatch.context() as middle:
        middle.setattr(setup.connector, "pages", lambda *args: Pages(pages(*args), close))
        state = await setup.sync()

    assert (state.status, state.stats.documents_deleted) == (SyncStatus.COMPLETED, 0)
    assert len(await setup.paths()) == 20
    assert await issues_of(setup) == {"d3": "unreadable", "d4/f004.md": "unreadable"}

    for path in closed:
        path.chmod(0o755)
    healed = await setup.sync()

    assert healed.stats.documents_updated == 5
    assert await issues_of(setup) == {}
    assert len(await setup.paths()) == 20


@contextmanager
def hanging(monkeypatch: pytest.MonkeyPatch, *names: str) -> Iterator[None]:
    """Let reads of files with these names hang until the block ends."""
    wake = threading.Event()
    read_place = localfs_open.read_place

    def read(where: localfs_open.Place, *rest: Any) -> bytes:
        if os.path.basename(os.fsdecode(where.path)) in names:
            wake.wait(30)
        return read_place(where, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(localfs, "read_place", read)
        try:
            yield
        finally:
            wake.set()


async def test_a_file_that_takes_for_ever_is_named_and_stalls_nothing(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(setup.root, 20)
    setup.connector._calls = Calls(seconds=0.5)  # pyright: ignore[reportPrivateUsage]
    with hanging(monkeypatch, "f006.md"), trio.fail_after(30):
        state = await setup.sync()

    assert (state.status, state.stats.documents_added) == (SyncStatus.COMPLETED, 19)
    assert await issues_of(setup) == {"d1/f006.md": "read-timeout"}

    await setup.truth.value("UPDATE item_issue SET retry_at = clock_timestamp()")
    assert (await setup.sync()).stats.documents_added == 1
    assert await issues_of(setup) == {}


async def test_a_disk_that_hangs_as_a_whole_is_named_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(seconds=0.05)
    connector = Localfs([tmp_path], calls=calls)
    files = [tmp_path / f"{number}" for number in range(HUNG_MAX + 1)]
    for file in files:
        file.write_text("text")
    items = [Item(str(file), "", "", 1) for file in files]
    config: dict[str, object] = {"paths": [str(tmp_path)]}
    with hanging(monkeypatch, *(file.name for file in files)):
        for item in items[:-1]:
            with pytest.raises(ItemFailed, match="It could not be read within") as failed:
                await read_one(connector.fetch, item)
            assert failed.value.error_code == "read-timeout"
        for attempt in (
            partial(read_one, connector.fetch, items[-1]),
            partial(connector.validate, config),
        ):
            with pytest.raises(Transient, match="hangs") as stalled:
                await attempt()
            assert stalled.value.error_code == "source-stalled"

    await until_back(calls)
    assert await read_one(connector.fetch, items[-1]) == b"text"


async def until_back(calls: Calls) -> None:
    with trio.fail_after(10):
        while calls.hung:
            await trio.sleep(0.01)  # a thread tells nobody that it has ended


class Folder:
    """A folder whose listing does something before each of its entries."""

    def __init__(self, folder: Any, before_each: Callable[[], None]) -> None:
        self._folder = folder
        self._before_each = before_each

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._folder.close()

    def __iter__(self) -> Iterator[os.DirEntry[str]]:
        for entry in self._folder:
            self._before_each()
            yield entry


async def test_a_listing_that_never_comes_back_is_named_and_deletes_nothing(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(setup.root, 20)
    await setup.sync()
    calls = setup.connector._calls = Calls(seconds=0.2)  # pyright: ignore[reportPrivateUsage]
    wake = threading.Event()
    scandir = os.scandir
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", lambda where: Folder(scandir(where), lambda: wake.wait(30)))
        try:
            with (
                trio.fail_after(20),
                pytest.raises(Transient, match="The listing did not") as stalled,
            ):
                async for _ in setup.connector.pages(setup.source.config, None):
                    pass
            assert calls.hung == 1
        finally:
            wake.set()
    assert stalled.value.error_code == "source-stalled"
    await until_back(calls)
    assert (await setup.sync()).stats.documents_deleted == 0


async def test_a_listing_that_is_only_slow_is_waited_for(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(setup.root, 40)
    setup.connector._calls = Calls(seconds=0.3)  # pyright: ignore[reportPrivateUsage]
    scandir = os.scandir
    begun = trio.current_time()
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", lambda where: Folder(scandir(where), lambda: time.sleep(0.03)))
        state = await setup.sync()
    assert trio.current_time() - begun > 1  # several times what one step may take
    assert state.stats.documents_added == 40


async def test_what_is_only_in_a_cloud_is_never_fetched_and_what_was_read_stays(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Mac marks such files and folders; opening or listing them would download them."""
    fill(setup.root, 10)
    await setup.sync()
    (setup.root / "new.md").write_text("never read")
    away = {(setup.root / name).stat().st_ino for name in ("new.md", "d1/f001.md", "d2")}
    opened: list[str] = []
    fetch = setup.connector.fetch

    async def watched(items: Sequence[Item]) -> Sequence[bytes | ItemFailed]:
        opened.extend(item.external_id for item in items)
        return await fetch(items)

    for module in (localfs_open, localfs_walk):
        monkeypatch.setattr(module, "is_placeholder", lambda status: status.st_ino in away)
    monkeypatch.setattr(setup.connector, "fetch", watched)
    state = await setup.sync()

    assert (state.stats.documents_deleted, opened) == (0, [])
    assert len(await setup.paths()) == 10
    found = {
        relative(issue, setup): issue
        for issue in await setup.truth.sources.issues(setup.source.id, limit=100)
    }
    assert {name: issue.code for name, issue in found.items()} == {
        "new.md": "placeholder",
        "d1/f001.md": "placeholder",
        "d2": "placeholder",
    }
    assert "cloud" in found["new.md"].reason
    assert {issue.kind for issue in found.values()} == {IssueKind.FAILED}
    with pytest.raises(ItemFailed, match="cloud"):
        await read_one(fetch, Item(str(setup.root / "new.md"), "", "", 1))


class JumpingClock:
    """A wall clock that is hours away from where it was at every look, forwards and backwards."""

    def __init__(self) -> None:
        self.looks = 0

    def now(self) -> datetime:
        self.looks += 1
        hours = 5 if self.looks % 2 else -7
        return datetime.now(UTC) + timedelta(hours=hours)

    def now_ns(self) -> int:
        return int(self.now().timestamp() * 1e9)


async def test_a_clock_that_jumps_in_the_middle_of_a_sync_changes_nothing(
    setup: Setup,
) -> None:
    """Claims and leases do not look at it; that they do not is shown by the simulation, mutant M16."""
    clock = JumpingClock()
    setup.handler._clock = clock  # pyright: ignore[reportPrivateUsage]
    setup.connector._now_ns = clock.now_ns  # pyright: ignore[reportPrivateUsage]
    setup.connector._settle_seconds = 2.0  # pyright: ignore[reportPrivateUsage]
    fill(setup.root, 20)

    assert (await setup.sync()).stats.documents_added == 20
    assert (await setup.sync()).stats.documents_added == 0
    (setup.root / "d1/f001.md").write_text("changed between two jumps")
    (setup.root / "d2/f002.md").unlink()
    changed = (await setup.sync()).stats

    assert (changed.documents_updated, changed.documents_deleted) == (1, 1)
    assert (changed.documents_added, changed.errors) == (0, 0)
    assert len(await setup.paths()) == 19
    assert clock.looks > 6
