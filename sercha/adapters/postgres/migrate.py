"""Numbered SQL migrations with checksums, each in a transaction of its own, under a lock.

The lock is held by the transaction, so it works through a pooler and cannot be left behind. A process that is
older than the schema refuses to start: it could write what the newer code does not expect.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

import structlog

from sercha.adapters.postgres.pool import ConnectionPool
from sercha.adapters.postgres.transaction import connection_of
from sercha.errors import Conflict

LOCK_KEY: Final = 0x5E2C_4A00
"""Advisory lock of all migrations; any constant will do that nobody else uses in our database."""

_log = structlog.get_logger()
_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

_CREATE_LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migration (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of ``migrations/``."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SchemaState:
    """What is applied, and what is still to be."""

    applied: tuple[int, ...]
    pending: tuple[str, ...]


def known_migrations() -> tuple[Migration, ...]:
    """Return the migrations that come with this version, in order."""
    folder = files("sercha.adapters.postgres").joinpath("migrations")
    migrations = [
        Migration(int(match[1]), entry.name.removesuffix(".sql"), entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if (match := _NAME.fullmatch(entry.name))
    ]
    migrations.sort(key=lambda migration: migration.version)
    assert [migration.version for migration in migrations] == list(range(1, len(migrations) + 1))
    return tuple(migrations)


async def schema_state(
    pool: ConnectionPool, migrations: tuple[Migration, ...] | None = None
) -> SchemaState:
    """Compare the database with *migrations*; changes nothing.

    Raises:
        Conflict: ``schema-newer`` when the database is ahead of this version, ``schema-changed`` when an
            applied migration's text is not the one that was applied.
    """
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT to_regclass('schema_migration') IS NOT NULL")
        exists = (await cursor.fetchone() or (False,))[0]
        rows: list[tuple[int, str, str]] = []
        if exists:
            cursor = await connection.execute(
                "SELECT version, name, checksum FROM schema_migration ORDER BY version"
            )
            rows = await cursor.fetchall()
    return _compare(rows, migrations or known_migrations())


async def migrate(
    pool: ConnectionPool, migrations: tuple[Migration, ...] | None = None
) -> tuple[str, ...]:
    """Bring the schema up to date and return the names of what was applied.

    Safe to run from many processes at once: one applies, the others wait and find nothing to do. A failure
    or cancellation leaves the schema at the last complete migration.

    Raises:
        Conflict: see `schema_state`.
    """
    migrations = migrations or known_migrations()
    applied: list[str] = []
    while (name := await _apply_next(pool, migrations)) is not None:
        applied.append(name)
    return tuple(applied)


async def _apply_next(pool: ConnectionPool, migrations: tuple[Migration, ...]) -> str | None:
    async with pool.transaction() as tx:
        connection = connection_of(tx)
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
        await connection.execute(_CREATE_LEDGER)
        cursor = await connection.execute(
            "SELECT version, name, checksum FROM schema_migration ORDER BY version"
        )
        state = _compare(await cursor.fetchall(), migrations)
        if not state.pending:
            return None
        migration = migrations[len(state.applied)]
        await connection.execute(migration.sql.encode())
        await connection.execute(
            "INSERT INTO schema_migration (version, name, checksum) VALUES (%s, %s, %s)",
            [migration.version, migration.name, migration.checksum],
        )
    _log.info("migration.applied", name=migration.name)
    return migration.name


def _compare(rows: list[tuple[int, str, str]], migrations: tuple[Migration, ...]) -> SchemaState:
    if len(rows) > len(migrations):
        raise Conflict(
            f"the database's schema is newer (migration {rows[-1][1]}) than this version of Sercha "
            f"(migration {migrations[-1].name}): start the newer version again",
            code="schema-newer",
        )
    for (version, name, checksum), migration in zip(rows, migrations, strict=False):
        if version != migration.version or checksum != migration.checksum:
            raise Conflict(
                f"migration {name} was applied with another text than this version has: "
                "the database belongs to a different build of Sercha",
                code="schema-changed",
            )
    return SchemaState(
        applied=tuple(row[0] for row in rows),
        pending=tuple(migration.name for migration in migrations[len(rows) :]),
    )
