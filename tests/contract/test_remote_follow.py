"""An index that is fed elsewhere, watched from an API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import trio

from sercha.adapters.postgres.generations import PostgresGenerationStore
from sercha.services.follow import Follower
from sercha.services.remote_follow import RemoteFollower
from tests.support.truth import Truth, open_truth
from tests.support.vespa import Setup, open_setup
from tests.vespa import Fault

CONSUMER = "vespa"


@dataclass
class Watched:
    """An index, whoever feeds it, and whoever watches."""

    truth: Truth
    setup: Setup
    feeder: Follower
    watcher: RemoteFollower
    nursery: trio.Nursery

    async def feed(self) -> trio.CancelScope:
        """Let somebody feed, until the scope that is returned is cancelled."""
        scope = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await self.feeder.run(task_status=task_status)

        await self.nursery.start(run)
        return scope


@pytest.fixture
async def watched(postgres_url: str) -> AsyncIterator[Watched]:
    async with open_truth(postgres_url) as truth:
        generations = PostgresGenerationStore(truth.pool, "vespa")
        async with (
            open_setup(generations=generations) as setup,
            setup.open_index() as other,
            trio.open_nursery() as nursery,
        ):
            feeder = Follower(
                setup.index, truth.feed, truth.documents, truth.notices, lambda: CONSUMER
            )
            watcher = RemoteFollower(other, truth.feed, truth.notices, CONSUMER)
            yield Watched(truth, setup, feeder, watcher, nursery)
            nursery.cancel_scope.cancel()


async def test_what_was_committed_is_waited_for_and_what_comes_later_is_not(
    watched: Watched,
) -> None:
    source = await watched.truth.add_source()
    await watched.truth.save(source.id, a="red apple")
    with trio.move_on_after(0.5) as waiting:
        await watched.watcher.catch_up()
    assert waiting.cancelled_caught, "nobody feeds yet"

    feeding = await watched.feed()
    with trio.fail_after(10):
        await watched.watcher.catch_up()
    feeding.cancel()
    await watched.truth.save(source.id, b="green apple")
    with trio.move_on_after(0.5) as waiting:
        await watched.watcher.catch_up()
    assert waiting.cancelled_caught


async def test_a_rebuild_is_asked_for_and_its_generation_is_seen(watched: Watched) -> None:
    source = await watched.truth.add_source()
    await watched.truth.save(source.id, a="red apple")
    await watched.feed()
    await watched.nursery.start(watched.watcher.run)
    state = watched.watcher.state
    with trio.fail_after(10):
        while watched.watcher._index.generation != "g1":
            await state.changed.wait()

    watched.watcher.request_rebuild()

    with trio.fail_after(20):
        while state.rebuilds == 0:
            await state.changed.wait()
    assert await watched.setup.generations.current() == "g2"
    assert not state.is_rebuilding
    with trio.fail_after(10):
        await watched.watcher.catch_up()


async def test_an_engine_that_is_away_is_shown_until_it_is_back(watched: Watched) -> None:
    source = await watched.truth.add_source()
    await watched.truth.save(source.id, a="red apple")
    await watched.feed()
    await watched.nursery.start(watched.watcher.run)
    state = watched.watcher.state
    fault = watched.setup.vespa.faults.add(Fault("unavailable"))

    with trio.fail_after(10):
        while state.error is None:
            watched.watcher.wake()
            await trio.sleep(0.05)
    with trio.move_on_after(0.5) as waiting:
        await watched.watcher.catch_up()
    assert waiting.cancelled_caught

    watched.setup.vespa.faults.remove(fault)
    with trio.fail_after(30):
        await watched.watcher.catch_up()
    with trio.fail_after(30):
        while state.error is not None:
            await state.changed.wait()


async def test_it_is_usable_before_anything_was_fed(watched: Watched) -> None:
    with trio.fail_after(5):
        await watched.nursery.start(watched.watcher.run)

    assert watched.watcher.state.is_caught_up
