"""A migrated database with all stores on it, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID, uuid4

import trio

from sercha.adapters.postgres.changes import PostgresChangeFeed
from sercha.adapters.postgres.documents import PostgresDocumentStore
from sercha.adapters.postgres.embeddings import PostgresEmbeddingStore
from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.notices import PostgresNotices, open_notices
from sercha.adapters.postgres.pool import ConnectionPool, open_pool
from sercha.adapters.postgres.sources import PostgresSourceStore
from sercha.adapters.postgres.task_admin import PostgresTaskAdmin
from sercha.adapters.postgres.tasks import PostgresTaskQueue
from sercha.domain.chunking import chunk_text
from sercha.domain.document import DocumentDraft
from sercha.domain.source import ProviderType, Source


@dataclass
class Truth:
    """All stores of one database."""

    pool: ConnectionPool
    queue: PostgresTaskQueue
    feed: PostgresChangeFeed
    documents: PostgresDocumentStore
    sources: PostgresSourceStore
    notices: PostgresNotices
    admin: PostgresTaskAdmin
    embeddings: PostgresEmbeddingStore

    async def add_source(self, name: str = "notes", **config: object) -> Source:
        now = datetime.now(UTC)
        source = Source(uuid4(), name, ProviderType.LOCALFS, dict(config), True, None, now, now)
        async with self.pool.transaction() as tx:
            await self.sources.add(tx, source)
        return source

    async def save(self, source_id: UUID, **texts: str) -> None:
        """Save documents by external id and text."""
        async with self.pool.transaction() as tx:
            await self.documents.save(
                tx, source_id, [draft(name, text) for name, text in texts.items()]
            )

    async def delete(self, source_id: UUID, *external_ids: str) -> int:
        async with self.pool.transaction() as tx:
            return await self.documents.delete(tx, source_id, external_ids)

    async def live(self, *owners: UUID) -> None:
        """Let *owners* claim, each on a node of its own, until they are expired."""
        for owner in owners:
            await self.queue.register(owner, owner)
        forever = "UPDATE heartbeat SET expires_at = 'infinity' WHERE owner = ANY (%s)"
        await self.value(forever, list(owners))

    async def expire(self, *owners: UUID) -> None:
        """Let the time of *owners* be over, of all of them without any."""
        await self.value(
            "UPDATE heartbeat SET expires_at = clock_timestamp() - interval '1 second'"
            " WHERE owner = ANY (%s) OR %s",
            list(owners),
            not owners,
        )

    async def blocked(self, count: int) -> None:
        """Wait until *count* sessions wait for a lock."""
        statement = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        with trio.fail_after(10):
            while await self.value(statement) != count:
                await trio.sleep(0.01)

    async def value(self, statement: str, *parameters: object) -> object:
        """Run one statement and return its first value."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(statement.encode(), parameters)
            row = await cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def draft(external_id: str, text: str, **changes: object) -> DocumentDraft:
    """Make a document of plain text."""
    values: dict[str, object] = {
        "external_id": external_id,
        "path": external_id,
        "title": external_id,
        "mime_type": "text/plain",
        "text": text,
        "chunks": chunk_text(text, "text/plain"),
        "fingerprint": f"{len(text)}",
        "content_hash": text.encode()[:32],
    }
    return DocumentDraft(**{**values, **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def open_truth(url: str, *, claim_ttl: float = 30.0) -> AsyncIterator[Truth]:
    """Migrate the database at *url* and open all stores on it."""
    async with open_pool(url, max_open=20) as pool:
        await migrate(pool)
        async with open_notices(
            pool, ["sercha_task", "sercha_change", "sercha_generation", "sercha_ai"]
        ) as notices:
            yield Truth(
                pool=pool,
                queue=PostgresTaskQueue(pool, claim_ttl=claim_ttl),
                feed=PostgresChangeFeed(pool),
                documents=PostgresDocumentStore(pool),
                sources=PostgresSourceStore(pool),
                notices=notices,
                admin=PostgresTaskAdmin(pool),
                embeddings=PostgresEmbeddingStore(pool),
            )
