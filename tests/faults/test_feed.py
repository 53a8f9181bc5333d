"""Ways to make a copy of the documents differ from the truth for ever; each was seen to happen once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from sercha.adapters.embedded_index.index import EmbeddedIndex, open_embedded_index
from sercha.errors import Transient
from sercha.services import follow
from sercha.services.follow import Follower
from sercha.services.index_care import IndexCare
from sercha.services.ports import Change, FeedPosition
from tests.support.postgres import PostgresServer
from tests.support.truth import Truth, draft, open_truth


def follower_on(truth: Truth, index: EmbeddedIndex) -> Follower:
    return Follower(index, truth.feed, truth.documents, truth.notices, lambda: index.consumer_id)


@asynccontextmanager
async def following(truth: Truth, index: EmbeddedIndex) -> AsyncIterator[Follower]:
    follower = follower_on(truth, index)
    async with trio.open_nursery() as nursery:
        await nursery.start(follower.run)
        yield follower
        nursery.cancel_scope.cancel()


async def differences(truth: Truth, index: EmbeddedIndex, follower: Follower) -> int:
    return (await IndexCare(index, truth.feed, follower).verify()).differences


@pytest.fixture
async def truth(postgres_url: str):
    async with open_truth(postgres_url) as truth:
        yield truth


async def test_a_transaction_id_used_again_after_a_crash_is_not_taken_for_seen(
    postgres_factory: Callable[..., PostgresServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A rollback is not flushed. Killed before it is, PostgreSQL gives its number to the next writer."""
    server = postgres_factory(wal_writer_delay="10s")
    async with (
        open_embedded_index(tmp_path / "index") as index,
        open_truth(server.url) as truth,
    ):
        source = await truth.add_source()
        apply = index.apply

        async def apply_then_die(changes: Sequence[Change], position: FeedPosition | None) -> None:
            await apply(changes, position)
            if changes:
                await trio.to_thread.run_sync(server.stop, "kill")
                await trio.sleep_forever()

        async with following(truth, index):
            pass
        await truth.save(source.id, kept="x")
        with pytest.raises(RuntimeError):
            async with truth.pool.transaction() as tx:
                await truth.documents.save(tx, source.id, [draft("rolled-back", "x")])
                raise RuntimeError
        monkeypatch.setattr(index, "apply", apply_then_die)
        with trio.move_on_after(3):
            async with following(truth, index):
                await trio.sleep_forever()
        monkeypatch.undo()
        server.start()
        await truth.save(source.id, new="x")

        async with following(truth, index) as follower:
            assert await differences(truth, index, follower) == 0


async def test_a_data_directory_put_back_makes_the_copy_anew(
    postgres_factory: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    """Same cluster, same timeline, but its transaction ids run again."""
    server = postgres_factory()
    kept = server.data_dir.with_name("kept")
    async with open_embedded_index(tmp_path / "index") as index:
        async with open_truth(server.url) as truth:
            source = await truth.add_source()
            async with following(truth, index):
                await truth.save(source.id, old="x")
        server.stop()
        await trio.run_process(["cp", "-a", server.data_dir, kept])
        server.start()
        async with open_truth(server.url) as truth, following(truth, index) as follower:
            for number in range(20):
                await truth.save(source.id, **{f"lost{number}": "x"})
            assert await differences(truth, index, follower) == 0
        server.stop()
        await trio.run_process(["rm", "-rf", server.data_dir])
        kept.rename(server.data_dir)
        server.start()
        async with open_truth(server.url) as truth, following(truth, index) as follower:
            await truth.save(source.id, new="x")
            assert await differences(truth, index, follower) == 0


async def test_changes_restored_from_another_cluster_do_not_keep_the_follower_busy(
    truth: Truth, tmp_path: Path
) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="x", b="x")
    await truth.value("INSERT INTO change SELECT '4000000000', id FROM document")

    async with (
        open_embedded_index(tmp_path / "index") as index,
        following(truth, index) as follower,
    ):
        await trio.sleep(1)
        before = follower.state.applied
        await trio.sleep(1)

    assert follower.state.applied == before


