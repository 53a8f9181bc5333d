"""The extension pgvector, and the tables that it makes of kept vectors.

The schema's migrations cannot need an extension that a server may lack. So each model has a table of its own, made
when it can be: ``embedding_filling_<model>`` until all kept vectors are in it, ``embedding_vector_<model>`` from then
on. Its being there under that name says that it is complete. It holds nothing that could not be filled in again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from sercha.adapters.postgres.pool import Connection
from sercha.domain.embedding import Vector
from sercha.errors import Transient

VERSION_MIN = (0, 8)
"""The first one whose index goes on looking until enough of what it finds passes the filters."""
VECTOR_INDEXED_MAX = 2_000
HALFVEC_INDEXED_MAX = 4_000
"""The greatest dimensions for which there is an index: on 32-bit floats, and on 16-bit ones."""

_FACTS: LiteralString = """
SELECT e.extversion, n.nspname,
       e.extversion IS NOT NULL
           OR EXISTS (SELECT 1 FROM pg_available_extensions a WHERE a.name = 'vector')
FROM (VALUES (1)) AS one
LEFT JOIN pg_extension e ON e.extname = 'vector'
LEFT JOIN pg_namespace n ON n.oid = e.extnamespace
"""

# A table whose column went with the extension is none.
_TABLE: LiteralString = """
SELECT c.relname, format_type(a.atttypid, a.atttypmod)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'vector' AND NOT a.attisdropped
WHERE c.oid IN (to_regclass(%(whole)s), to_regclass(%(filling)s))
"""

_UNWANTED: LiteralString = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
  AND c.relname ~ '^embedding_(vector|filling)_[0-9a-f]{8}$'
  AND NOT EXISTS (SELECT 1 FROM embedding_model m
                  WHERE m.name = right(c.relname, 8) AND m.state <> 'retired')
"""


@dataclass(frozen=True, slots=True)
class Extension:
    """What a database says of pgvector."""

    version: str | None
    """None: this database does not have it."""
    schema: str | None
    is_available: bool
    """The server does."""

    @property
    def obstacle(self) -> str | None:
        """Why it cannot be used, and how to mend it; None: it can."""
        if not self.is_available:
            return (
                "the PostgreSQL server has no pgvector: install 0.8 or newer there, then run CREATE EXTENSION vector "
                "in this database as a superuser"
            )
        if self.version is None:
            return (
                "the database lacks the extension vector, which the worker that makes vectors adds where it may: "
                "else run CREATE EXTENSION vector in it as a superuser"
            )
        if _numbers(self.version) < VERSION_MIN:
            return (
                f"pgvector {self.version} is too old: install 0.8 or newer, then run ALTER EXTENSION vector UPDATE "
                "as a superuser"
            )
        return None


@dataclass(frozen=True, slots=True)
class VectorTable:
    """The table of one model."""

    name: str
    column_type: str
    """As SQL writes it, with its schema where that takes one."""

    @property
    def is_whole(self) -> bool:
        """All kept vectors are in it."""
        return self.name.startswith(_WHOLE)

    @property
    def identifier(self) -> sql.Identifier:
        """Its name in a statement."""
        return sql.Identifier(self.name)

    @property
    def type(self) -> sql.SQL:
        """The type of its vectors in a statement."""
        # Of the catalog, which quotes it.
        return sql.SQL(self.column_type)  # pyright: ignore[reportArgumentType]


_WHOLE = "embedding_vector_"
_FILLING = "embedding_filling_"


def whole_name(model: str) -> str:
    """Return the name of the complete table of a model."""
    return _WHOLE + _checked(model)


def filling_name(model: str) -> str:
    """Return the name of the table of a model while it is filled."""
    return _FILLING + _checked(model)


def kind_of(dimensions: int) -> str:
    """Return the type that vectors of so many dimensions are kept in: the finest that can be indexed, else the finest."""
    return "halfvec" if VECTOR_INDEXED_MAX < dimensions <= HALFVEC_INDEXED_MAX else "vector"


def is_indexed(dimensions: int) -> bool:
    """Say whether there is an index for vectors of so many dimensions."""
    return dimensions <= HALFVEC_INDEXED_MAX


def as_text(vector: Vector) -> str:
    """Write a vector as pgvector reads it, to the last bit."""
    return "[" + ",".join([f"{value:.9g}" for value in vector.values()]) + "]"


async def find_extension(connection: Connection) -> Extension:
    """Ask what the database has."""
    row = await (await connection.execute(_FACTS)).fetchone()
    assert row is not None
    return Extension(*row)


async def find_table(connection: Connection, model: str) -> VectorTable | None:
    """Return the table of a model, complete or not; None: there is none."""
    names = {"whole": whole_name(model), "filling": filling_name(model)}
    row = await (await connection.execute(_TABLE, names)).fetchone()
    return None if row is None else VectorTable(*row)


async def add_vectors(connection: Connection, model: str, found: Mapping[bytes, Vector]) -> None:
    """Add vectors to the table of a model, where there is one; those that are there stay.

    Called after they were kept, in the same transaction: whoever makes a table waits for those who keep, so that
    none is left out.

    Raises:
        Transient: the table went away in this moment.
    """
    table = await find_table(connection, model) if found else None
    if table is None:
        return
    statement = sql.SQL(
        "INSERT INTO {table} (content_hash, vector) SELECT u.content_hash, u.vector::{type} "
        "FROM unnest(%(hashes)s::bytea[], %(vectors)s::text[]) AS u (content_hash, vector) "
        "ORDER BY u.content_hash ON CONFLICT DO NOTHING"
    ).format(table=table.identifier, type=table.type)
    vectors = [as_text(vector) for vector in found.values()]
    try:
        await connection.execute(statement, {"hashes": list(found), "vectors": vectors})
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn) as error:
        raise Transient(f"the table of vectors went away: {error}") from error


async def remove_vectors(connection: Connection, model: str, hashes: Sequence[bytes]) -> None:
    """Remove vectors from the table of a model, where there is one."""
    table = await find_table(connection, model) if hashes else None
    if table is not None:
        statement = sql.SQL("DELETE FROM {table} WHERE content_hash = ANY (%s)")
        await connection.execute(statement.format(table=table.identifier), [list(hashes)])


async def drop_unwanted(connection: Connection) -> None:
    """Drop the tables of models that are retired or gone. The caller sees to it that none is wanted back meanwhile."""
    for (name,) in await (await connection.execute(_UNWANTED)).fetchall():
        await connection.execute(
            sql.SQL("DROP TABLE IF EXISTS {table}").format(table=sql.Identifier(name))
        )


def _checked(model: str) -> str:
    assert re.fullmatch("[0-9a-f]{8}", model), "no name of a model"
    return model


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
