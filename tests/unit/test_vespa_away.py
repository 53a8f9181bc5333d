"""Vespa is away for an hour: the feeder asks now and then, holds one batch, and goes on when it is back."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from sercha.adapters.vespa.connections import ConnectionFailed
from sercha.adapters.vespa.index import VespaIndex
from sercha.adapters.vespa.messages import Reply, Request
from sercha.adapters.vespa.throttle import Throttle
from sercha.domain.document import DocumentId
from sercha.services.follow import Follower
from sercha.services.ports import Change, ChangeBatch, FeedPosition
from tests.support.generations import MemoryGenerations
from tests.support.search import added, at

BATCH = 20
"""Documents read at once: fewer than in earnest, since some hundred tries read as many each."""
DOCUMENTS = 5 * BATCH
TEXT = "word " * 20
HOUR = 3_600.0
BATCH_BYTES = 50_000
"""A batch in memory, with what is made of it; there were some hundred tries."""


class Away:
    """Containers of which none takes a document, until `is_back`."""

    def __init__(self) -> None:
        self.is_back = False
        self.asked_at = 0.0
        self.pause = 0.0
        """The longest time in which it was not asked."""
        self.written: set[str] = set()

    async def send(self, request: Request, *, seconds: float) -> Reply:
        await trio.lowlevel.checkpoint()
        if (
            request.method == "GET"
        ):  # it can be asked, so that each try gets as far as to the documents
            return Reply(404, {}, b"{}")
        if not self.is_back:
            now = trio.current_time()
            self.pause, self.asked_at = max(self.pause, now - self.asked_at), now
            raise ConnectionFailed("refused")
        self.written.add(request.target)
        return Reply(200, {}, b"{}")


class Truth:
    """A feed with many changes at once, and documents that are made when they are read."""

    def __init__(self) -> None:
        self.reads = 0

    async def register(self, consumer_id: str) -> FeedPosition:
        return at("1:1:")

    async def poll(self, position: FeedPosition) -> ChangeBatch:
        return ChangeBatch((), position)

    async def trim(self) -> None:
        pass

    async def advance(self, position: FeedPosition, following: FeedPosition) -> None:
        pass

    async def scan(self, *, batch: int) -> AsyncGenerator[tuple[DocumentId, ...]]:
        for first in range(1, DOCUMENTS + 1, batch):
            yield tuple(map(DocumentId, range(first, min(first + batch, DOCUMENTS + 1))))

    async def read(self, ids: Sequence[DocumentId]) -> list[Change]:
        self.reads += 1
        return [added(number, f"{TEXT} {number} {self.reads}") for number in ids]


class Notices:
    """None ever comes."""

    @contextmanager
    def subscribe(self, channel: str) -> Any:
        yield trio.Event()


def held() -> int:
    """Return the bytes of what is still in use."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def inline(work: Callable[[], Request]) -> Request:
    """Work in the loop: the clock would jump while threads do."""
    await trio.lowlevel.checkpoint()
    return work()


async def test_an_hour_without_vespa_costs_no_memory_and_ends_by_itself(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", inline)
    monkeypatch.setattr("sercha.services.follow.BATCH", BATCH)
    truth, away = Truth(), Away()
    index = VespaIndex(
        away,  # type: ignore[arg-type]
        away,  # type: ignore[arg-type]
        MemoryGenerations(),
        Throttle(2, 8),  # each write of a try is tried for itself, again and again
        cluster="sercha",
    )
    follower = Follower(
        index,
        truth,  # type: ignore[arg-type]
        truth,  # type: ignore[arg-type]
        Notices(),  # type: ignore[arg-type]
        partial(str, "vespa"),
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follower.run)
        await trio.sleep(HOUR / 10)
        tracemalloc.start()
        await trio.sleep(HOUR / 10)
        early = held()
        await trio.sleep(HOUR * 8 / 10)
        late = held()
        tracemalloc.stop()

        assert follower.state.error is not None
        assert "did not take" in follower.state.error
        assert away.pause <= 15, "it is looked for all the time"
        assert truth.reads < HOUR, "and not in a frenzy"
        assert late - early < 2 * BATCH_BYTES, "no try leaves anything behind"

        away.is_back = True
        with trio.fail_after(60):
            while not follower.state.is_caught_up:
                await follower.state.changed.wait()
        nursery.cancel_scope.cancel()
    assert len(away.written) == DOCUMENTS + 1
