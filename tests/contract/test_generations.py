"""Which generation of a shared index answers: one, at every moment, for all processes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from sercha.adapters.postgres.generations import GENERATION_CHANNEL, PostgresGenerationStore
from sercha.errors import Transient
from sercha.services import remote_follow
from sercha.services.ports.generations import GenerationStore
from tests.support.generations import MemoryGenerations
from tests.support.truth import open_truth


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[GenerationStore]:
    if request.param == "memory":
        yield MemoryGenerations()
        return
    async with open_truth(request.getfixturevalue("postgres_url")) as truth:
        yield PostgresGenerationStore(truth.pool, "vespa")


async def test_what_is_promoted_answers_and_the_one_before_is_retired(
    store: GenerationStore,
) -> None:
    assert await store.current() is None
    first = await store.begin()
    assert await store.current() is None
    await store.promote(first)
    second = await store.begin()
    assert await store.current() == first

    await store.promote(second)

    assert await store.current() == second
    assert await store.retired(seconds=0) == [first]
    await store.forget(first)
    assert await store.retired(seconds=0) == []
    assert await store.begin() not in (first, second)


async def test_only_the_last_one_begun_can_be_promoted(store: GenerationStore) -> None:
    overtaken, last = await store.begin(), await store.begin()

    with pytest.raises(Transient) as caught:
        await store.promote(overtaken)

    assert caught.value.error_code == "index-overtaken"
    assert await store.current() is None
    await store.promote(last)
    assert await store.current() == last
    assert await store.retired(seconds=0) == [overtaken]


async def test_what_is_given_up_is_retired_and_what_answers_is_not(store: GenerationStore) -> None:
    first = await store.begin()
    await store.promote(first)
    second = await store.begin()

    await store.retire(second)
    await store.retire(first)

    assert await store.current() == first
    assert await store.retired(seconds=0) == [second]


async def test_one_that_was_retired_just_now_is_kept(postgres_url: str) -> None:
    async with open_truth(postgres_url) as truth:
        store = PostgresGenerationStore(truth.pool, "vespa")
        for _ in range(2):
            await store.promote(await store.begin())

        assert await store.retired(seconds=60) == []
        assert len(await store.retired(seconds=0)) == 1


async def test_engines_do_not_see_each_others_generations(postgres_url: str) -> None:
    async with open_truth(postgres_url) as truth:
        store = PostgresGenerationStore(truth.pool, "vespa")
        other = PostgresGenerationStore(truth.pool, "another")
        generation = await store.begin()
        await store.promote(generation)

        assert await other.current() is None
        with pytest.raises(Transient):
            await other.promote(generation)


async def test_of_many_that_promote_at_once_one_answers(postgres_url: str) -> None:
    async with open_truth(postgres_url) as truth:
        store = PostgresGenerationStore(truth.pool, "vespa")
        promoted: list[str] = []

        async def compete() -> None:
            generation = await store.begin()
            try:
                await store.promote(generation)
            except Transient:
                return
            promoted.append(generation)

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(compete)

        assert await store.current() in promoted
        assert len(await store.retired(seconds=0)) == 19


async def test_a_promotion_is_told(postgres_url: str) -> None:
    assert remote_follow.CHANNEL == GENERATION_CHANNEL
    async with open_truth(postgres_url) as truth:
        store = PostgresGenerationStore(truth.pool, "vespa")
        with truth.notices.subscribe(GENERATION_CHANNEL) as subscription:
            await store.promote(await store.begin())
            with trio.fail_after(5):
                await subscription.wait()
