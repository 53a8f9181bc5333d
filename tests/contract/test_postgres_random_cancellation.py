"""Every use of a connection, cancelled at random moments: nothing half done, nothing lost track of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

import trio
from psycopg import pq

from lockd.postgres import TrioConnection
from tests.support.connections import connected, value_of

IDLE = pq.TransactionStatus.IDLE

# Each way to write leaves two rows with its key, or none: two when it was not cancelled, none when it was a
# transaction outside of a pipeline and was cancelled.


async def in_a_transaction(connection: TrioConnection, key: int) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO pairs VALUES (%s)", (key,))
        await connection.execute("INSERT INTO pairs VALUES (%s)", (key,))


async def in_nested_transactions(connection: TrioConnection, key: int) -> None:
    async with connection.transaction():
        async with connection.transaction():
            await connection.execute("INSERT INTO pairs VALUES (%s)", (key,))
        async with connection.transaction(force_rollback=True):
            await connection.execute("INSERT INTO pairs VALUES (%s)", (key,))
        async with connection.transaction():
            await connection.execute("INSERT INTO pairs VALUES (%s)", (key,))


async def by_executemany(connection: TrioConnection, key: int) -> None:
    async with connection.transaction(), connection.cursor() as cursor:
        await cursor.executemany("INSERT INTO pairs VALUES (%s)", [(key,), (key,)])


async def by_copy(connection: TrioConnection, key: int) -> None:
    async with (
        connection.transaction(),
        connection.cursor() as cursor,
        cursor.copy("COPY pairs FROM STDIN") as copy,
    ):
        await copy.write_row((key,))
        await copy.write_row((key,))


async def by_one_statement(connection: TrioConnection, key: int) -> None:
    await connection.execute("INSERT INTO pairs SELECT %s FROM generate_series(1, 2)", (key,))


async def in_a_pipeline(connection: TrioConnection, key: int) -> None:
    async with connection.pipeline(), connection.transaction():
        await connection.execute("INSERT INTO pairs VALUES (%s)", (key,))
        await connection.execute("INSERT INTO pairs VALUES (%s)", (key,))


async def by_copying_out(connection: TrioConnection, key: int) -> None:
    await by_one_statement(connection, key)
    statement = "COPY (SELECT generate_series(1, 20000)) TO STDOUT"
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        async for _ in copy:
            pass


async def by_reading_slowly(connection: TrioConnection, key: int) -> None:
    await by_one_statement(connection, key)
    async with connection.cursor() as cursor:
        async for _ in cursor.stream("SELECT generate_series(1, 300), pg_sleep(0)"):
            pass
    async with connection.transaction(), connection.cursor("named") as cursor:
        await cursor.execute("SELECT generate_series(1, 100)")
        await cursor.fetchmany(10)
    await connection.execute("SELECT pg_sleep(0.002)")


Write = Callable[[TrioConnection, int], Awaitable[None]]
TRANSACTIONS: list[Write] = [in_a_transaction, in_nested_transactions, by_executemany, by_copy]
OTHERS: list[Write] = [by_one_statement, in_a_pipeline, by_copying_out, by_reading_slowly]


async def test_cancelled_at_random_moments_nothing_is_half_done(
    postgres_url: str, seed: int
) -> None:
    """800 rounds over all kinds of use; each is cancelled after a random part of its usual time."""
    random = Random(seed)
    cancelled: Counter[str] = Counter()
    closed: Counter[str] = Counter()
    usual: dict[Write, float] = {}
    async with connected(postgres_url) as watcher:
        await watcher.execute("CREATE TABLE pairs (key int)")
        connection = await TrioConnection.connect(postgres_url, autocommit=True)
        for key in range(800):
            write = random.choice([*TRANSACTIONS, *OTHERS])
            began = trio.current_time()
            with trio.move_on_after(random.uniform(0, 1.3) * usual.get(write, 1.0)) as scope:
                await write(connection, key)
            if not scope.cancelled_caught:
                usual[write] = min(usual.get(write, 1.0), trio.current_time() - began)

            rows = await value_of(watcher, "SELECT count(*) FROM pairs WHERE key = %s", key)
            where = f"round {key}, {write.__name__}"
            if not scope.cancelled_caught:
                assert rows == 2, where
            elif write in TRANSACTIONS:
                assert rows == 0, where
            cancelled[write.__name__] += scope.cancelled_caught
            if connection.closed:
                closed[write.__name__] += 1
                connection = await TrioConnection.connect(postgres_url, autocommit=True)
            assert_ready(connection)
            assert await value_of(connection, "SELECT %s::int", key) == key, where
        connection.finish()
        halves = "SELECT count(*) FROM (SELECT FROM pairs GROUP BY key HAVING count(*) <> 2) x"
        assert await value_of(watcher, halves) == 0

    print(f"cancelled {dict(cancelled)}, closed {dict(closed)}")
    assert min(cancelled[write.__name__] for write in TRANSACTIONS + OTHERS) > 10
    assert not closed["in_a_transaction"] + closed["in_nested_transactions"]


def assert_ready(connection: TrioConnection) -> None:
    assert connection.pgconn.transaction_status == IDLE
    assert connection.pgconn.pipeline_status == pq.PipelineStatus.OFF
    assert connection._pipeline is None
    assert connection._num_transactions == 0
    assert not connection.lock.locked()
