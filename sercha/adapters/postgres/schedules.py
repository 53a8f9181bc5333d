"""Schedules on PostgreSQL: what concerns many of them is one statement."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg.errors import ForeignKeyViolation, UniqueViolation
from psycopg.types.json import Jsonb

from sercha.adapters.postgres import schedule_sql as sql
from sercha.adapters.postgres.pool import ConnectionPool
from sercha.adapters.postgres.transaction import connection_of
from sercha.domain.ids import new_id
from sercha.domain.schedule import CatchUp, Schedule, ScheduleKind, SlotOutcome
from sercha.domain.source import Source
from sercha.errors import Conflict, Rejected
from sercha.services.ports import Transaction
from sercha.services.ports.schedules import DueSchedule, SlotRecord

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class PostgresScheduleStore:
    """`sercha.services.ports.ScheduleStore` on one pool."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    async def seconds_to_next(self, kinds: Collection[str]) -> float | None:
        """Return the seconds until the first slot for *kinds*; negative when it is due."""
        rows = await self._run(sql.SECONDS_TO_NEXT, {"kinds": list(kinds)})
        return rows[0][0] if rows else None

    async def now(self, tx: Transaction) -> datetime:
        """Tell the server's time."""
        return (await _all(tx, "SELECT clock_timestamp()", {}))[0][0].astimezone(UTC)

    async def lock_due(
        self, tx: Transaction, limit: int, kinds: Collection[str]
    ) -> tuple[list[DueSchedule], datetime]:
        """Lock due schedules that nobody else has, and tell the server's time."""
        rows = await _all(tx, sql.LOCK_DUE, {"limit": limit, "kinds": list(kinds)})
        # The earliest reading: by it every one of them is due.
        now = min((row[0] for row in rows), default=_NEVER)
        return [_due(row) for row in rows], now.astimezone(UTC)

    async def lock(self, tx: Transaction, schedule_id: UUID) -> tuple[DueSchedule, datetime] | None:
        """Lock one schedule, waiting for it."""
        if not await _all(tx, sql.LOCK, {"id": schedule_id}):
            return None
        [row] = await _all(tx, sql.LOCKED, {"id": schedule_id})
        return _due(row), row[0].astimezone(UTC)

    async def record(
        self, tx: Transaction, records: Sequence[SlotRecord]
    ) -> set[tuple[UUID, datetime]]:
        """Record outcomes; the slots that had none before."""
        if not records:
            return set()
        tokens = {record.token for record in records}
        assert len(tokens) == 1, "one transaction has one token"
        lasts = [record.last for record in records]
        values = {**_keys(records), "lasts": lasts, "token": tokens.pop()}
        # Planned each time: a plan that is kept from when the table was small reads all of it for each slot.
        cursor = await connection_of(tx).execute(sql.RECORD, values, prepare=False)
        return {(row[0], row[1]) for row in await cursor.fetchall()}

    async def amend(self, tx: Transaction, records: Sequence[SlotRecord]) -> None:
        """Put another outcome and task to slots recorded in *tx*."""
        if records:
            await connection_of(tx).execute(sql.AMEND, _keys(records))

    async def advance(self, tx: Transaction, next_slots: Mapping[UUID, datetime | None]) -> None:
        """Move schedules on."""
        if next_slots:
            values = {"ids": list(next_slots), "next_slots": list(next_slots.values())}
            await connection_of(tx).execute(sql.ADVANCE, values)

    async def pause_broken(self, tx: Transaction, reasons: Mapping[UUID, str]) -> None:
        """Pause schedules, each with its reason."""
        if reasons:
            values = {"ids": list(reasons), "reasons": list(reasons.values())}
            await connection_of(tx).execute(sql.PAUSE_BROKEN, values)

    async def add(self, tx: Transaction, schedule: Schedule) -> None:
        """Add a schedule."""
        await self._write(tx, sql.ADD, schedule)

    async def add_default(self, tx: Transaction, source: Source) -> None:
        """Add the default schedule of a source; a name that is taken gets a part of the source's id."""
        for name in (f"sync: {source.name}", f"sync: {source.name} ({source.id})"):
            values = {"id": new_id(), "name": name, "source_id": source.id}
            if await _all(tx, sql.ADD_DEFAULT, values):
                return
        raise AssertionError("a name with a fresh id in it is taken")

    async def save(self, tx: Transaction, schedule: Schedule) -> None:
        """Write a locked schedule under the next version."""
        await self._write(tx, sql.SAVE, schedule)

    async def remove(self, tx: Transaction, schedule_id: UUID) -> bool:
        """Remove a schedule with its slots; False when there is none."""
        cursor = await connection_of(tx).execute(sql.REMOVE, {"id": schedule_id})
        return cursor.rowcount == 1

    async def get(self, schedule_id: UUID) -> Schedule | None:
        """Return one schedule, or None."""
        rows = await self._run(sql.GET, {"id": schedule_id})
        return _schedule(rows[0]) if rows else None

    async def list(
        self, *, source_id: UUID | None = None, name: str | None = None, limit: int, offset: int
    ) -> list[Schedule]:
        """Return schedules by name."""
        values = {"source_id": source_id, "name": name, "limit": limit, "offset": offset}
        return [_schedule(row) for row in await self._run(sql.LIST, values)]

    async def count(self, *, source_id: UUID | None = None, name: str | None = None) -> int:
        """Count what `list` lists."""
        return (await self._run(sql.COUNT, {"source_id": source_id, "name": name}))[0][0]

    async def slots(self, schedule_id: UUID, *, limit: int, offset: int) -> list[SlotRecord]:
        """Return the latest slots that have an outcome."""
        values = {"id": schedule_id, "limit": limit, "offset": offset}
        rows = await self._run(sql.SLOTS, values)
        return [_record(row) for row in rows]

    async def forget_slots(self, *, older_than: float, limit: int) -> int:
        """Remove old slots; how many."""
        async with self._pool.connection() as connection:
            values = {"older_than": older_than, "limit": limit}
            return (await connection.execute(sql.FORGET_SLOTS, values)).rowcount

    async def _write(self, tx: Transaction, statement: LiteralString, schedule: Schedule) -> None:
        try:
            await connection_of(tx).execute(statement, _values(schedule))
        except UniqueViolation:
            raise Conflict(
                f"name: a schedule called {schedule.name!r} exists already", code="schedule-exists"
            ) from None
        except ForeignKeyViolation:
            raise Rejected(
                f"source_id: there is no source {schedule.source_id}", code="bad-field"
            ) from None

    async def _run(
        self, statement: LiteralString, parameters: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection:
            return await (await connection.execute(statement, parameters)).fetchall()


async def _all(
    tx: Transaction, statement: LiteralString, parameters: dict[str, Any]
) -> list[tuple[Any, ...]]:
    return await (await connection_of(tx).execute(statement, parameters)).fetchall()


def _keys(records: Sequence[SlotRecord]) -> dict[str, Any]:
    return {
        "ids": [record.schedule_id for record in records],
        "slots": [record.slot for record in records],
        "outcomes": [str(record.outcome) for record in records],
        "task_ids": [record.task_id for record in records],
    }


def _record(row: tuple[Any, ...]) -> SlotRecord:
    return SlotRecord(
        schedule_id=row[0],
        slot=row[1],
        last=row[2],
        outcome=SlotOutcome(row[3]),
        task_id=row[4],
        token=row[5],
        recorded_at=row[6],
    )


def _due(row: tuple[Any, ...]) -> DueSchedule:
    return DueSchedule(_schedule(row[2:]), row[1])


def _schedule(row: tuple[Any, ...]) -> Schedule:
    return Schedule(
        id=row[0],
        name=row[1],
        kind=ScheduleKind(row[2]),
        spec=row[3],
        tz=row[4],
        anchor=row[5].astimezone(UTC),
        task_kind=row[6],
        payload=row[7],
        priority=row[8],
        source_id=row[9],
        catch_up=CatchUp(row[10]),
        runs_max=row[11],
        max_late=row[12],
        enabled=row[13],
        paused_reason=row[14],
        next_slot=row[15] and row[15].astimezone(UTC),
        is_default=row[16],
        version=row[17],
        created_at=row[18],
        updated_at=row[19],
    )


def _values(schedule: Schedule) -> dict[str, Any]:
    return {
        "id": schedule.id,
        "name": schedule.name,
        "kind": str(schedule.kind),
        "spec": schedule.spec,
        "tz": schedule.tz,
        "anchor": schedule.anchor,
        "task_kind": schedule.task_kind,
        "payload": Jsonb(schedule.payload),
        "priority": schedule.priority,
        "source_id": schedule.source_id,
        "catch_up": str(schedule.catch_up),
        "runs_max": schedule.runs_max,
        "max_late": schedule.max_late,
        "enabled": schedule.enabled,
        "paused_reason": schedule.paused_reason,
        "next_slot": schedule.next_slot,
        "is_default": schedule.is_default,
    }
