"""The truth about documents: text, chunks, versions and tombstones.

Writers bump nothing by hand: a trigger raises a document's version whenever something that an engine sees
changes, and other triggers record the change for the feed in the same transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from sercha.adapters.postgres import document_sql as sql
from sercha.adapters.postgres.pool import ConnectionPool
from sercha.adapters.postgres.transaction import connection_of
from sercha.domain.document import Chunk, Document, DocumentDraft, DocumentId, IndexedDocument
from sercha.domain.embedding import Vector, content_hash, embedded_text
from sercha.domain.source import SyncStats
from sercha.services.ports import Change, KnownItem, Passage, Transaction
from sercha.services.ports.documents import TWINS_MAX, Twin


class PostgresDocumentStore:
    """`sercha.services.ports.DocumentStore` on one pool."""

    def __init__(self, pool: ConnectionPool, *, reads_vectors: bool = False) -> None:
        """With *reads_vectors* `read` gives each document its vectors, for an engine that keeps them."""
        self._pool = pool
        self._reads_vectors = reads_vectors

    async def known(
        self, source_id: UUID, *, after: str | None, through: str | None
    ) -> list[KnownItem]:
        """Return documents and issues with external ids in ``(after, through]``, bytewise."""
        rows = await self._run(
            sql.KNOWN, {"source_id": source_id, "after": after, "through": through}
        )
        return [KnownItem(*row) for row in rows]

    async def save(
        self, tx: Transaction, source_id: UUID, drafts: Sequence[DocumentDraft]
    ) -> SyncStats:
        """Insert or replace *drafts* by external id; counts what was added, updated and chunked."""
        if not drafts:
            return SyncStats()
        connection = connection_of(tx)
        cursor = await connection.execute(sql.SAVE, _columns(source_id, drafts))
        saved = {row[1]: (row[0], row[2]) for row in await cursor.fetchall()}
        await connection.execute(sql.DROP_CHUNKS, {"ids": [id_ for id_, _ in saved.values()]})
        async with (
            connection.cursor() as writer,
            writer.copy(sql.COPY_CHUNKS) as copy,
        ):
            for draft in drafts:
                document_id = saved[draft.external_id][0]
                for chunk in draft.chunks:
                    await copy.write_row((document_id, *_chunk_row(draft.text, chunk)))
        added = sum(1 for _, is_new in saved.values() if is_new)
        return SyncStats(
            documents_added=added,
            documents_updated=len(saved) - added,
            chunks_indexed=sum(len(draft.chunks) for draft in drafts),
        )

    async def touch(
        self, tx: Transaction, source_id: UUID, fingerprints: Sequence[tuple[str, str]]
    ) -> None:
        """Record new fingerprints of documents whose content is the same."""
        if fingerprints:
            await connection_of(tx).execute(
                sql.TOUCH,
                {
                    "source_id": source_id,
                    "external_ids": [external_id for external_id, _ in fingerprints],
                    "fingerprints": [fingerprint for _, fingerprint in fingerprints],
                },
            )

    async def delete(self, tx: Transaction, source_id: UUID, external_ids: Sequence[str]) -> int:
        """Delete by external id, leaving tombstones; how many there were."""
        if not external_ids:
            return 0
        return await self._bury(
            tx, sql.DELETE, {"source_id": source_id, "external_ids": list(external_ids)}
        )

    async def delete_all(self, tx: Transaction, source_id: UUID) -> int:
        """Delete all documents of a source, leaving tombstones; how many there were."""
        return await self._bury(tx, sql.DELETE_ALL, {"source_id": source_id})

    async def _bury(self, tx: Transaction, statement: Any, parameters: dict[str, Any]) -> int:
        connection = connection_of(tx)
        cursor = await connection.execute(statement, parameters)
        ids = [row[0] for row in await cursor.fetchall()]
        await connection.execute(sql.DROP_CHUNKS, {"ids": ids})
        return len(ids)

    async def get(self, document_id: DocumentId) -> Document | None:
        """Return a live document, or None."""
        rows = await self._run(sql.GET, {"id": document_id})
        return _document(rows[0]) if rows else None

    async def list(
        self, source_id: UUID, principals: frozenset[str], *, limit: int, offset: int
    ) -> tuple[list[Document], int]:
        """Return one page of a source's readable documents by external id, and how many there are."""
        parameters = {
            "source_id": source_id,
            "principals": sorted(principals),
            "limit": limit,
            "offset": offset,
        }
        rows = await self._run(sql.LIST, parameters)
        total = await self._run(sql.COUNT_OF_SOURCE, parameters)
        return [_document(row) for row in rows], total[0][0]

    async def read(self, document_ids: Sequence[DocumentId]) -> list[Change]:
        """Return the present state of each, in the order given, all as of one moment."""
        statement = sql.READ_WITH_VECTORS if self._reads_vectors else sql.READ
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                statement, {"ids": list(document_ids)}, binary=self._reads_vectors
            )
            rows = {row[0]: row for row in await cursor.fetchall()}
        return [_change(document_id, rows.get(document_id)) for document_id in document_ids]

    async def passages(
        self, hits: Sequence[tuple[DocumentId, int]], principals: frozenset[str]
    ) -> dict[DocumentId, Passage]:
        """Return the chunk at each hit, and the document's twins, as far as *principals* may read them."""
        rows = await self._run(
            sql.PASSAGES,
            {
                "ids": [document_id for document_id, _ in hits],
                "positions": [position for _, position in hits],
                "principals": sorted(principals),
                "twins_max": TWINS_MAX,
            },
        )
        return {row[0]: _passage(row) for row in rows}

    async def chunks(self, document_id: DocumentId) -> list[tuple[Chunk, str]]:
        """Return all chunks of a live document with their content, in order."""
        rows = await self._run(sql.CHUNKS, {"id": document_id})
        return [(Chunk(*row[:4]), row[4]) for row in rows]

    async def count(self) -> int:
        """Count live documents."""
        rows = await self._run("SELECT count(*) FROM document WHERE deleted_at IS NULL", {})
        return rows[0][0]

    async def chunk_count(self) -> int:
        """Count the chunks of live documents."""
        rows = await self._run("SELECT count(*) FROM chunk", {})
        return rows[0][0]

    async def _run(self, statement: Any, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall()


def _change(document_id: DocumentId, row: tuple[Any, ...] | None) -> Change:
    if row is None:
        return Change(document_id, None)
    version, is_deleted = row[7], row[10]
    if is_deleted:
        return Change(document_id, None, buried=version)
    document = IndexedDocument(
        id=row[0],
        source_id=row[1],
        path=row[2],
        title=row[3],
        mime_type=row[4],
        text=row[5],
        readers=tuple(row[6]),
        version=version,
        modified_at=row[8],
        chunks=tuple(Chunk(*chunk) for chunk in row[9]),
        vectors=_vectors(len(row[9]), *row[12:15]) if len(row) > 12 else {},
        vectors_number=row[11] if len(row) > 11 else 0,
    )
    return Change(document_id, document)


def _chunk_row(text: str, chunk: Chunk) -> tuple[int, int, int, str, bytes]:
    digest = content_hash(embedded_text(chunk.heading, text[chunk.start : chunk.end]))
    return chunk.position, chunk.start, chunk.end, chunk.heading, digest


def _vectors(
    count: int, models: Sequence[str], positions: Sequence[int], packed: Sequence[bytes]
) -> dict[str, tuple[Vector | None, ...]]:
    found: dict[str, list[Vector | None]] = {}
    for model, position, content in zip(models, positions, packed, strict=True):
        found.setdefault(model, [None] * count)[position] = Vector(bytes(content))
    return {model: tuple(vectors) for model, vectors in found.items()}


def _columns(source_id: UUID, drafts: Sequence[DocumentDraft]) -> dict[str, Any]:
    return {
        "source_id": source_id,
        "external_ids": [draft.external_id for draft in drafts],
        "paths": [draft.path for draft in drafts],
        "titles": [draft.title for draft in drafts],
        "mime_types": [draft.mime_type for draft in drafts],
        "texts": [draft.text for draft in drafts],
        "chunk_counts": [len(draft.chunks) for draft in drafts],
        "fingerprints": [draft.fingerprint for draft in drafts],
        "hashes": [draft.content_hash for draft in drafts],
        "readers": Jsonb([list(draft.readers) for draft in drafts]),
        "metadata": [Jsonb(draft.metadata) for draft in drafts],
        "modified": [draft.modified_at for draft in drafts],
    }


def _passage(row: tuple[Any, ...]) -> Passage:
    twins = tuple(Twin(DocumentId(id_), path) for id_, path in row[18])
    return Passage(_document(row), Chunk(*row[12:16]), row[16], row[17], twins)


def _document(row: tuple[Any, ...]) -> Document:
    return Document(
        id=row[0],
        source_id=row[1],
        external_id=row[2],
        path=row[3],
        title=row[4],
        mime_type=row[5],
        readers=tuple(row[6]),
        metadata=row[7],
        version=row[8],
        created_at=row[9],
        updated_at=row[10],
        modified_at=row[11],
    )
