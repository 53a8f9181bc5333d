"""Joined transactions: everything that a task does inside is one commit, on one connection."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from random import Random

import psycopg
import pytest
import trio
import trio.testing

from lockd import hold
from sercha.adapters.postgres.leases import open_postgres_leases
from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from sercha.adapters.postgres.transaction import joined_level
from sercha.errors import Conflict, Transient, Unavailable
from tests.support.connections import connected, lose_at_commit, value_of


@pytest.fixture
async def pool(postgres_url: str) -> AsyncGenerator[ConnectionPool]:
    """A pool of one connection: whoever takes a second one inside of a joined transaction is found out."""
    async with open_pool(postgres_url, max_open=1, checkout_timeout=5.0) as pool:
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE t (n int PRIMARY KEY)")
        yield pool


async def insert(pool: ConnectionPool, number: int, *, by_transaction: bool = True) -> int:
    """Insert as a service does, and return the server process that did it."""
    if by_transaction:
        async with pool.transaction() as tx:
            await tx.connection.execute("INSERT INTO t VALUES (%s)", [number])
            return tx.connection.info.backend_pid
    async with pool.connection() as connection:
        await connection.execute("INSERT INTO t VALUES (%s)", [number])
        return connection.info.backend_pid


async def numbers(pool: ConnectionPool) -> set[int]:
    async with pool.connection() as connection:
        return {row[0] for row in await (await connection.execute("SELECT n FROM t")).fetchall()}


@pytest.mark.parametrize("by_transaction", [True, False])
async def test_all_inside_is_one_commit_on_one_connection(
    pool: ConnectionPool, postgres_url: str, by_transaction: bool
) -> None:
    async with connected(postgres_url) as watcher:
        async with pool.joined() as tx:
            pids = {await insert(pool, n, by_transaction=by_transaction) for n in range(3)}
            assert pids == {tx.connection.info.backend_pid}
            assert pool.statistics().in_use == 1
            assert await value_of(watcher, "SELECT count(*) FROM t") == 0
        assert await value_of(watcher, "SELECT count(*) FROM t") == 3
    assert pool.statistics().opened_total == 1


@pytest.mark.parametrize("by_transaction", [True, False])
async def test_an_error_inside_undoes_its_own_part_only(
    pool: ConnectionPool, by_transaction: bool
) -> None:
    async with pool.joined():
        await insert(pool, 1)
        with pytest.raises(psycopg.errors.UniqueViolation):
            await insert(pool, 1, by_transaction=by_transaction)
        with pytest.raises(LookupError):
            async with pool.transaction():
                await insert(pool, 2)
                raise LookupError
        await insert(pool, 3)

    assert await numbers(pool) == {1, 3}


async def test_an_error_of_the_whole_undoes_everything(pool: ConnectionPool) -> None:
    with pytest.raises(LookupError):
        async with pool.joined():
            await insert(pool, 1)
            raise LookupError

    assert await numbers(pool) == set()


async def test_what_joins_inside_of_a_part_goes_with_it(pool: ConnectionPool) -> None:
    async with pool.joined():
        with pytest.raises(LookupError):
            async with pool.joined():
                await insert(pool, 1)
                await insert(pool, 2, by_transaction=False)
                raise LookupError
        async with pool.joined():
            await insert(pool, 3)

    assert await numbers(pool) == {3}


async def test_after_commit_runs_once_the_whole_is_committed_and_only_for_what_was_kept(
    pool: ConnectionPool, postgres_url: str
) -> None:
    told: list[str] = []
    async with pool.joined() as whole:
        whole.after_commit(lambda: told.append("whole"))
        async with pool.transaction() as part:
            part.after_commit(lambda: told.append("part"))
            pool.after_commit(lambda: told.append("pool"))
        with pytest.raises(Conflict):
            async with pool.transaction() as undone:
                undone.after_commit(lambda: told.append("undone"))
                raise Conflict("x")
        assert told == []
    assert told == ["whole", "part", "pool"]

    with pytest.raises(Conflict):
        async with pool.joined():
            async with pool.transaction() as part:
                part.after_commit(lambda: told.append("never"))
            raise Conflict("x")
    pool.after_commit(lambda: told.append("at once"))
    assert told == ["whole", "part", "pool", "at once"]


async def test_after_commit_calls_are_outside_of_the_transaction(pool: ConnectionPool) -> None:
    inside: list[bool] = []
    async with pool.joined() as whole:
        whole.after_commit(lambda: pool.after_commit(lambda: inside.append(whole.is_open)))

    assert inside == [False]


async def test_nothing_joins_after_the_end_not_even_a_task_that_kept_the_context(
    postgres_url: str,
) -> None:
    async with open_pool(postgres_url, max_open=2) as pool:
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE t (n int)")
        ended = trio.Event()

        async def later() -> None:
            await ended.wait()
            await insert(pool, 1)

        async with trio.open_nursery() as nursery:
            async with pool.joined() as tx:
                nursery.start_soon(later)  # gets a copy of this task's context
            assert not tx.is_open
            async with connected(postgres_url) as blocker, blocker.transaction():
                ended.set()
        assert await numbers(pool) == {1}
        async with pool.joined():
            pass  # the connection came back sound


async def test_a_task_that_waits_for_its_turn_beyond_the_end_is_told(postgres_url: str) -> None:
    """Only a task that outlives the block can: what it asked for was never in the transaction."""
    async with open_pool(postgres_url, max_open=2) as pool:
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE t (n int)")
        refused: list[Transient] = []

        async def stray() -> None:
            try:
                await insert(pool, 2)
            except Transient as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            with pytest.raises(LookupError):
                async with pool.joined():
                    async with pool.transaction():
                        pass
                    level = joined_level(pool)
                    assert level is not None
                    await level.turn.acquire()
                    nursery.start_soon(stray)
                    await trio.testing.wait_all_tasks_blocked()
                    raise LookupError
            level.turn.release()
        assert len(refused) == 1
        assert await numbers(pool) == set()


async def test_another_task_and_another_pool_do_not_join(
    pool: ConnectionPool, postgres_url: str
) -> None:
    async with open_pool(postgres_url) as other, trio.open_nursery() as nursery:
        open_inside, may_end = trio.Event(), trio.Event()

        async def hold() -> None:
            async with pool.joined():
                await insert(pool, 1)
                open_inside.set()
                await may_end.wait()
                raise LookupError

        async def hold_and_fail() -> None:
            with pytest.raises(LookupError):
                await hold()

        nursery.start_soon(hold_and_fail)
        await open_inside.wait()
        async with other.joined():
            await insert(other, 2)
        may_end.set()

    assert await numbers(pool) == {2}


async def test_two_pools_stay_apart_in_one_task(pool: ConnectionPool, postgres_url: str) -> None:
    async with open_pool(postgres_url) as other:
        with pytest.raises(LookupError):
            async with pool.joined():
                await insert(other, 1)
                await insert(pool, 2)
                raise LookupError

    assert await numbers(pool) == {1}


async def test_children_of_the_block_take_turns(pool: ConnectionPool, seed: int) -> None:
    """Savepoints nest: without turns the parts of two tasks would end in the wrong order."""
    random = Random(seed)
    kept = set(random.sample(range(40), 20))

    async def work(number: int) -> None:
        try:
            async with pool.transaction():
                await insert(pool, number)
                await trio.sleep(random.uniform(0, 0.002))
                if number not in kept:
                    raise LookupError
        except LookupError:
            pass

    async with pool.joined(), trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(work, number)

    assert await numbers(pool) == kept


async def test_cancelled_at_random_moments_it_commits_all_or_nothing_and_leaks_nothing(
    postgres_url: str, seed: int
) -> None:
    random = Random(seed)
    async with open_pool(postgres_url, max_open=2, checkout_timeout=30.0) as pool:
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE pairs (key int)")

        async def half(key: int, patience: float) -> None:
            with trio.move_on_after(patience):
                async with pool.transaction() as tx:
                    await tx.connection.execute("INSERT INTO pairs VALUES (%s)", [-1 - key])
                    await trio.sleep(patience)
                    raise LookupError

        async def work(key: int, patience: float) -> None:
            with trio.move_on_after(patience):
                async with pool.joined():
                    async with pool.transaction() as tx:
                        await tx.connection.execute("INSERT INTO pairs VALUES (%s)", [key])
                    await half(key, patience / 8)
                    async with pool.connection() as connection:
                        await connection.execute("INSERT INTO pairs VALUES (%s)", [key])

        async with trio.open_nursery() as nursery:
            for key in range(250):
                nursery.start_soon(work, key, random.uniform(0, 0.08))
                await trio.sleep(random.uniform(0, 0.008))

        found = pool.statistics()
        assert (found.in_use, found.waiting) == (0, 0)
        async with pool.connection() as one, pool.connection():
            halves = "SELECT count(*) FROM (SELECT FROM pairs GROUP BY key HAVING count(*) <> 2) x"
            assert await value_of(one, halves) == 0
            assert await value_of(one, "SELECT count(*) FROM pairs WHERE key < 0") == 0
            assert await value_of(one, "SELECT count(*) FROM pairs") > 0  # type: ignore[operator]


async def test_a_cancelled_statement_costs_its_part_only(pool: ConnectionPool) -> None:
    async with pool.joined():
        await insert(pool, 1)
        with trio.move_on_after(0.05) as scope:
            async with pool.transaction() as tx:
                await tx.connection.execute("INSERT INTO t VALUES (2)")
                await tx.connection.execute("SELECT pg_sleep(30)")
        assert scope.cancelled_caught
        await insert(pool, 3)

    assert await numbers(pool) == {1, 3}


async def test_a_connection_that_dies_in_a_part_is_unavailable_and_nothing_is_committed(
    pool: ConnectionPool,
) -> None:
    """Also when somebody takes the error for a passing one and goes on."""
    for swallows in (False, True):
        with pytest.raises(Unavailable) as caught:
            await die_inside(pool, swallows=swallows)
        assert caught.value.error_code == "database-unavailable"
    assert await numbers(pool) == set()


async def die_inside(pool: ConnectionPool, *, swallows: bool) -> None:
    async with pool.joined():
        await insert(pool, 1)
        try:
            async with pool.transaction() as tx:
                await tx.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        except Unavailable:
            if not swallows:
                raise


async def test_only_the_commit_of_the_whole_can_be_unknown(pool: ConnectionPool) -> None:
    async with pool.connection() as connection:
        await lose_at_commit(connection)
    told: list[str] = []
    with pytest.raises(Unavailable) as caught:
        async with pool.joined() as tx:
            tx.after_commit(lambda: told.append("committed"))
            await insert(pool, 1)

    assert caught.value.error_code == "commit-unknown"
    assert told == []


async def test_what_is_dedicated_or_fenced_stays_apart(postgres_url: str) -> None:
    async with open_pool(postgres_url, max_open=4) as pool:
        await migrate(pool)
        async with pool.connection() as connection:
            await connection.execute("CREATE TABLE t (n int)")
        async with open_postgres_leases(pool, max_open=4) as leases, hold(leases, "work") as lease:
            with pytest.raises(LookupError):
                async with pool.joined() as tx:
                    async with pool.dedicated("x") as own:
                        assert own is not tx.connection
                    async with pool.fenced(lease) as fenced:
                        await fenced.connection.execute("INSERT INTO t VALUES (1)")
                    raise LookupError
        assert await numbers(pool) == {1}
