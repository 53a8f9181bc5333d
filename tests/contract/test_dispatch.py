"""What every dispatch does: the same suite for the one in memory and the one in Redis."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID, uuid4

import pytest
import trio
import trio.testing

from sercha.adapters.redis import open_redis_dispatch
from sercha.services.ports import Delivery, Dispatch
from tests.support import require
from tests.support.dispatch import MemoryDispatch, MemoryStream
from tests.support.redis import tls_binary

Opening = Callable[[str], AbstractAsyncContextManager[Dispatch]]
"""Opens the dispatch for one consumer; all share one stream."""


@pytest.fixture(params=["memory", "valkey", "redis"])
def opening(request: pytest.FixtureRequest) -> Opening:
    if request.param == "memory":
        stream = MemoryStream()
        return lambda consumer: _opened(_held(MemoryDispatch(stream, consumer)))
    if request.param == "valkey":
        url = request.getfixturevalue("redis_url")
    else:
        require("redis-tls", tls_binary(), "no redis-server is installed on this system")
        url = request.getfixturevalue("redis_factory")(binary=tls_binary()).url
    return lambda consumer: _opened(open_redis_dispatch(url, consumer))


@asynccontextmanager
async def _held(dispatch: Dispatch) -> AsyncGenerator[Dispatch]:
    yield dispatch


@asynccontextmanager
async def _opened(making: AbstractAsyncContextManager[Dispatch]) -> AsyncGenerator[Dispatch]:
    with trio.fail_after(30):
        async with making as dispatch:
            await dispatch.open()
            yield dispatch


def ids(count: int) -> list[UUID]:
    return [uuid4() for _ in range(count)]


def tasks(deliveries: list[Delivery]) -> list[UUID]:
    return [each.task_id for each in deliveries]


async def test_what_is_offered_is_received_in_order_and_gone_once_confirmed(
    opening: Opening,
) -> None:
    offered = ids(3)
    async with opening("a") as a:
        assert await a.offer(offered) == 3
        first = await a.receive(2, wait=5)
        assert tasks(first) == offered[:2]
        assert await a.confirm(first) == 1
        rest = await a.receive(2, wait=5)
        assert tasks(rest) == offered[2:]
        assert await a.confirm(rest) == 0
        assert await a.receive(2, wait=0) == []


async def test_an_entry_goes_to_one_consumer(opening: Opening) -> None:
    offered = ids(6)
    async with opening("a") as a, opening("b") as b:
        await a.offer(offered)
        mine, yours = await a.receive(4, wait=5), await b.receive(4, wait=5)
        assert tasks(mine) + tasks(yours) == offered
        assert await b.receive(4, wait=0) == []


async def test_an_id_that_has_an_entry_is_not_added_again(opening: Opening) -> None:
    one, two, three = ids(3)
    async with opening("a") as a:
        assert await a.offer([one, two, one]) == 2
        taken = await a.receive(1, wait=5)
        assert await a.offer([two, three, one]) == 3  # also those that somebody has taken
        await a.confirm(taken)
        assert await a.offer([one]) == 3
        assert tasks(await a.receive(9, wait=5)) == [two, three, one]


async def test_nothing_is_asked_for_nothing(opening: Opening) -> None:
    async with opening("a") as a:
        assert await a.offer([]) == 0
        await a.announce([], at_most=10)
        assert await a.confirm([]) == 0
        assert await a.receive(5, wait=0) == []
        assert await a.sweep(idle=0) == []


async def test_announcements_stop_at_the_limit(opening: Opening) -> None:
    announced = ids(4)
    async with opening("a") as a:
        await a.announce(announced, at_most=3)
        assert await a.offer([]) == 3
        await a.announce(announced[3:], at_most=2)
        assert tasks(await a.receive(9, wait=5)) == announced[:3]


async def test_a_waiting_reader_is_woken_by_an_offer_and_by_an_announcement(
    opening: Opening,
) -> None:
    one, two = ids(2)
    found: list[Delivery] = []

    async def read(dispatch: Dispatch) -> None:
        found.extend(await dispatch.receive(5, wait=20))

    async with opening("a") as a, opening("b") as b:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, a)
            await trio.testing.wait_all_tasks_blocked(0.05)
            await b.offer([one])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, a)
            await trio.testing.wait_all_tasks_blocked(0.05)
            await b.announce([two], at_most=10)
        assert tasks(found) == [one, two]


async def test_a_wait_ends_with_nothing_in_time(opening: Opening) -> None:
    async with opening("a") as a:
        began = trio.current_time()
        assert await a.receive(1, wait=0.2) == []
        assert trio.current_time() - began >= 0.2


async def test_opened_anew_it_gives_what_this_consumer_had_taken(opening: Opening) -> None:
    offered = ids(5)
    async with opening("a") as a, opening("b") as b:
        await a.offer(offered)
        taken = await a.receive(3, wait=5)
        assert await b.receive(1, wait=5)
        await a.open()
        again = [*await a.receive(2, wait=5), *await a.receive(1, wait=5)]
        assert again == taken
        assert tasks(await a.receive(9, wait=5)) == offered[4:]


async def test_the_next_start_under_the_same_name_finds_what_was_taken(opening: Opening) -> None:
    offered = ids(2)
    async with opening("a") as a:
        await a.offer(offered)
        taken = await a.receive(9, wait=5)
    async with opening("a") as a:
        assert await a.receive(9, wait=5) == taken


async def test_what_others_have_held_for_long_is_taken_over(opening: Opening) -> None:
    offered = ids(3)
    async with opening("a") as a, opening("b") as b:
        await a.offer(offered)
        taken = await a.receive(2, wait=5)
        assert await b.sweep(idle=600) == []
        assert await b.sweep(idle=0) == taken
        assert tasks(await b.receive(9, wait=5)) == offered[2:]
        assert await b.confirm(taken) == 1


async def test_confirming_what_went_to_another_removes_it_too(opening: Opening) -> None:
    [one] = ids(1)
    async with opening("a") as a, opening("b") as b:
        await a.offer([one])
        taken = await a.receive(1, wait=5)
        await b.sweep(idle=0)
        assert await a.confirm(taken) == 0
        assert await b.sweep(idle=0) == []
        assert await b.confirm(taken) == 0
