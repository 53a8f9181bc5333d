"""Removing what nobody asks for any more."""

from __future__ import annotations

from typing import Protocol


class RetentionStore(Protocol):
    """What has an end. Each call removes up to *limit* rows in one statement and says how many."""

    async def remove_tasks(self, *, completed: float, others: float, limit: int) -> int:
        """Tasks that ended more than so many seconds ago: *completed* ones, *others* (dead, cancelled)."""
        ...

    async def remove_sessions(self, *, limit: int) -> int:
        """Sessions that have expired."""
        ...

    async def remove_answers(self, *, limit: int) -> int:
        """First answers of requests with an idempotency key that have expired."""
        ...

    async def remove_events(self, *, age: float, limit: int) -> int:
        """Events older than *age* seconds."""
        ...

    async def remove_nodes(self, *, silence: float, limit: int) -> int:
        """Processes that were not heard of for *silence* seconds."""
        ...

    async def remove_document_vectors(self, *, limit: int) -> int:
        """Notes on vectors of deleted documents, and of retired models."""
        ...

    async def remove_vectors(self, *, age: float, limit: int) -> int:
        """Vectors of retired models, and those older than *age* seconds that no chunk has the text of."""
        ...
