"""Repeated requests at two APIs on one database: one effect, one answer, whoever is asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from random import Random

import httpx
import pytest
import trio

from sercha.roles.api import ApiOptions
from tests.support.api import Api
from tests.support.api_pair import KEY, REPLAYED, USER, Pair, code, open_pair, told
from tests.support.connections import until


@pytest.fixture
async def pair(postgres_url: str, tmp_path: Path) -> AsyncGenerator[Pair]:
    async with open_pair(postgres_url, tmp_path) as pair:
        yield pair


# --- Repeats ---------------------------------------------------------------------------------------------


async def test_a_repeat_elsewhere_gets_the_first_answer_and_has_no_effect(pair: Pair) -> None:
    first = await pair.add(pair.one, "a")
    again = [await pair.add(api, "a") for api in (pair.two, pair.one, pair.two)]

    assert told(first) == (201, first.content, False)
    assert [told(answer) for answer in again] == [(201, first.content, True)] * 3
    assert again[0].headers[REPLAYED] == "true"
    assert await pair.users() == 2


async def test_without_a_key_nothing_is_kept(pair: Pair) -> None:
    body = {**USER}
    first = await pair.one.client.post("/api/v1/users", headers=pair.admin, json=body)
    again = await pair.two.client.post("/api/v1/users", headers=pair.admin, json=body)

    assert (first.status_code, code(again)) == (201, (409, "user-exists"))
    assert await pair.value("SELECT count(*) FROM idempotency_key WHERE path ~ 'users$'") == 0


async def test_many_at_once_on_both_have_one_effect_and_one_answer(pair: Pair, seed: int) -> None:
    random = Random(seed)
    answers: dict[str, list[httpx.Response]] = {f"key-{n}": [] for n in range(6)}

    async def ask(key: str, api: Api) -> None:
        await trio.sleep(random.uniform(0, 0.05))
        answers[key].append(await pair.add(api, key, email=f"{key}@example.org"))

    async with trio.open_nursery() as nursery:
        for key in answers:
            for _ in range(5):
                nursery.start_soon(ask, key, random.choice([pair.one, pair.two]))

    for given in answers.values():
        assert {answer.status_code for answer in given} == {201}
        assert len({answer.content for answer in given}) == 1
        assert sum(REPLAYED not in answer.headers for answer in given) == 1
    assert await pair.users() == 1 + len(answers)
    assert (
        not pair.one.services.idempotency._turns
    )  # nothing is kept of requests that were answered


@pytest.mark.parametrize("max_open", [1, 2])
async def test_a_small_pool_serves_many_keys_at_once(
    postgres_url: str, tmp_path: Path, max_open: int
) -> None:
    """Every attempt needs one connection and never a second one."""
    async with open_pair(postgres_url, tmp_path, max_open=max_open) as pair:
        answers: list[httpx.Response] = []

        async def ask(number: int) -> None:
            email = f"{number}@example.org"
            answers.append(await pair.add(pair.one, f"key-{number}", email=email))

        async with trio.open_nursery() as nursery:
            for number in range(15):
                nursery.start_soon(ask, number)

        assert [answer.status_code for answer in answers] == [201] * 15


async def test_a_repeat_waits_for_the_first_that_runs_elsewhere(pair: Pair) -> None:
    answers: list[httpx.Response] = []

    async def ask(api: Api) -> None:
        answers.append(await pair.add(api, "a"))

    async with trio.open_nursery() as nursery, pair.held("account"):
        nursery.start_soon(ask, pair.one)
        await until(pair.is_blocked)
        for api in (pair.two, pair.two, pair.one):
            nursery.start_soon(ask, api)
        await trio.sleep(0.2)  # long enough that one which did not wait would be blocked too
        assert answers == []
        assert not await pair.is_blocked(2)

    assert [told(answer)[:2] for answer in answers] == [(201, answers[0].content)] * 4
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    assert await pair.users() == 2


async def test_the_wait_has_an_end_and_says_to_ask_again(postgres_url: str, tmp_path: Path) -> None:
    options = ApiOptions(idempotency_wait=0.3)
    async with open_pair(postgres_url, tmp_path, options=options) as pair:
        answers: list[httpx.Response] = []

        async def first() -> None:
            answers.append(await pair.add(pair.one, "a"))

        async with trio.open_nursery() as nursery, pair.held("account"):
            nursery.start_soon(first)
            await until(pair.is_blocked)
            late = [await pair.add(api, "a") for api in (pair.two, pair.one)]
        again = await pair.add(pair.two, "a")

        for answer in late:
            assert code(answer) == (503, "idempotency-in-progress")
            assert int(answer.headers["Retry-After"]) >= 1
        assert told(again) == (201, answers[0].content, True)
        assert await pair.users() == 2


async def test_a_first_attempt_that_was_cancelled_leaves_nothing_behind(pair: Pair) -> None:
    async with trio.open_nursery() as nursery, pair.held("account"):
        nursery.start_soon(pair.add, pair.one, "a")
        await until(pair.is_blocked)
        nursery.cancel_scope.cancel()
    first = await pair.add(pair.two, "a")

    assert told(first) == (201, first.content, False)
    assert await pair.users() == 2


async def test_a_delete_that_is_repeated_does_not_say_that_nothing_is_there(pair: Pair) -> None:
    source = await pair.one.source(pair.admin)
    headers = {**pair.admin, KEY: "delete"}
    path = f"/api/v1/sources/{source}"

    first = await pair.one.client.delete(path, headers=headers)
    again = await pair.two.client.delete(path, headers=headers)
    other_key = await pair.two.client.delete(path, headers={**headers, KEY: "other"})

    assert told(first) == (200, first.content, False)
    assert told(again) == (200, first.content, True)
    assert code(other_key) == (404, "source-not-found")


async def test_a_put_is_not_done_again_after_a_later_one(pair: Pair) -> None:
    source = await pair.one.source(pair.admin)
    path = f"/api/v1/sources/{source}"

    async def rename(api: Api, key: str, name: str) -> httpx.Response:
        return await api.client.put(path, headers={**pair.admin, KEY: key}, json={"name": name})

    await rename(pair.one, "a", "first")
    await rename(pair.two, "b", "second")
    late = await rename(pair.two, "a", "first")

    assert (late.json()["name"], REPLAYED in late.headers) == ("first", True)
    assert await pair.value("SELECT name FROM source") == "second"


async def test_a_sync_that_is_asked_for_twice_is_one_task(pair: Pair) -> None:
    source = await pair.one.source(pair.admin)
    path, headers = f"/api/v1/sources/{source}/sync", {**pair.admin, KEY: "a"}

    first = await pair.one.client.post(path, headers=headers)
    await pair.value("UPDATE task SET state = 'completed' RETURNING 1")
    again = await pair.two.client.post(path, headers=headers)

    assert (first.status_code, again.content) == (202, first.content)
    assert await pair.value("SELECT count(*) FROM task WHERE kind = 'sync_source'") == 1
