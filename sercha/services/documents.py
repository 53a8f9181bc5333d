"""Reading documents, for those who may."""

from __future__ import annotations

from uuid import UUID

from sercha.domain.document import Chunk, Document, DocumentId
from sercha.errors import NotFound
from sercha.services.ports import DocumentStore


class Documents:
    """Documents as a caller may see them: what is closed to the caller does not exist."""

    def __init__(self, store: DocumentStore) -> None:
        self._store = store

    async def get(self, document_id: DocumentId, principals: frozenset[str]) -> Document:
        """Return a document.

        Raises:
            NotFound: there is none, it was deleted, or none of *principals* is among its readers.
        """
        document = await self._store.get(document_id)
        if document is None or principals.isdisjoint(document.readers):
            raise NotFound(f"document {document_id}: there is none", code="document-not-found")
        return document

    async def chunks(
        self, document_id: DocumentId, principals: frozenset[str]
    ) -> tuple[Document, list[tuple[Chunk, str]]]:
        """Return a document with all chunks and their content; raises as `get`."""
        document = await self.get(document_id, principals)
        return document, await self._store.chunks(document_id)

    async def of_source(
        self, source_id: UUID, principals: frozenset[str], *, limit: int, offset: int
    ) -> tuple[list[Document], int]:
        """Return one page by external id of what *principals* may read, and the total."""
        return await self._store.list(source_id, principals, limit=limit, offset=offset)

    async def counts(self) -> tuple[int, int]:
        """Count all documents and all chunks, readable or not."""
        return await self._store.count(), await self._store.chunk_count()
