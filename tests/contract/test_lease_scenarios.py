"""Every store answers the scenarios as the reference does: memory, the simulation's models, real servers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import trio
import trio.testing

from lockd import MemoryStore
from lockd.postgres import TrioConnection, open_postgres_fence, open_postgres_store
from lockd.redis import open_redis_store
from tests.simulation.plan import make_plan
from tests.simulation.process import Process
from tests.simulation.scenarios import SCENARIOS, Bench, Scenario
from tests.simulation.stores import Connection, RowStore, SplitStore
from tests.simulation.world import World

Open = Callable[[], AbstractAsyncContextManager[Bench]]


async def play(scenario: Scenario, open_bench: Open) -> list[str]:
    with trio.fail_after(60):
        async with open_bench() as bench:
            await scenario(bench)
            return bench.answers


@cache
def expected(scenario: Scenario) -> list[str]:
    @asynccontextmanager
    async def in_memory() -> AsyncGenerator[Bench]:
        yield Bench(MemoryStore(), nullcontext)

    clock = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(play, scenario, in_memory, clock=clock)


@dataclass
class Model:
    """One process in a world without faults."""

    world: World
    store_kind: type[SplitStore | RowStore]

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Bench]:
        async with trio.open_nursery() as self.world.nursery:
            process = Process(self.world.nodes[0], 1)

            @asynccontextmanager
            async def connect() -> AsyncGenerator[Any]:
                connection = Connection(process)
                await connection.open()
                yield connection
                connection.close()

            yield Bench(self.store_kind(process), connect)
            self.world.nursery.cancel_scope.cancel()


def model_answers(scenario: Scenario, kind: type[SplitStore | RowStore]) -> list[str]:
    plan = replace(make_plan(0), odds={}, acts=(), latency=0.001, store="")
    model = Model(World(plan), kind)
    return trio.run(play, scenario, model.open, clock=model.world.agenda.clock)


def named(scenario: Scenario) -> str:
    return scenario.__name__


@pytest.mark.parametrize("scenario", SCENARIOS, ids=named)
@pytest.mark.parametrize("kind", [SplitStore, RowStore])
def test_models_answer_like_the_reference(
    scenario: Scenario, kind: type[SplitStore | RowStore]
) -> None:
    assert model_answers(scenario, kind) == expected(scenario)


@asynccontextmanager
async def fenced_connection(url: str) -> AsyncGenerator[Any]:
    connection = await TrioConnection.connect(url, autocommit=True)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=named)
def test_postgres_answers_like_the_reference(scenario: Scenario, postgres_url: str) -> None:
    @asynccontextmanager
    async def in_postgres() -> AsyncGenerator[Bench]:
        async with open_postgres_store(postgres_url, create_tables=True) as store:
            yield Bench(store, lambda: fenced_connection(postgres_url))

    assert trio.run(play, scenario, in_postgres) == expected(scenario)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=named)
def test_redis_answers_like_the_reference(
    scenario: Scenario, postgres_url: str, redis_url: str
) -> None:
    @asynccontextmanager
    async def in_redis() -> AsyncGenerator[Bench]:
        async with (
            open_postgres_fence(postgres_url, create_tables=True) as fence,
            open_redis_store(redis_url, fence=fence) as store,
        ):
            yield Bench(store, lambda: fenced_connection(postgres_url))

    assert trio.run(play, scenario, in_redis) == expected(scenario)
