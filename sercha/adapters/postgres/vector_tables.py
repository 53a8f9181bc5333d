"""Filling the tables that pgvector searches, from the vectors that are kept.

::

    no table ──▶ filling, all that is kept later goes there too ──▶ old ones by batches ──▶ index ──▶ renamed: whole
       ▲                                                                                                │
       └───────────────── gone with the extension, or not in the backup that was restored ──────────────┘
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
import structlog
import trio
from psycopg import sql

from sercha.adapters.postgres.pgvector import (
    Extension,
    VectorTable,
    add_vectors,
    filling_name,
    find_extension,
    find_table,
    is_indexed,
    kind_of,
    whole_name,
)
from sercha.adapters.postgres.pool import Connection, ConnectionPool
from sercha.adapters.postgres.transaction import connection_of
from sercha.domain.embedding import EmbeddingModel, Vector

BATCH = 500
"""Vectors that are put in place by one transaction."""
COMPARE_INTERVAL = 3600.0
"""Seconds between looks for kept vectors that a complete table lacks: nothing that Sercha does leads there."""
TRY_INTERVAL = 60.0
"""Seconds between tries to add an extension that we may not add: each leaves an error in the server's log."""
INDEX_MEMORY = "256MB"
"""For building an index: the graph of 100,000 vectors of 384 dimensions fits."""

_log = structlog.get_logger()

_MISSING = """
SELECT e.content_hash, e.vector FROM embedding e
WHERE e.model = %(model)s AND e.content_hash > %(after)s AND e.vector IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM {table} v WHERE v.content_hash = e.content_hash)
ORDER BY e.content_hash LIMIT %(limit)s
"""

_WAIT_FOR_KEEPERS = "LOCK TABLE embedding IN SHARE ROW EXCLUSIVE MODE"

_FOR_BUILDING = """
SELECT set_config('maintenance_work_mem', %s, true), set_config('statement_timeout', '0', true)
"""


