"""Schedules for tests: many at once, due at will, and their slots read back."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sercha.adapters.postgres.pool import ConnectionPool
from sercha.adapters.postgres.schedules import PostgresScheduleStore
from sercha.adapters.postgres.tasks import PostgresTaskQueue
from sercha.domain.schedule import Schedule, ScheduleKind, SlotOutcome
from sercha.services.scheduler import Tick, Ticker
from sercha.services.schedules import ScheduleChange, Schedules
from tests.support.truth import Truth, open_truth

SYNC = "sync_source"

# Each with a source id of its own that needs no source, so that no task merges into another one.
ADD_MANY = """
INSERT INTO schedule (id, name, kind, spec, anchor, task_kind, payload, next_slot)
SELECT gen_random_uuid(), 'many ' || n, 'interval', %(spec)s, %(anchor)s, 'sync_source',
       jsonb_build_object('source_id', gen_random_uuid()), %(next_slot)s
FROM generate_series(1, %(count)s) AS n
"""


@dataclass
class Lab:
    """A database with schedules."""

    truth: Truth
    store: PostgresScheduleStore
    schedules: Schedules
    ticker: Ticker

    @property
    def pool(self) -> ConnectionPool:
        return self.truth.pool

    async def add(self, name: str = "a", spec: str = "1h", **more: Any) -> Schedule:
        """Add a schedule for `sync_all`."""
        asked: dict[str, Any] = {"kind": ScheduleKind.INTERVAL, "task_kind": "sync_all", **more}
        return await self.schedules.create(ScheduleChange(name=name, spec=spec, **asked))

    async def add_many(self, count: int, *, spec: str = "1h", due: bool = True) -> None:
        """Add schedules, each with one slot that is due, or with none."""
        anchor = whole_seconds_ago(5)
        next_slot = anchor if due else anchor + timedelta(days=300)
        values = {"spec": spec, "anchor": anchor, "count": count, "next_slot": next_slot}
        async with self.pool.connection() as connection:
            await connection.execute(ADD_MANY, values)

    async def away_since(self, schedule: Schedule, since: datetime) -> Schedule:
        """Let nobody have scheduled since then: the first slot after it has no outcome yet."""
        await self.truth.value(
            "UPDATE schedule SET anchor = least(anchor, %s), next_slot = %s WHERE id = %s",
            since,
            since,
            schedule.id,
        )
        return await self.schedules.get(schedule.id)

    async def tick(self) -> Tick:
        """Do a step without a lease."""
        return await self.ticker.tick(self.pool.transaction)

    async def slots(self, schedule: Schedule) -> list[tuple[datetime, datetime, SlotOutcome]]:
        """Return slots and stretches with their outcomes, the oldest first."""
        records = await self.store.slots(schedule.id, limit=10_000, offset=0)
        return [(each.slot, each.last, each.outcome) for each in records][::-1]

    async def outcomes(self, schedule: Schedule) -> Counter[SlotOutcome]:
        return Counter(outcome for _, _, outcome in await self.slots(schedule))

    async def tasks(self) -> int:
        """Count all tasks."""
        return sum((await self.truth.admin.counts()).values())

    async def doubled(self) -> int:
        """Count slots that have more than one task, or lie in a stretch beside their own row."""
        found = await self.truth.value(
            """SELECT count(*) FROM schedule_slot a JOIN schedule_slot b
               ON a.schedule_id = b.schedule_id AND a.slot < b.slot AND a.slot_last >= b.slot"""
        )
        assert isinstance(found, int)
        return found

    async def tasks_without_slot(self) -> int:
        """Count tasks that no slot names."""
        found = await self.truth.value(
            "SELECT count(*) FROM task t WHERE NOT EXISTS "
            "(SELECT 1 FROM schedule_slot s WHERE s.task_id = t.id)"
        )
        assert isinstance(found, int)
        return found


def whole_seconds_ago(seconds: float) -> datetime:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).replace(microsecond=0)


@asynccontextmanager
async def open_lab(url: str) -> AsyncGenerator[Lab]:
    """Migrate the database at *url* and open what schedules need."""
    async with open_truth(url) as truth:
        await truth.value("DELETE FROM schedule")  # those that every installation has
        yield lab_on(truth)


def lab_on(truth: Truth, pool: ConnectionPool | None = None) -> Lab:
    """Put a lab together, on another pool to the same database if one is given."""
    pool = pool or truth.pool
    store, queue = PostgresScheduleStore(pool), PostgresTaskQueue(pool)
    return Lab(truth, store, Schedules(pool, store, queue), Ticker(store, queue))


def source_payload(source_id: UUID) -> dict[str, object]:
    return {"source_id": str(source_id)}
