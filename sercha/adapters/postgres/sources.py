"""Sources, the states of their syncs, and the items that are no documents or only in part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from sercha.adapters.postgres.pool import ConnectionPool
from sercha.adapters.postgres.transaction import connection_of
from sercha.domain.source import (
    IssueKind,
    ItemIssue,
    ProviderType,
    Source,
    SyncState,
    SyncStats,
    SyncStatus,
)
from sercha.errors import Conflict
from sercha.services.ports import Transaction

RETRY_BASE = 60.0
RETRY_CAP = 24 * 3600.0
"""A failed item is looked at again after 60 s, doubled by each failure, a day at most."""

_SOURCE = "id, name, provider_type, config, enabled, created_by, created_at, updated_at"

# Who ends a sync in the middle (a worker that dies, a limit of time, a cancellation) cannot write its state: the
# task's state says it.
_STATE = """
SELECT s.source_id,
       CASE WHEN s.status <> 'running' OR t.state IN ('queued', 'running') THEN s.status
            WHEN t.state = 'dead' THEN 'failed' ELSE 'idle' END,
       s.task_id, s.cursor, s.started_at, s.completed_at, s.last_sync_at,
       CASE WHEN s.status = 'running' AND t.state = 'dead' THEN t.last_error ELSE s.error END,
       s.items_expected, s.items_done, s.stats
FROM sync_state s LEFT JOIN task t ON t.id = s.task_id"""

_SAVE_STATE = """
INSERT INTO sync_state (source_id, status, task_id, cursor, started_at, completed_at, last_sync_at, error,
                        items_expected, items_done, stats)
VALUES (%(source_id)s, %(status)s, %(task_id)s, %(cursor)s, %(started_at)s, %(completed_at)s, %(last_sync_at)s,
        %(error)s, %(items_expected)s, %(items_done)s, %(stats)s)
ON CONFLICT (source_id) DO UPDATE SET
    status = excluded.status, task_id = excluded.task_id, cursor = excluded.cursor, started_at = excluded.started_at,
    completed_at = excluded.completed_at, last_sync_at = excluded.last_sync_at,
    error = excluded.error, items_expected = excluded.items_expected,
    items_done = excluded.items_done, stats = excluded.stats
"""

_RECORD_ISSUE = """
INSERT INTO item_issue (source_id, external_id, kind, code, reason, fingerprint, retry_at)
VALUES (%(source_id)s, %(external_id)s, %(kind)s, %(code)s, %(reason)s, %(fingerprint)s,
        CASE WHEN %(kind)s = 'failed'
             THEN clock_timestamp() + make_interval(secs => %(base)s) END)
ON CONFLICT (source_id, external_id) DO UPDATE SET
    kind = excluded.kind, code = excluded.code, reason = excluded.reason,
    fingerprint = excluded.fingerprint, last_seen_at = clock_timestamp(),
    tries = item_issue.tries + 1,
    retry_at = CASE WHEN excluded.kind = 'failed' THEN clock_timestamp() + make_interval(
        secs => least(%(cap)s, %(base)s * 2 ^ least(item_issue.tries, 20))) END
