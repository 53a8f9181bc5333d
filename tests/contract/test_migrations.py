"""Migrations: once each, by one process at a time, never backwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from psycopg.errors import SyntaxError as PostgresSyntaxError

from sercha.adapters.postgres.migrate import known_migrations, migrate, schema_state
from sercha.adapters.postgres.pool import open_pool
from sercha.errors import Conflict

KNOWN = known_migrations()
NAMES = tuple(migration.name for migration in KNOWN)


async def test_many_processes_at_once_apply_each_migration_once(empty_postgres_url: str) -> None:
    applied: list[str] = []

    async def start() -> None:
        async with open_pool(empty_postgres_url) as pool:
            applied.extend(await migrate(pool))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(start)

    assert tuple(sorted(applied)) == NAMES
    async with open_pool(empty_postgres_url) as pool:
        assert (await schema_state(pool)).pending == ()


async def test_an_empty_database_is_all_pending_and_check_changes_nothing(
    empty_postgres_url: str,
) -> None:
    async with open_pool(empty_postgres_url) as pool:
        for _ in range(2):
            state = await schema_state(pool)
            assert state.applied == ()
            assert state.pending == NAMES


async def test_a_newer_schema_is_refused(empty_postgres_url: str) -> None:
    newer = replace(KNOWN[-1], version=KNOWN[-1].version + 1, name="9999_later", sql="SELECT 1")
    async with open_pool(empty_postgres_url) as pool:
        await migrate(pool, (*KNOWN, newer))

        with pytest.raises(Conflict, match="newer") as caught:
            await migrate(pool)

        assert caught.value.error_code == "schema-newer"


async def test_a_changed_migration_is_refused(empty_postgres_url: str) -> None:
    async with open_pool(empty_postgres_url) as pool:
        await migrate(pool)

        with pytest.raises(Conflict, match=KNOWN[0].name) as caught:
            await schema_state(pool, (replace(KNOWN[0], sql="SELECT 2"), *KNOWN[1:]))

        assert caught.value.error_code == "schema-changed"


async def test_a_failing_migration_leaves_the_schema_at_the_last_complete_one(
    empty_postgres_url: str,
) -> None:
    broken = replace(
        KNOWN[-1],
        version=KNOWN[-1].version + 1,
        name="9998_broken",
        sql="CREATE TABLE half (id int); SELEKT 1",
    )
    async with open_pool(empty_postgres_url) as pool:
        with pytest.raises(PostgresSyntaxError):
            await migrate(pool, (*KNOWN, broken))

        assert (await schema_state(pool, (*KNOWN, broken))).pending == ("9998_broken",)
        async with pool.connection() as connection:
            cursor = await connection.execute("SELECT to_regclass('half')")
            assert await cursor.fetchone() == (None,)
