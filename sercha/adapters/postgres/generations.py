"""The generations of an index that all processes share, as rows; the one that answers is one of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

from sercha.adapters.postgres.pool import Connection, ConnectionPool
from sercha.errors import Transient

GENERATION_CHANNEL = "sercha_generation"
"""Told when another generation answers."""

_RETIRE: LiteralString = """
UPDATE generation SET state = 'retired', retired_at = clock_timestamp()
WHERE engine = %(engine)s AND state = %(state)s
"""


class PostgresGenerationStore:
    """`sercha.services.ports.generations.GenerationStore` of one engine."""

    def __init__(self, pool: ConnectionPool, engine: str) -> None:
        self._pool = pool
        self._engine = engine

    async def current(self) -> str | None:
        """Return the one that answers; None: there was none yet."""
        async with self._pool.connection() as connection:
            row = await self._one(connection, "AND state = 'current'")
        return row[0] if row else None

    async def begin(self) -> str:
        """Make a new one, to be filled; one that was begun before and not promoted is retired."""
        async with self._alone() as connection:
            await self._retire(connection, "building")
            cursor = await connection.execute(
                """INSERT INTO generation (id, engine, state)
                   VALUES ('g' || nextval('generation_number'), %s, 'building') RETURNING id""",
                [self._engine],
            )
            row = await cursor.fetchone()
        assert row is not None
        return row[0]

    async def promote(self, generation: str) -> None:
        """Let *generation* answer and retire the one that did until now.

        Raises:
            Transient: it is not being built any more (``index-overtaken``).
        """
        async with self._alone() as connection:
            row = await self._one(connection, "AND state = 'building' AND id = %(id)s", generation)
            if row is None:
                raise Transient(
                    f"another process has begun an index after generation {generation}",
                    code="index-overtaken",
                )
            await self._retire(connection, "current")
            await connection.execute(
                "UPDATE generation SET state = 'current' WHERE id = %s", [generation]
            )
            await connection.execute("SELECT pg_notify(%s, %s)", [GENERATION_CHANNEL, generation])

    async def retire(self, generation: str) -> None:
        """Give up what was begun; without effect on the one that answers."""
        async with self._alone() as connection:
            await connection.execute(
                """UPDATE generation SET state = 'retired', retired_at = clock_timestamp()
                   WHERE engine = %s AND id = %s AND state = 'building'""",
                [self._engine, generation],
            )

    async def retired(self, *, seconds: float) -> list[str]:
        """Return those that were retired at least *seconds* ago and still have documents."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                """SELECT id FROM generation WHERE engine = %s AND state = 'retired'
                   AND retired_at <= clock_timestamp() - make_interval(secs => %s) ORDER BY created_at, id""",
                [self._engine, seconds],
            )
            return [row[0] for row in await cursor.fetchall()]

    async def forget(self, generation: str) -> None:
        """Forget a retired one, whose documents are gone."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "DELETE FROM generation WHERE engine = %s AND id = %s AND state = 'retired'",
                [self._engine, generation],
            )

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[Connection]:
        """Lend a transaction in which no other process changes which generation answers."""
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtext(%s), 0)", [f"generation:{self._engine}"]
            )
            yield connection

    async def _retire(self, connection: Connection, state: str) -> None:
        await connection.execute(_RETIRE, {"engine": self._engine, "state": state})

    async def _one(
        self, connection: Connection, condition: LiteralString, generation: str = ""
    ) -> tuple[Any, ...] | None:
        statement: LiteralString = (
            "SELECT id FROM generation WHERE engine = %(engine)s " + condition
        )
        cursor = await connection.execute(statement, {"engine": self._engine, "id": generation})
        return await cursor.fetchone()
