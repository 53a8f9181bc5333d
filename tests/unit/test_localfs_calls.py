"""Calls of a disk that hangs: given up, counted for as long as they hang, and not for longer."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from sercha.adapters.connectors import localfs
from sercha.adapters.connectors.localfs import Localfs
from sercha.adapters.connectors.localfs_calls import HUNG_MAX, Calls
from sercha.errors import Transient
from sercha.services.ports import Item


class Disk:
    """A disk that hangs until it is told not to."""

    def __init__(self) -> None:
        self.wakes = threading.Event()

    def read(self) -> str:
        self.wakes.wait(30)
        return "read"


@pytest.fixture
async def disk() -> AsyncIterator[Disk]:
    disk = Disk()
    yield disk
    disk.wakes.set()


async def give_up(calls: Calls, disk: Disk) -> None:
    with pytest.raises(trio.TooSlowError):
        await calls.run(disk.read)


async def until_none_hangs(calls: Calls) -> None:
    with trio.fail_after(10):
        while calls.hung:
            await trio.sleep(0.01)  # a thread tells nobody that it has ended


async def test_what_hangs_counts_until_it_comes_back(disk: Disk) -> None:
    calls = Calls(seconds=0.1)
    async with trio.open_nursery() as nursery:
        for _ in range(HUNG_MAX):
            nursery.start_soon(give_up, calls, disk)
    assert calls.hung == HUNG_MAX
    with pytest.raises(Transient, match="3 calls have not come back") as refused:
        await calls.run(lambda: "never")
    assert refused.value.error_code == "source-stalled"

    disk.wakes.set()
    await until_none_hangs(calls)
    assert await calls.run(disk.read) == "read"


async def test_what_never_got_a_thread_does_not_count(disk: Disk) -> None:
    calls = Calls(seconds=0.1, limiter=trio.CapacityLimiter(1))
    async with trio.open_nursery() as nursery:
        for _ in range(HUNG_MAX):
            nursery.start_soon(give_up, calls, disk)
    assert calls.hung == 1

    disk.wakes.set()
    await until_none_hangs(calls)
    assert await calls.run(disk.read) == "read"


async def test_what_was_cancelled_counts_as_well(disk: Disk) -> None:
    calls = Calls()
    with trio.move_on_after(0.05):
        await calls.run(disk.read)
    assert calls.hung == 1
    disk.wakes.set()
    await until_none_hangs(calls)


async def test_an_error_comes_back_as_it_is() -> None:
    def fail() -> None:
        raise OSError("no such thing")

    with pytest.raises(OSError, match="no such thing"):
        await Calls().run(fail)


async def test_slow_files_are_not_read_together_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(localfs, "TOGETHER_SECONDS", 0.0)
    monkeypatch.setattr(localfs, "read_place", lambda *_: time.sleep(0.01) or b"text")
    items = [Item(str(tmp_path / name), "", "", 1) for name in ("a", "b")]
    assert await Localfs([tmp_path]).fetch(items) == [b"text"]