async def test_emptied_tables_are_noticed(truth: Truth, tmp_path: Path) -> None:
    source = await truth.add_source()
    await truth.save(source.id, a="x", b="x")
    async with (
        open_embedded_index(tmp_path / "index") as index,
        following(truth, index) as follower,
    ):
        await truth.value("TRUNCATE document CASCADE")
        assert await differences(truth, index, follower) == 0


async def test_an_error_that_has_passed_is_not_shown_any_more(
    postgres_factory: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    server = postgres_factory()
    async with (
        open_truth(server.url) as truth,
        open_embedded_index(tmp_path / "index") as index,
        following(truth, index) as follower,
    ):
        await trio.to_thread.run_sync(server.stop)
        with trio.fail_after(10):
            while follower.state.error is None:
                await trio.sleep(0.05)
        await trio.to_thread.run_sync(server.start)
        with trio.fail_after(15):
            while follower.state.error is not None:
                await trio.sleep(0.05)


async def test_a_standby_at_the_address_is_waited_for(
    postgres_factory: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    """For a moment of a failover the address may lead to a server that only reads."""
    server = postgres_factory()
    async with (
        open_truth(server.url) as truth,
        open_embedded_index(tmp_path / "index") as index,
        following(truth, index) as follower,
    ):
        signal_file = server.put_file("standby.signal", b"")
        await trio.to_thread.run_sync(server.restart)
        with trio.fail_after(10):
            while follower.state.error is None:
                await trio.sleep(0.05)
        signal_file.unlink()
        await trio.to_thread.run_sync(server.restart)


async def test_a_rebuild_that_failed_is_tried_again(
    truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer that is under way keeps the snapshots alike, so that the old position looks good."""
    source = await truth.add_source()
    scan: Callable[..., Any] = truth.feed.scan
    calls: list[int] = []

    def fail_once(*, batch: int) -> Any:
        calls.append(batch)
        if len(calls) == 1:
            raise Transient("away for a moment")
        return scan(batch=batch)

    async with truth.pool.transaction() as tx:
        await truth.documents.save(tx, source.id, [draft("a", "under way")])
        async with (
            open_embedded_index(tmp_path / "index") as index,
            following(truth, index) as follower,
        ):
            monkeypatch.setattr(truth.feed, "scan", fail_once)
            with trio.fail_after(15):
                await IndexCare(index, truth.feed, follower).rebuild()
            monkeypatch.undo()


async def test_the_state_of_a_copy_says_what_it_lacks_and_since_when(
    truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await truth.add_source()
    async with (
        open_embedded_index(tmp_path / "index") as index,
        following(truth, index) as follower,
    ):
        care = IndexCare(index, truth.feed, follower)
        apply, is_open = index.apply, trio.Event()

        async def apply_when_open(changes: Sequence[Change], position: FeedPosition | None) -> None:
            await is_open.wait()
            await apply(changes, position)

        monkeypatch.setattr(index, "apply", apply_when_open)
        await truth.save(source.id, a="x", b="x", c="x")
        with trio.fail_after(10):
            while not care.state().pending:
                await trio.sleep(0.02)
        behind = care.state()
        await trio.sleep(0.3)
        changed = follower.state.changed
        is_open.set()
        await changed.wait()
        applied = care.state()

    assert behind.pending == 3
    assert (applied.pending, applied.applied) == (0, behind.applied + 3)
    assert applied.lag >= 0.3  # what it has is as old as the question for it


async def test_changes_applied_over_and_over_are_no_progress(
    truth: Truth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for the copy as long as it makes progress must not wait for ever."""
    source = await truth.add_source()
    async with (
        open_embedded_index(tmp_path / "index") as index,
        following(truth, index) as follower,
    ):
        apply, tries = index.apply, 0

        async def fail_at_the_end(changes: Sequence[Change], position: FeedPosition | None) -> None:
            nonlocal tries
            tries += position is not None
            if position is not None:
                raise Transient("the disk is full")
            await apply(changes, position)

        monkeypatch.setattr(follow, "BATCH", 2)
        monkeypatch.setattr(index, "apply", fail_at_the_end)
        before = follower.state.applied
        await truth.save(source.id, a="x", b="x", c="x")
        with trio.fail_after(10):
            while tries < 3:
                await trio.sleep(0.02)

        assert follower.state.applied <= before + 2
