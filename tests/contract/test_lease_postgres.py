"""Leases in PostgreSQL: two rows, and what happens when requests meet at them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random
from uuid import UUID, uuid4

import pytest
import trio

from lockd import Busy, FenceRow, Granted, Lease, Renewal, hold
from lockd.postgres import PostgresStore, TrioConnection, create_tables, open_postgres_store
from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.pool import open_pool
from tests.support.connections import connected, until, value_of
from tests.support.postgres import PostgresServer
from tests.support.row_leases import HOSTILE, open_lab, row_of, take, until_somebody_waits

COLUMNS = """
SELECT c.table_name, c.column_name, c.data_type, c.is_nullable, c.column_default, t.relpersistence,
       pg_get_indexdef(i.indexrelid)
FROM information_schema.columns c
JOIN pg_class t ON t.oid = to_regclass(c.table_name) JOIN pg_index i ON i.indrelid = t.oid
WHERE c.table_name IN ('lease_fence', 'lease_row') ORDER BY c.table_name, c.ordinal_position
"""


# --- The tables ---


async def test_the_migration_makes_the_tables_of_schema_sql(
    postgres_server: PostgresServer, empty_postgres_url: str
) -> None:
    other = postgres_server.create_database()
    async with open_pool(empty_postgres_url) as pool:
        await migrate(pool)
    async with connected(postgres_server.url_for(other)) as connection:
        await create_tables(connection)
        made = await (await connection.execute(COLUMNS.encode())).fetchall()
    async with connected(empty_postgres_url) as connection:
        migrated = await (await connection.execute(COLUMNS.encode())).fetchall()
    postgres_server.drop_database(other)

    assert made == migrated
    assert len(made) == 7
    assert {row[5] for row in made} == {"p"}  # neither unlogged nor temporary


async def test_tables_are_made_by_many_at_once_and_found_by_who_may_not_make_any(
    postgres_server: PostgresServer, empty_postgres_url: str
) -> None:
    async with (
        connected(empty_postgres_url) as hand,
        connected(empty_postgres_url) as watcher,
        trio.open_nursery() as nursery,
        hand.transaction(),
    ):
        await hand.execute("LOCK TABLE pg_type IN SHARE MODE")
        for _ in range(8):
            nursery.start_soon(use_new_store, empty_postgres_url)
        await until_somebody_waits(watcher, 8)  # all have seen that there are no tables

    role = f"plain_{uuid4().hex}"
    postgres_server.execute(f"CREATE ROLE {role} LOGIN")
    async with connected(empty_postgres_url) as connection:
        for table in ("lease_fence", "lease_row"):
            await connection.execute(f"GRANT SELECT, INSERT, UPDATE ON {table} TO {role}".encode())
        await use_new_store(empty_postgres_url.replace("postgres@", f"{role}@"))
        await connection.execute(f"DROP OWNED BY {role}".encode())
    postgres_server.execute(f"DROP ROLE {role}")


async def use_new_store(url: str) -> None:
    async with open_postgres_store(url, create_tables=True) as store:
        await store.seen("x")
        async with hold(store, str(uuid4()), ttl=5) as lease:
            assert lease.token > 0


# --- One request after another ---


async def test_lease_is_granted_once_and_its_holder_is_told(postgres_url: str) -> None:
    async with open_lab(postgres_url) as (store, _):
        assert await store.seen("x") == FenceRow(None, 0)
        holder, token = await take(store)

        assert await store.seen("x") == FenceRow(holder, token)
        for asker in (uuid4(), holder):  # the second as after an answer that was lost
            answer = await store.acquire("x", asker, 30, token)
            assert isinstance(answer, Busy)
            assert (answer.holder, answer.token) == (holder, token)
            assert answer.remaining == pytest.approx(30, abs=2)
        found = await store.inspect("x")
        assert (found.holder, found.token) == (holder, token)
        assert found.remaining == pytest.approx(30, abs=2)


async def test_renewal_says_what_became_of_the_lease(postgres_url: str) -> None:
    async with open_lab(postgres_url) as (store, hand):
        holder, _ = await take(store, ttl=1)
        assert await store.renew("x", holder, 60) is Renewal.RENEWED
        remaining = (await store.inspect("x")).remaining
        assert remaining == pytest.approx(60, abs=2)
        assert await store.renew("x", uuid4(), 60) is Renewal.TAKEN
        assert await store.renew("never held", holder, 60) is Renewal.GONE

        # Expired, and nobody else has taken it: it is lost all the same.
        await hand.execute("UPDATE lease_row SET expires_at = clock_timestamp()")
        assert await store.renew("x", holder, 60) is Renewal.GONE
        assert (await store.inspect("x")).holder is None

        await take(store)
        assert await store.renew("x", holder, 60) is Renewal.TAKEN


async def test_release_frees_only_the_own_lease(postgres_url: str) -> None:
    async with open_lab(postgres_url) as (store, hand):
        first, token = await take(store)
        assert not await store.release("x", uuid4())
        assert (await store.inspect("x")).holder == first
        assert await store.release("x", first)
        assert not await store.release("x", first)
        assert await store.renew("x", first, 30) is Renewal.GONE

        second, newer = await take(store)
        assert newer > token
        assert not await store.release("x", first)
        assert (await store.inspect("x")).holder == second
        await hand.execute("UPDATE lease_row SET expires_at = clock_timestamp()")
        assert not await store.release("x", second)


async def test_who_saw_an_older_token_gets_nothing(postgres_url: str) -> None:
    async with open_lab(postgres_url) as (store, hand):
        holder, _ = await take(store)
        await store.release("x", holder)
        before = await row_of(hand)

        assert await store.acquire("x", uuid4(), 30, 0) == Busy(None, 0.0, before[1])
        assert await row_of(hand) == before


async def test_any_text_is_a_name(postgres_url: str) -> None:
    names = ["", "it's 100 % \\' \" ü €", "%(name)s", "a\nb", "'; DROP TABLE lease_row; --"]
    async with open_lab(postgres_url) as (store, hand):
        for name in names:
            holder, token = await take(store, name)
            assert await store.renew(name, holder, 30) is Renewal.RENEWED
            async with store.fenced(hand, name, holder, token):
                pass
            async with store.notices(name) as notices:
                assert await store.release(name, holder)
                with trio.fail_after(5):
                    await notices.wait()
        rows = await (await hand.execute("SELECT name FROM lease_row")).fetchall()
        assert sorted(rows) == sorted((name,) for name in names)


async def test_eviction_ends_a_lease_and_keeps_its_holder_from_committing(
    postgres_url: str,
) -> None:
    async with open_lab(postgres_url) as (store, _):
        holder, token = await take(store)
        async with store.notices("x") as notices:
            assert await store.evict("x")
            with trio.fail_after(5):
                await notices.wait()

        row = await store.seen("x")
        assert row.holder is None
        assert row.token > token
        assert (await store.inspect("x")).holder is None
        assert await store.renew("x", holder, 30) is Renewal.GONE
        assert not await store.release("x", holder)
        assert not await store.evict("x")
        _, newest = await take(store)
        assert newest > row.token

        # Of a name that nobody had: who had read the fence before has to read it again.
        assert not await store.evict("y")
        assert isinstance(await store.acquire("y", uuid4(), 30, 0), Busy)


# --- Requests that meet: one has waited for a lock, and what it had seen before is over ---

B = "00000000-0000-4000-8000-00000000000b"
B_TAKES_IT = f"""
UPDATE lease_fence SET holder = '{B}', token = token + 1;
UPDATE lease_row SET expires_at = clock_timestamp() + interval '20 s'
"""
A_RENEWS_IT = "UPDATE lease_row SET expires_at = clock_timestamp() + interval '20 s'"
B_TAKES_AND_FREES_IT = B_TAKES_IT + "; UPDATE lease_row SET expires_at = '-infinity'"
Request = Callable[[PostgresStore, UUID, int], Awaitable[object]]


async def renew(store: PostgresStore, holder: UUID, _: int) -> object:
    return await store.renew("x", holder, 60)


async def release(store: PostgresStore, holder: UUID, _: int) -> object:
    return await store.release("x", holder)


async def acquire(store: PostgresStore, _: UUID, seen: int) -> object:
    return type(await store.acquire("x", uuid4(), 60, seen))


async def evict(store: PostgresStore, _: UUID, __: int) -> object:
    return await store.evict("x")


@pytest.mark.parametrize(
    ("request_", "is_live", "meanwhile", "answer"),
    [
        (renew, True, B_TAKES_IT, Renewal.TAKEN),
        (release, True, B_TAKES_IT, False),
        (evict, True, B_TAKES_IT, False),
        (acquire, False, A_RENEWS_IT, Busy),
        (acquire, False, B_TAKES_IT, Busy),
        (acquire, False, B_TAKES_AND_FREES_IT, Busy),
    ],
)
async def test_request_that_waited_for_another_does_not_undo_it(
    postgres_url: str, request_: Request, is_live: bool, meanwhile: str, answer: object
) -> None:
    """The other has its row locked already when the request finds it; it commits while that waits.

    With a single snapshot for lock and decision the request sees what was before.
    """
    async with open_lab(postgres_url, *HOSTILE) as (store, hand):
        holder, token = await take(store)
        if not is_live:
            await store.release("x", holder)
        answers: list[object] = []

        async def ask() -> None:
            answers.append(await request_(store, holder, token))

        async with connected(postgres_url) as watcher, trio.open_nursery() as nursery:
            await hand.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            await hand.execute("SELECT FROM lease_row FOR UPDATE")
            nursery.start_soon(ask)
            await until_somebody_waits(watcher)
            await hand.execute(meanwhile.encode())
            expected = await row_of(hand)
            await hand.execute("COMMIT")

        assert answers == [answer]
        assert await row_of(hand) == expected


async def test_lease_that_expires_while_a_renewal_waits_is_not_renewed(postgres_url: str) -> None:
    """`now()` would be the time before the wait (mutant M18)."""
    async with open_lab(postgres_url) as (store, hand):
        holder, _ = await take(store)
        answers: list[Renewal] = []

        async def ask() -> None:
            answers.append(await store.renew("x", holder, 60))

        async with connected(postgres_url) as watcher, trio.open_nursery() as nursery:
            await hand.execute(
                "UPDATE lease_row SET expires_at = clock_timestamp() + interval '300 ms'"
            )
            async with hand.transaction():
                await hand.execute("SELECT FROM lease_row FOR UPDATE")
                nursery.start_soon(ask)
                await until_somebody_waits(watcher)
                expired = "SELECT expires_at < clock_timestamp() FROM lease_row"
                await until(lambda: value_of(watcher, expired))

        assert answers == [Renewal.GONE]


async def test_a_lease_counts_from_when_it_was_granted_not_from_before_a_wait(
    postgres_url: str,
) -> None:
    async with open_lab(postgres_url) as (store, hand):
        holder, _ = await take(store)
        await store.release("x", holder)
        async with (
            connected(postgres_url) as watcher,
            trio.open_nursery() as nursery,
            hand.transaction(),
        ):
            await hand.execute("SELECT FROM lease_fence FOR SHARE")
            nursery.start_soon(take, store)
            await until_somebody_waits(watcher)
            await watcher.execute("CREATE TABLE waited AS SELECT clock_timestamp() AS at")

        late = "SELECT expires_at >= at + interval '30 s' FROM lease_row, waited"
        assert await value_of(hand, late)


# --- Many at once ---


async def test_tokens_grow_strictly_over_fifty_takeovers_at_once(
    postgres_url: str, seed: int
) -> None:
    """Fifty contend for one lease, with what they saw at different times; each takes it once."""
    random = Random(seed)
    async with open_lab(postgres_url) as (store, hand):
        await hand.execute(
            """CREATE TABLE taken (id serial, token bigint);
               CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                   'BEGIN INSERT INTO taken (token) VALUES (NEW.token); RETURN NULL; END';
               CREATE TRIGGER note AFTER UPDATE ON lease_fence
                   FOR EACH ROW EXECUTE FUNCTION note()"""
        )

        async def contend() -> None:
            holder = uuid4()
            answer: Granted | Busy = Busy(None, None)
            while not isinstance(answer, Granted):
                seen = await store.seen("x")
                await trio.sleep(random.uniform(0, 0.01))
                answer = await store.acquire("x", holder, 30, seen.token)
            assert await store.release("x", holder)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(50):
                    nursery.start_soon(contend)

        rows = await (await hand.execute("SELECT token FROM taken ORDER BY id")).fetchall()
        assert len(rows) == 50
        assert rows == sorted(set(rows))


async def test_sixteen_contenders_with_one_second_of_ttl_act_one_at_a_time(
    postgres_url: str, seed: int
) -> None:
    """Each holds it twice for a part of its TTL and renews, on a store of its own; nobody's work overlaps."""
    random = Random(seed)
    inside: list[Lease] = []
    tokens: list[int] = []

    async def contend() -> None:
        async with open_postgres_store(postgres_url) as store, connected(postgres_url) as pg:
            for _ in range(2):
                async with hold(store, "x", ttl=1, random=random) as lease:
                    inside.append(lease)
                    await act(lease, pg)
                    inside.remove(lease)

    async def act(lease: Lease, pg: TrioConnection) -> None:
        async with lease.fenced(pg):
            assert inside == [lease]
            tokens.append(lease.token)
            await trio.sleep(random.uniform(0, 0.05))

    async with open_lab(postgres_url):
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(16):
                    nursery.start_soon(contend)

    assert len(tokens) == 32
    assert tokens == sorted(set(tokens))