class PostgresVectorTables:
    """`sercha.services.ports.vector_search.VectorTables` on one pool."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._compared_at: dict[str, float] = {}
        self._refusal = ""
        self._refused_at = float("-inf")

    async def complete(self, model: EmbeddingModel) -> str | None:
        """Put all kept vectors of *model* in place; None, or what keeps it from that and how to mend it.

        Cancelled, what was put in place until then stays.

        Raises:
            Transient: PostgreSQL is away.
        """
        try:
            extension = await self._extension()
            if extension.obstacle is not None:
                return self._refusal or extension.obstacle
            async with self._pool.connection() as connection:
                table = await find_table(connection, model.name)
            if table is not None and table.is_whole and self._was_compared(model):
                return None
            await self._fill(model, table or await self._make(model, extension))
        except psycopg.errors.InsufficientPrivilege as error:
            return f"the tables of vectors cannot be made: {_sentence(error)}: grant the role CREATE on the schema"
        except psycopg.Error as error:
            _log.warning("vectors.failed", model=model.name, error=_sentence(error))
            return f"the tables of vectors cannot be filled: {_sentence(error)}"
        self._compared_at[model.name] = trio.current_time()
        return None

    def _was_compared(self, model: EmbeddingModel) -> bool:
        at = self._compared_at.get(model.name, float("-inf"))
        return trio.current_time() < at + COMPARE_INTERVAL

    async def _extension(self) -> Extension:
        """Look for the extension, and add it where it is missing and can be had."""
        async with self._pool.connection() as connection:
            found = await find_extension(connection)
        if found.version is not None or not found.is_available:
            self._refusal, self._refused_at = "", float("-inf")
            return found
        if trio.current_time() < self._refused_at + TRY_INTERVAL:
            return found
        try:
            async with self._alone() as connection:
                await _add_extension(connection)
                found = await find_extension(connection)
        except _Refused as error:
            self._refused_at = trio.current_time()
            self._refusal = (
                f"the extension vector cannot be added ({error}): run CREATE EXTENSION vector in the database as a "
                "superuser"
            )
            _log.warning("vectors.no_extension", error=str(error))
        else:
            _log.info("vectors.extension_added", version=found.version)
        return found

    async def _make(self, model: EmbeddingModel, extension: Extension) -> VectorTable:
        assert extension.schema is not None
        kind = sql.SQL("{schema}.{kind}({dimensions})").format(
            schema=sql.Identifier(extension.schema),
            kind=sql.Identifier(kind_of(model.dimensions)),
            dimensions=sql.Literal(model.dimensions),
        )
        table = sql.Identifier(filling_name(model.name))
        async with self._alone() as connection:
            # After those who keep vectors now: what they keep is filled in, what is kept later goes there at once.
            await connection.execute(_WAIT_FOR_KEEPERS)
            found = await find_table(connection, model.name)
            if found is None:
                await self._drop_remains(connection, model)
                statement = sql.SQL(
                    "CREATE TABLE {table} (content_hash bytea PRIMARY KEY, vector {kind} NOT NULL)"
                )
                await connection.execute(statement.format(table=table, kind=kind))
                found = await find_table(connection, model.name)
        assert found is not None
        return found

    async def _drop_remains(self, connection: Connection, model: EmbeddingModel) -> None:
        for name in (whole_name(model.name), filling_name(model.name)):
            statement = sql.SQL("DROP TABLE IF EXISTS {table}")
            await connection.execute(statement.format(table=sql.Identifier(name)))

    async def _fill(self, model: EmbeddingModel, table: VectorTable) -> None:
        after, filled = b"", 0
        statement = sql.SQL(_MISSING).format(table=table.identifier)
        while True:
            async with self._pool.transaction() as tx:
                connection = connection_of(tx)
                values = {"model": model.name, "after": after, "limit": BATCH}
                cursor = await connection.execute(statement, values, binary=True)
                rows = await cursor.fetchall()
                found = {bytes(digest): Vector(bytes(packed)) for digest, packed in rows}
                await add_vectors(connection, model.name, found)
            filled += len(found)
            if len(found) < BATCH:
                break
            after = max(found)
        if not table.is_whole:
            await self._finish(model)
        if filled:
            _log.info("vectors.filled", model=model.name, count=filled)

    async def _finish(self, model: EmbeddingModel) -> None:
        """Make the index, and let the table be the one that searches use."""
        filling = sql.Identifier(filling_name(model.name))
        whole = sql.Identifier(whole_name(model.name))
        if is_indexed(model.dimensions):
            await self._build_index(model)
        async with self._alone() as connection:
            # Those who keep vectors now have looked for the table under one of its names, and are let finish.
            await connection.execute(_WAIT_FOR_KEEPERS)
            table = await find_table(connection, model.name)
            if table is None or table.is_whole:
                return
            statement = sql.SQL("ALTER TABLE {filling} RENAME TO {whole}")
            await connection.execute(statement.format(filling=filling, whole=whole))
        _log.info("vectors.table_complete", model=model.name)

    async def _build_index(self, model: EmbeddingModel) -> None:
        """Make the index in a transaction of its own: those who keep wait for it, and it must wait for none of them."""
        extension = await self._extension()
        kind = f"{kind_of(model.dimensions)}_ip_ops"
        async with self._alone() as connection:
            table = await find_table(connection, model.name)
            if table is None or table.is_whole:
                return
            await connection.execute(_FOR_BUILDING, [INDEX_MEMORY])
            statement = sql.SQL(
                "CREATE INDEX IF NOT EXISTS {index} ON {table} USING hnsw (vector {kind})"
            )
            await connection.execute(
                statement.format(
                    index=sql.Identifier(f"{whole_name(model.name)}_hnsw"),
                    table=table.identifier,
                    kind=sql.Identifier(extension.schema or "public", kind),
                )
            )

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[Connection]:
        """Open a transaction that makes or renames tables, beside no other such one."""
        async with self._pool.transaction() as tx:
            connection = connection_of(tx)
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtext('embedding_vector'), 0)"
            )
            yield connection


class _Refused(Exception):
    """The server does not add an extension."""


async def _add_extension(connection: Connection) -> None:
    """Add pgvector to the database.

    Raises:
        _Refused: we may not, or its files are not whole.
    """
    try:
        await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.FeatureNotSupported,
        psycopg.errors.UndefinedFile,
    ) as error:
        raise _Refused(_sentence(error)) from error


def _sentence(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
