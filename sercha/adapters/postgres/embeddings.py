"""Models and vectors as rows; a vector is kept by the hash of its text, so what moves or comes again costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString
from uuid import UUID

from sercha.adapters.postgres import embedding_sql as sql
from sercha.adapters.postgres.pgvector import add_vectors
from sercha.adapters.postgres.pool import ConnectionPool
from sercha.adapters.postgres.transaction import connection_of
from sercha.domain.document import DocumentId
from sercha.domain.embedding import EmbeddingModel, Refused, Vector, embedded_text
from sercha.services.ports import Transaction
from sercha.services.ports.embeddings import EmbeddingProgress, ModelState, StoredModel


class PostgresEmbeddingStore:
    """`sercha.services.ports.embeddings.EmbeddingStore` on one pool."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def models(self) -> list[StoredModel]:
        """Return the current model, then the one that is being filled, of those that there are."""
        rows = await self._run(sql.MODELS, {})
        return [
            StoredModel(EmbeddingModel(*row[:3]), row[3], ModelState(row[4]), row[5], row[6])
            for row in rows
        ]

    async def known(self) -> list[EmbeddingModel]:
        """Return all models of which there may be vectors, retired ones too: a search may still ask by one."""
        return [EmbeddingModel(*row) for row in await self._run(sql.KNOWN, {})]

    async def configure(
        self, tx: Transaction, stored: StoredModel, *, changed_by: UUID | None
    ) -> None:
        """Let *stored* be the model that is wanted; all processes are told."""
        connection = connection_of(tx)
        values = {
            "name": stored.name,
            "provider": stored.provider,
            "base_url": stored.model.base_url,
            "model": stored.model.model,
            "dimensions": stored.model.dimensions,
            "api_key": stored.sealed_key,
            "requests_per_minute": stored.requests_per_minute,
            "created_by": changed_by,
            "states": ["filling"],
        }
        await connection.execute(sql.ALONE)
        await connection.execute(sql.FORGET_DONE, values)
        await connection.execute(sql.RETIRE, values)
        await connection.execute(sql.CONFIGURE, values)
        await connection.execute(sql.TELL)

    async def clear(self, tx: Transaction) -> None:
        """Want no model any more; all processes are told."""
        connection = connection_of(tx)
        await connection.execute(sql.ALONE)
        await connection.execute(sql.RETIRE, {"states": ["filling", "current"], "name": ""})
        await connection.execute(sql.TELL)

    async def lacking(
        self, model: str, *, after: DocumentId, limit: int
    ) -> list[tuple[DocumentId, int]]:
        """Return documents above *after* whose present version has no vectors yet, with their sizes in bytes."""
        rows = await self._run(sql.LACKING, {"model": model, "after": after, "limit": limit})
        return [(row[0], row[1]) for row in rows]

    async def missing(self, model: str, document_ids: Sequence[DocumentId]) -> dict[bytes, str]:
        """Return the texts of these documents that are not kept, by hash."""
        rows = await self._run(sql.MISSING, {"model": model, "ids": list(document_ids)})
        return {
            digest: embedded_text(heading, text[start:end])
            for text, *chunks in rows
            for digest, start, end, heading in zip(*chunks, strict=True)
        }

    async def keep(self, model: str, found: Mapping[bytes, Vector | Refused]) -> None:
        """Keep vectors by hash, and which texts can have none; where pgvector has a table, there too."""
        vectors = {
            digest: each if isinstance(each, Vector) else None for digest, each in found.items()
        }
        packed = [each and each.packed for each in vectors.values()]
        async with self._pool.transaction() as tx:
            connection = connection_of(tx)
            await connection.execute(
                sql.KEEP, {"model": model, "hashes": list(found), "vectors": packed}
            )
            await add_vectors(
                connection, model, {digest: each for digest, each in vectors.items() if each}
            )

    async def complete(self, model: str, document_ids: Sequence[DocumentId]) -> int:
        """Note which of these documents have all their vectors; how many there were."""
        async with self._pool.transaction() as tx:
            cursor = await connection_of(tx).execute(
                sql.COMPLETE, {"model": model, "ids": list(document_ids)}
            )
            return cursor.rowcount

    async def progress(self, model: str) -> EmbeddingProgress:
        """Count the documents, and those that have their vectors."""
        return EmbeddingProgress(*(await self._run(sql.PROGRESS, {"model": model}))[0])

    async def moment(self) -> str:
        """Return the present as a ``pg_snapshot``."""
        return (await self._run("SELECT pg_current_snapshot()::text", {}))[0][0]

    async def promote(self, model: str) -> bool:
        """Let *model* be current, if nothing lacks vectors any more; whether it is."""
        values = {"model": model, "name": model}
        async with self._pool.transaction() as tx:
            connection = connection_of(tx)
            await connection.execute(sql.ALONE)
            row = await (await connection.execute(sql.IS_DONE, values)).fetchone()
            assert row is not None
            if row[0]:
                await connection.execute(sql.RETIRE, {"states": ["current"], "name": model})
                await connection.execute(sql.PROMOTE, values)
                await connection.execute(sql.TELL)
            return row[0]

    async def _run(
        self, statement: LiteralString, parameters: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall()
