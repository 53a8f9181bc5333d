"""Removing what nobody asks for any more, in batches."""

from __future__ import annotations

from typing import Any, LiteralString

from sercha.adapters.postgres.events import PostgresEventFeed
from sercha.adapters.postgres.pgvector import drop_unwanted, remove_vectors
from sercha.adapters.postgres.pool import ConnectionPool

# The oldest first. One that is being retried at this moment is locked, and skipped.
_TASKS: LiteralString = """
DELETE FROM task WHERE id IN (
    SELECT id FROM task
    WHERE state IN ('completed', 'dead', 'cancelled')
      AND finished_at < now() - make_interval(secs => least(%(completed)s, %(others)s)::float8)
      AND finished_at < now() - make_interval(
          secs => CASE WHEN state = 'completed' THEN %(completed)s ELSE %(others)s END::float8)
    ORDER BY finished_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""

_SESSIONS: LiteralString = """
DELETE FROM session WHERE id IN (
    SELECT id FROM session WHERE expires_at < now() ORDER BY expires_at
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""

_ANSWERS: LiteralString = """
DELETE FROM idempotency_key WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency_key WHERE expires_at < now() ORDER BY expires_at
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
"""

_NODES: LiteralString = """
DELETE FROM node WHERE id IN (
    SELECT id FROM node WHERE seen_at < now() - make_interval(secs => %(silence)s)
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
"""

# Nobody notes documents as complete meanwhile, nor wants a retired model back: what is removed here is in nobody's use.
_ALONE: LiteralString = "LOCK TABLE embedding_model, document_embedding IN SHARE ROW EXCLUSIVE MODE"

_DOCUMENT_VECTORS: LiteralString = """
DELETE FROM document_embedding WHERE ctid = ANY (ARRAY(
    SELECT e.ctid FROM document_embedding e
    JOIN embedding_model m ON m.name = e.model JOIN document d ON d.id = e.document_id
    WHERE m.state = 'retired' OR d.deleted_at IS NOT NULL LIMIT %(limit)s))
"""

_VECTORS: LiteralString = """
DELETE FROM embedding WHERE ctid = ANY (ARRAY(
    SELECT e.ctid FROM embedding e JOIN embedding_model m ON m.name = e.model
    WHERE m.state = 'retired' OR e.created_at < now() - make_interval(secs => %(age)s)
      AND NOT EXISTS (SELECT 1 FROM chunk c WHERE c.content_hash = e.content_hash)
    LIMIT %(limit)s))
RETURNING model, content_hash
"""

_MODELS: LiteralString = """
DELETE FROM embedding_model m WHERE m.state = 'retired'
AND NOT EXISTS (SELECT 1 FROM embedding e WHERE e.model = m.name)
AND NOT EXISTS (SELECT 1 FROM document_embedding e WHERE e.model = m.name)
"""


class PostgresRetentionStore:
    """`sercha.services.ports.retention.RetentionStore` on one pool."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def remove_tasks(self, *, completed: float, others: float, limit: int) -> int:
        """Remove tasks that ended more than so many seconds ago: *completed* ones, *others*."""
        return await self._run(_TASKS, completed=completed, others=others, limit=limit)

    async def remove_sessions(self, *, limit: int) -> int:
        """Remove sessions that have expired."""
        return await self._run(_SESSIONS, limit=limit)

    async def remove_answers(self, *, limit: int) -> int:
        """Remove first answers that have expired."""
        return await self._run(_ANSWERS, limit=limit)

    async def remove_events(self, *, age: float, limit: int) -> int:
        """Remove events older than *age* seconds, and note it for positions that did not show them."""
        return await PostgresEventFeed(self._pool).remove(age=age, limit=limit)

    async def remove_nodes(self, *, silence: float, limit: int) -> int:
        """Remove processes that were not heard of for *silence* seconds."""
        return await self._run(_NODES, silence=silence, limit=limit)

    async def remove_document_vectors(self, *, limit: int) -> int:
        """Forget which deleted documents have vectors, and which have those of retired models."""
        return await self._run_alone(_DOCUMENT_VECTORS, limit=limit)

    async def remove_vectors(self, *, age: float, limit: int) -> int:
        """Remove vectors of retired models, and those older than *age* seconds of which no chunk has the text.

        The tables of pgvector lose them too; those of retired models are dropped.
        """
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(_ALONE)
            await drop_unwanted(connection)
            cursor = await connection.execute(_VECTORS, {"age": age, "limit": limit})
            removed: dict[str, list[bytes]] = {}
            for model, digest in await cursor.fetchall():
                removed.setdefault(model, []).append(digest)
            for model, hashes in removed.items():
                await remove_vectors(connection, model, hashes)
        count = sum(map(len, removed.values()))
        if count < limit:
            await self._run_alone(_MODELS)
        return count

    async def _run_alone(self, statement: LiteralString, **parameters: Any) -> int:
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(_ALONE)
            return (await connection.execute(statement, parameters)).rowcount

    async def _run(self, statement: LiteralString, **parameters: Any) -> int:
        async with self._pool.connection() as connection:
            return (await connection.execute(statement, parameters)).rowcount
