"""The rules of repeated requests on PostgreSQL, with effects that no operation of the API has."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from random import Random

import pytest
import trio
import trio.testing

from sercha.adapters.postgres.idempotency import PostgresAnswerStore
from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from sercha.adapters.security.sealing import MasterKeySeal
from sercha.errors import Conflict, SerchaError, Transient, Unavailable
from sercha.services.idempotency import Answer, Idempotency, RepeatableRequest
from sercha.services.ports import Transaction
from sercha.services.ports.idempotency import RequestIdentity
from tests.support.connections import until

DONE = Answer(201, b"done")


@pytest.fixture
async def pool(postgres_url: str) -> AsyncGenerator[ConnectionPool]:
    async with open_pool(postgres_url, max_open=3) as pool:
        await migrate(pool)
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE effect (n int)")
        yield pool


def rules(pool: ConnectionPool, *, wait_max: float = 10.0, at_once: int = 2) -> Idempotency:
    return Idempotency(
        pool,
        PostgresAnswerStore(),
        MasterKeySeal(b"k" * 32),
        wait_max=wait_max,
        at_once=at_once,
    )


def request(key: str) -> RepeatableRequest:
    return RepeatableRequest(RequestIdentity.of("u", "POST", "/x", key), b"{}")


def refused(error: SerchaError) -> Answer | None:
    return None if isinstance(error, Transient) else Answer(409, error.message.encode())


async def once(rules: Idempotency, key: str, act: Callable[[], Awaitable[Answer]]) -> Answer:
    return await rules.once(request(key), act, refusal=refused)


async def effect(pool: ConnectionPool, number: int) -> None:
    async with pool.transaction() as tx:
        await tx.connection.execute("INSERT INTO effect VALUES (%s)", [number])


async def effects(pool: ConnectionPool) -> list[int]:
    async with pool.connection() as connection:
        rows = await (await connection.execute("SELECT n FROM effect ORDER BY n")).fetchall()
        return [row[0] for row in rows]


async def kept(pool: ConnectionPool) -> int:
    async with pool.connection() as connection:
        row = await (await connection.execute("SELECT count(*) FROM idempotency_key")).fetchone()
        assert row is not None
        return row[0]


async def test_all_parts_of_a_refused_effect_are_undone_and_the_refusal_is_kept(
    pool: ConnectionPool,
) -> None:
    async def act() -> Answer:
        await effect(pool, 1)
        raise Conflict("no")

    first = await once(rules(pool), "a", act)
    again = await once(rules(pool), "a", act)

    assert (first, again) == (Answer(409, b"no"), Answer(409, b"no", is_replayed=True))
    assert await effects(pool) == []


@pytest.mark.parametrize("error", [Unavailable("away"), LookupError("a bug")])
async def test_after_a_failure_nothing_is_left_and_the_next_one_tries_anew(
    pool: ConnectionPool, error: Exception
) -> None:
    async def fail() -> Answer:
        await effect(pool, 1)
        raise error

    async def act() -> Answer:
        await effect(pool, 2)
        return DONE

    with pytest.raises(type(error)):
        await once(rules(pool), "a", fail)
    assert await kept(pool) == 0
    assert await once(rules(pool), "a", act) == DONE
    assert await effects(pool) == [2]


async def test_a_server_that_dies_before_the_answer_is_kept_undoes_the_effect(
    pool: ConnectionPool,
) -> None:
    async def die() -> Answer:
        await effect(pool, 1)
        async with pool.connection() as connection:
            with pytest.raises(Exception, match="terminating"):
                await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return DONE

    with pytest.raises(Unavailable):
        await once(rules(pool), "a", die)
    assert (await effects(pool), await kept(pool)) == ([], 0)


async def test_so_many_at_once_and_the_others_wait_within_a_bound(pool: ConnectionPool) -> None:
    one = rules(pool, wait_max=0.2, at_once=1)
    may_end, started = trio.Event(), trio.Event()

    async def slow() -> Answer:
        started.set()
        await may_end.wait()
        return DONE

    async with trio.open_nursery() as nursery:
        nursery.start_soon(once, one, "a", slow)
        await started.wait()
        with pytest.raises(Transient) as other:
            await once(one, "b", slow)
        with pytest.raises(Transient) as same:
            await once(one, "a", slow)
        with pytest.raises(Transient) as elsewhere:
            await once(rules(pool, wait_max=0.2), "a", slow)
        may_end.set()

    assert other.value.error_code == "pool-exhausted"
    assert same.value.error_code == elsewhere.value.error_code == "idempotency-in-progress"
    assert same.value.retry_after


class Watched(PostgresAnswerStore):
    """Knows which tasks asked PostgreSQL whose turn it is."""

    def __init__(self) -> None:
        self.tasks: list[trio.lowlevel.Task] = []

    async def take(self, tx: Transaction, identity: RequestIdentity, *, idle_max: float) -> bool:
        self.tasks.append(trio.lowlevel.current_task())
        return await super().take(tx, identity, idle_max=idle_max)


async def test_of_those_who_wait_in_one_process_one_asks_postgresql(pool: ConnectionPool) -> None:
    watched = Watched()
    here = Idempotency(pool, watched, MasterKeySeal(b"k" * 32))
    may_end, started = trio.Event(), trio.Event()

    async def slow() -> Answer:
        started.set()
        await may_end.wait()
        return DONE

    async with trio.open_nursery() as nursery:
        nursery.start_soon(once, rules(pool), "a", slow)
        await started.wait()
        async with trio.open_nursery() as waiters:
            for _ in range(8):
                waiters.start_soon(once, here, "a", slow)
            await until(lambda: len(watched.tasks) >= 4)
            asked = set(watched.tasks)
            may_end.set()

    assert len(asked) == 1


async def test_cancelled_and_repeated_at_random_moments_each_takes_place_once(
    pool: ConnectionPool, seed: int
) -> None:
    """Two processes' worth of rules, eight tries for each key; only what was answered counts as done."""
    random = Random(seed)
    both = [rules(pool), rules(pool)]
    answered: set[int] = set()

    async def ask(key: int, patience: float) -> None:
        async def act() -> Answer:
            await effect(pool, key)
            await trio.sleep(random.uniform(0, 0.01))
            await effect(pool, key)
            return Answer(200, str(key).encode())

        with trio.move_on_after(patience):
            answer = await once(random.choice(both), str(key), act)
            assert answer.content == str(key).encode()
            answered.add(key)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            for key in range(25):
                nursery.start_soon(ask, key, random.uniform(0, 0.4))
                await trio.sleep(random.uniform(0, 0.004))

    found = await effects(pool)
    assert {found.count(key) for key in set(found)} <= {2}
    assert answered <= set(found)
    assert len(set(found)) == await kept(pool)
    for each in both:
        assert not each._turns
        assert each._places.value == 2


def test_a_seal_opens_with_its_key_and_context_only() -> None:
    seal, other = MasterKeySeal(b"k" * 32), MasterKeySeal(b"l" * 32)
    sealed = seal.close(b"answer", b"context")

    assert seal.open(sealed, b"context") == b"answer"
    assert sealed != seal.close(b"answer", b"context")
    assert seal.open(sealed, b"other") is None
    assert other.open(sealed, b"context") is None
    for broken in (b"", b"\x01", b"\x02" + sealed[1:], sealed[:-1], sealed[:20]):
        assert seal.open(broken, b"context") is None
    assert seal.digest(b"x") != other.digest(b"x")