"""


class PostgresSourceStore:
    """`sercha.services.ports.SourceStore` on one pool."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def add(self, tx: Transaction, source: Source) -> None:
        """Add a source with an idle sync state.

        Raises:
            Conflict: the name is taken (``source-exists``).
        """
        connection = connection_of(tx)
        try:
            await connection.execute(
                f"INSERT INTO source ({_SOURCE}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    source.id,
                    source.name,
                    source.provider_type,
                    Jsonb(source.config),
                    source.enabled,
                    source.created_by,
                    source.created_at,
                    source.updated_at,
                ],
            )
        except UniqueViolation:
            raise _name_taken(source.name) from None
        await connection.execute("INSERT INTO sync_state (source_id) VALUES (%s)", [source.id])

    async def get(self, source_id: UUID) -> Source | None:
        """Return one source, or None."""
        rows = await self._run(f"SELECT {_SOURCE} FROM source WHERE id = %s", [source_id])
        return _source(rows[0]) if rows else None

    async def list(self) -> list[Source]:
        """Return all sources by name."""
        return [
            _source(row)
            for row in await self._run(f"SELECT {_SOURCE} FROM source ORDER BY name, id")
        ]

    async def update(
        self,
        tx: Transaction,
        source_id: UUID,
        *,
        name: str | None = None,
        config: dict[str, object] | None = None,
        enabled: bool | None = None,
    ) -> Source | None:
        """Change what is given and nothing else; the source as it is then, None when there is none.

        Raises:
            Conflict: the name is taken (``source-exists``).
        """
        try:
            cursor = await connection_of(tx).execute(
                f"""UPDATE source SET name = coalesce(%s, name), config = coalesce(%s, config),
                    enabled = coalesce(%s, enabled), updated_at = clock_timestamp()
                    WHERE id = %s RETURNING {_SOURCE}""",
                [name, None if config is None else Jsonb(config), enabled, source_id],
            )
        except UniqueViolation:
            raise _name_taken(name) from None
        row = await cursor.fetchone()
        return _source(row) if row else None

    async def remove(self, tx: Transaction, source_id: UUID) -> bool:
        """Remove the source, its sync state, issues and schedules; False when there is none."""
        cursor = await connection_of(tx).execute("DELETE FROM source WHERE id = %s", [source_id])
        return cursor.rowcount == 1

    async def hold_schedules(self, tx: Transaction, source_id: UUID) -> None:
        """Keep others from acting on the source's schedules until *tx* ends."""
        await connection_of(tx).execute(
            "SELECT 1 FROM schedule WHERE source_id = %s ORDER BY id FOR UPDATE", [source_id]
        )

    async def hold(self, tx: Transaction, source_id: UUID) -> bool | None:
        """Keep the source from being removed until *tx* ends; whether it is enabled, None when it is gone."""
        cursor = await connection_of(tx).execute(
            "SELECT enabled FROM source WHERE id = %s FOR KEY SHARE", [source_id]
        )
        row = await cursor.fetchone()
        return row[0] if row else None

    async def sync_state(self, source_id: UUID) -> SyncState | None:
        """Return the state of a source's sync, or None without such a source."""
        rows = await self._run(_STATE + " WHERE s.source_id = %s", [source_id])
        return _state(rows[0]) if rows else None

    async def sync_states(self) -> list[SyncState]:
        """Return the states of all sources' syncs."""
        rows = await self._run(_STATE + " ORDER BY s.source_id")
        return [_state(row) for row in rows]

    async def save_sync_state(self, tx: Transaction, state: SyncState) -> None:
        """Write the whole state."""
        await connection_of(tx).execute(
            _SAVE_STATE,
            {
                "source_id": state.source_id,
                "status": state.status,
                "task_id": state.task_id,
                "cursor": state.cursor,
                "started_at": state.started_at,
                "completed_at": state.completed_at,
                "last_sync_at": state.last_sync_at,
                "error": state.error and state.error.replace("\0", " "),
                "items_expected": state.items_expected,
                "items_done": state.items_done,
                "stats": Jsonb(asdict(state.stats)),
            },
        )

    async def document_counts(self) -> dict[UUID, int]:
        """Count live documents by source."""
        rows = await self._run(
            "SELECT source_id, count(*) FROM document WHERE deleted_at IS NULL GROUP BY source_id"
        )
        return {row[0]: row[1] for row in rows}

    async def record_issues(
        self, tx: Transaction, source_id: UUID, issues: Sequence[ItemIssue], cleared: Sequence[str]
    ) -> None:
        """Upsert *issues* by external id and forget those named in *cleared*."""
        connection = connection_of(tx)
        if cleared:
            await connection.execute(
                "DELETE FROM item_issue WHERE source_id = %s AND external_id = ANY (%s)",
                [source_id, list(cleared)],
            )
        if issues:
            async with connection.cursor() as cursor:
                await cursor.executemany(
                    _RECORD_ISSUE, [_issue_parameters(source_id, issue) for issue in issues]
                )

    async def issues(self, source_id: UUID, *, limit: int, offset: int = 0) -> list[ItemIssue]:
        """Return one page of issues, failed ones first."""
        rows = await self._run(
            """SELECT external_id, kind, code, reason, fingerprint FROM item_issue
               WHERE source_id = %s ORDER BY kind, external_id LIMIT %s OFFSET %s""",
            [source_id, limit, offset],
        )
        return [ItemIssue(row[0], IssueKind(row[1]), *row[2:]) for row in rows]

    async def _run(self, statement: Any, parameters: Any = None) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall()


def _name_taken(name: str | None) -> Conflict:
    return Conflict(f"name: a source called {name!r} exists already", code="source-exists")


def _issue_parameters(source_id: UUID, issue: ItemIssue) -> dict[str, Any]:
    return {
        "source_id": source_id,
        "external_id": issue.external_id,
        "kind": issue.kind,
        "code": issue.code,
        "reason": issue.reason.replace("\0", " ")[:1_000],
        "fingerprint": issue.fingerprint,
        "base": RETRY_BASE,
        "cap": RETRY_CAP,
    }


def _source(row: tuple[Any, ...]) -> Source:
    return Source(row[0], row[1], ProviderType(row[2]), *row[3:])


def _state(row: tuple[Any, ...]) -> SyncState:
    return SyncState(
        source_id=row[0],
        status=SyncStatus(row[1]),
        task_id=row[2],
        cursor=row[3],
        started_at=row[4],
        completed_at=row[5],
        last_sync_at=row[6],
        error=row[7],
        items_expected=row[8],
        items_done=row[9],
        stats=SyncStats(**row[10]),
    )
