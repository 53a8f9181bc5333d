"""The nearest chunks by pgvector, of documents that live, may be read and pass the filters.

All of that is in the statement that compares the vectors: what may not be found never leaves the database. With its
index pgvector goes on from the closest to the next ones until enough have passed, up to `SCAN_TUPLES_MAX`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, LiteralString

import psycopg
import structlog
import trio
from psycopg import sql

from sercha.adapters.postgres.neighbour_sql import (
    AMONG,
    BY_INDEX,
    SETTINGS,
    STATE,
    conditions_of,
)
from sercha.adapters.postgres.pgvector import (
    Extension,
    VectorTable,
    as_text,
    find_extension,
    find_table,
    whole_name,
)
from sercha.adapters.postgres.pool import ConnectionPool
from sercha.adapters.postgres.transaction import connection_of
from sercha.domain.document import DocumentId
from sercha.domain.query import SearchQuery
from sercha.services.neighbour_search import REACH
from sercha.services.ports.vector_search import Neighbour, Neighbours, QueryVector, VectorsState

LOOK_SECONDS = 2.0
"""How long it may go unnoticed that a table, or the extension, has gone."""
STATEMENT_MILLISECONDS = 2_000
"""What the server may take for one comparison."""
EF_SEARCH = 200
"""How many candidates the index keeps at a time: with 20,000 vectors of 384 dimensions it finds 99 of the nearest 100."""
SCAN_TUPLES_MAX = 20_000
"""How many vectors the index is followed through for one search, whether they pass or not."""

_log = structlog.get_logger()


class PostgresNeighbours:
    """`sercha.services.ports.vector_search.NeighbourStore` on one pool."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._places: dict[str, tuple[VectorTable, Extension, float]] = {}
        self._state: tuple[VectorsState, float] | None = None

    async def nearest(
        self,
        query: SearchQuery,
        principals: frozenset[str],
        vector: QueryVector,
        *,
        among: Sequence[DocumentId] | None,
        chunks: int,
    ) -> Neighbours | None:
        """Find documents by their closest chunk; see the port.

        Raises:
            Transient: PostgreSQL did not answer, or not in time.
        """
        conditions = conditions_of(query, principals)
        if conditions is None or (among is not None and not among):
            return Neighbours((), is_all=True)
        place = await self._place(vector.model)
        if place is None:
            return None
        where, parameters = conditions
        parameters |= {
            "vector": as_text(vector.vector),
            "among": among if among is None else list(among),
            "chunks": chunks,
            "reach": REACH,
        }
        statement = _statement(BY_INDEX if among is None else AMONG, where, *place)
        try:
            rows = await self._run(statement, parameters, by_index=among is None)
        except psycopg.Error as error:
            # Dropped in this moment, the extension perhaps.
            self._places.pop(vector.model, None)
            _log.warning("vectors.failed", model=vector.model, error=" ".join(str(error).split()))
            return None
        return Neighbours(closest(rows), is_all=among is not None or len(rows) < chunks)

    async def state(self) -> VectorsState:
        """Say whether vectors can be used, as of a moment ago.

        Raises:
            Transient: PostgreSQL is away.
        """
        now = trio.current_time()
        if self._state is None or now > self._state[1] + LOOK_SECONDS:
            self._state = (await self._look(), now)
        return self._state[0]

    async def _look(self) -> VectorsState:
        async with self._pool.connection() as connection:
            extension = await find_extension(connection)
            row = await (await connection.execute(STATE)).fetchone()
            assert row is not None
            wanted, current = row
            table = None if current is None else await find_table(connection, current)
        # Nobody wants vectors: what is missing will be added when somebody does, or be said then.
        if not wanted:
            return VectorsState(is_usable=extension.obstacle is None)
        if extension.obstacle is not None:
            return VectorsState(is_usable=False, is_healthy=False, message=extension.obstacle)
        if current is not None and (table is None or not table.is_whole):
            message = (
                f"the vectors of the current model are being put in place in {whole_name(current)}"
            )
            return VectorsState(is_usable=False, is_healthy=False, message=message)
        return VectorsState(is_usable=True)

    async def _place(self, model: str) -> tuple[VectorTable, Extension] | None:
        """Return where the vectors of a model are; None: nowhere, or not all of them. What is there is remembered."""
        now = trio.current_time()
        self._places = {
            name: place for name, place in self._places.items() if now < place[2] + LOOK_SECONDS
        }
        if model not in self._places:
            async with self._pool.connection() as connection:
                extension = await find_extension(connection)
                table = await find_table(connection, model)
            if table is None or not table.is_whole or extension.obstacle is not None:
                return None
            self._places[model] = table, extension, now
        return self._places[model][:2]

    async def _run(
        self, statement: sql.Composed, parameters: dict[str, Any], *, by_index: bool
    ) -> list[tuple[Any, ...]]:
        settings = {
            "timeout": str(STATEMENT_MILLISECONDS),
            "ef_search": str(EF_SEARCH),
            "scan_tuples": str(SCAN_TUPLES_MAX),
            # Only the index gives the nearest without comparing all; the planner may think otherwise.
            "others": "off" if by_index else "on",
        }
        async with self._pool.transaction() as tx:
            connection = connection_of(tx)
            await connection.execute(SETTINGS, settings)
            cursor = await connection.execute(statement, parameters, binary=True)
            return await cursor.fetchall()


def _statement(
    form: LiteralString, where: sql.SQL, table: VectorTable, extension: Extension
) -> sql.Composed:
    assert extension.schema is not None
    return sql.SQL(form).format(
        table=table.identifier,
        type=table.type,
        schema=sql.Identifier(extension.schema),
        conditions=where,
    )


def closest(rows: Iterable[tuple[Any, ...]]) -> tuple[Neighbour, ...]:
    """Of each document keep its closest chunk, the first among equals."""
    best: dict[int, tuple[float, int]] = {}
    for number, position, distance in rows:
        found = (distance, position)
        best[number] = min(best.get(number, found), found)
    ordered = sorted((distance, number, position) for number, (distance, position) in best.items())
    return tuple(
        Neighbour(DocumentId(number), position, -distance) for distance, number, position in ordered
    )
