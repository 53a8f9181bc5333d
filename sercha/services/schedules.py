"""Making, changing, pausing and running schedules by hand.

Whoever changes a schedule settles it first: what was due under the old definition gets its outcome in the same
transaction, and the new one begins with the first slot after that moment. So no slot is lost between two
definitions, and ``next_slot`` is never written back from something read earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from sercha.domain.ids import new_id
from sercha.domain.schedule import (
    MAX_LATE_SECONDS_MAX,
    RUNS_MAX,
    CatchUp,
    Plan,
    PlannedSlot,
    Schedule,
    ScheduleKind,
    SlotOutcome,
    is_zone,
    normal_anchor,
    normal_spec,
    plan,
    plan_paused,
    rule_of,
)
from sercha.domain.task import PRIORITY_MAX, PRIORITY_MIN, NewTask
from sercha.errors import Conflict, NotFound, Rejected
from sercha.services.names import checked_name
from sercha.services.ports import (
    Database,
    DueSchedule,
    ScheduleStore,
    SlotRecord,
    TaskQueue,
    Transaction,
)
from sercha.services.slots import Decision, carry_out, task_for

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleChange:
    """What somebody asks for; None: as it was, or as it is by default."""

    name: str | None = None
    kind: ScheduleKind | None = None
    spec: str | None = None
    tz: str | None = None
    anchor: datetime | None = None
    task_kind: str | None = None
    payload: dict[str, object] | None = None
    priority: int | None = None
    catch_up: CatchUp | None = None
    runs_max: int | None = None
    max_late: int | None = None


@dataclass(frozen=True, slots=True)
class SchedulePage:
    """A part of the list of schedules."""

    schedules: list[Schedule] = field(default_factory=list[Schedule])
    total: int = 0


class Schedules:
    """Rules about schedules."""

    def __init__(self, database: Database, store: ScheduleStore, queue: TaskQueue) -> None:
        self._database = database
        self._store = store
        self._queue = queue

    async def create(self, asked: ScheduleChange, *, enabled: bool = True) -> Schedule:
        """Add a schedule; ``name``, ``kind``, ``spec`` and ``task_kind`` must be given.

        Raises:
            Rejected: a field is wrong or missing; the message names it.
            Conflict: the name is taken (``schedule-exists``).
        """
        async with self._database.transaction() as tx:
            now = await self._store.now(tx)
            blank = Schedule(
                id=new_id(),
                name=_given("name", asked.name),
                kind=_given("kind", asked.kind),
                spec=_given("spec", asked.spec),
                tz="UTC",
                anchor=now.replace(microsecond=0),
                task_kind=_given("task_kind", asked.task_kind),
                payload={},
                enabled=enabled,
                created_at=now,
                updated_at=now,
            )
            schedule = _with_next_slot(_changed(blank, asked), now)
            await self._store.add(tx, schedule)
        return await self.get(schedule.id)

    async def update(self, schedule_id: UUID, asked: ScheduleChange, *, version: int) -> Schedule:
        """Change what is given of version *version*; what was due before runs as it was.

        Raises:
            NotFound: there is no such schedule.
            Conflict: it has another version by now (``schedule-changed``), or the name is taken.
            Rejected: a field is wrong; the message names it.
        """
        async with self._database.transaction() as tx:
            due, now = await self._lock(tx, schedule_id)
            if due.schedule.version != version:
                raise Conflict(
                    f"schedule {due.schedule.name}: was changed meanwhile: it has version "
                    f"{due.schedule.version}, not {version}",
                    code="schedule-changed",
                )
            changed = _changed(due.schedule, asked)
            await self._settle(tx, due, now)
            await self._store.save(tx, replace(_with_next_slot(changed, now), is_default=False))
        return await self.get(schedule_id)

    async def pause(self, schedule_id: UUID) -> Schedule:
        """Let no slot run from now on, those that are due already included; a paused one stays as it is."""
        async with self._database.transaction() as tx:
            due, now = await self._lock(tx, schedule_id)
            if due.schedule.enabled:
                await self._settle(tx, replace(due, is_resting=True), now)
                changed = replace(due.schedule, enabled=False, paused_reason=None, is_default=False)
                await self._store.save(tx, _with_next_slot(changed, now, is_lenient=True))
        return await self.get(schedule_id)

    async def resume(self, schedule_id: UUID) -> Schedule:
        """Go on with the first slot after now; those since the pause are recorded as paused.

        Raises:
            NotFound: there is no such schedule.
            Rejected: its slots cannot be computed; the message says why.
        """
        async with self._database.transaction() as tx:
            due, now = await self._lock(tx, schedule_id)
            if not due.schedule.enabled:
                await self._settle(tx, due, now)
                changed = replace(due.schedule, enabled=True, paused_reason=None, is_default=False)
                await self._store.save(tx, _with_next_slot(changed, now))
        return await self.get(schedule_id)

    async def run_now(self, schedule_id: UUID) -> UUID:
        """Enqueue its task at once, paused or not, record that, and return the task's id.

        Raises:
            NotFound: there is no such schedule.
            Conflict: its source is disabled (``source-disabled``).
        """
        async with self._database.transaction() as tx:
            due, now = await self._lock(tx, schedule_id)
            if due.is_resting:
                raise Conflict(
                    f"schedule {due.schedule.name}: its source is disabled", code="source-disabled"
                )
            [task_id] = await self._queue.enqueue(tx, [task_for(due.schedule)])
            # Slots have whole seconds, so that this is none of them.
            moment = now.replace(microsecond=now.microsecond or 1)
            record = SlotRecord(schedule_id, moment, moment, SlotOutcome.MANUAL, task_id)
            await self._store.record(tx, [record])
        return task_id

    async def remove(self, schedule_id: UUID) -> None:
        """Remove a schedule with its history; tasks that it enqueued stay."""
        async with self._database.transaction() as tx:
            if not await self._store.remove(tx, schedule_id):
                raise _gone(schedule_id)

    async def get(self, schedule_id: UUID) -> Schedule:
        """Return one schedule; raise `NotFound`."""
        schedule = await self._store.get(schedule_id)
        if schedule is None:
            raise _gone(schedule_id)
        return schedule

    async def list(
        self, *, source_id: UUID | None = None, name: str | None = None, limit: int, offset: int
    ) -> SchedulePage:
        """Return one page of schedules by name, of one source, with one name, or all."""
        return SchedulePage(
            await self._store.list(source_id=source_id, name=name, limit=limit, offset=offset),
            await self._store.count(source_id=source_id, name=name),
        )

    async def slots(self, schedule_id: UUID, *, limit: int, offset: int) -> list[SlotRecord]:
        """Return the latest slots with what became of them, the newest first."""
        await self.get(schedule_id)
        return await self._store.slots(schedule_id, limit=limit, offset=offset)

    async def _lock(self, tx: Transaction, schedule_id: UUID) -> tuple[DueSchedule, datetime]:
        found = await self._store.lock(tx, schedule_id)
        if found is None:
            raise _gone(schedule_id)
        return found

    async def _settle(self, tx: Transaction, due: DueSchedule, now: datetime) -> None:
        """Give every slot up to *now* its outcome, by the definition that there is."""
        decisions = [Decision(due.schedule, each) for each in _plans(due, now)]
        await carry_out(self._store, self._queue, tx, decisions, token=None)


def upcoming(schedule: Schedule, count: int) -> list[datetime]:
    """Return the next slots; none when they cannot be computed here."""
    try:
        rule = rule_of(schedule)
    except ValueError:
        return []
    slots: list[datetime] = []
    slot = schedule.next_slot
    while slot is not None and len(slots) < count:
        slots.append(slot)
        slot = rule.next_after(slot)
    return slots


def _plans(due: DueSchedule, now: datetime) -> list[Plan]:
    schedule = due.schedule
    if schedule.next_slot is None or schedule.next_slot > now:
        return []
    try:
        rule = rule_of(schedule)
    except ValueError:
        # All that is known of the old rule is this one.
        slot = PlannedSlot(schedule.next_slot, schedule.next_slot, SlotOutcome.PAUSED)
        return [Plan((slot,), None)]
    if due.is_resting or not schedule.enabled:
        return [plan_paused(schedule, rule, now)]
    plans = [plan(schedule, rule, now)]
    # More than one step may run; the definition ends here, so the newest of the rest stands for all.
    rest = replace(schedule, catch_up=CatchUp.COALESCE, next_slot=plans[0].next_slot)
    return [*plans, plan(rest, rule, now)]


def _changed(schedule: Schedule, asked: ScheduleChange) -> Schedule:
    """Return *schedule* with what is asked for, checked."""
    values = {each.name: getattr(asked, each.name) for each in fields(asked)}
    given = {name: value for name, value in values.items() if value is not None}
    if given.get("task_kind", schedule.task_kind) != schedule.task_kind:
        given.setdefault("payload", {})
    changed = replace(schedule, **given)
    changed = replace(
        changed,
        name=checked_name(changed.name),
        spec=_checked("spec", lambda: normal_spec(changed.kind, changed.spec)),
        anchor=_checked("anchor", lambda: normal_anchor(changed.anchor)),
        priority=_within("priority", changed.priority, PRIORITY_MIN, PRIORITY_MAX),
        runs_max=_within("runs_max", changed.runs_max, 1, RUNS_MAX),
        max_late=_within("max_late", changed.max_late, 0, MAX_LATE_SECONDS_MAX),
    )
    if "tz" in given and not is_zone(changed.tz):
        raise Rejected(
            f"tz: there is no time zone {changed.tz!r}; give a name such as Europe/Berlin",
            code="bad-field",
        )
    task = _task(changed)
    source_id = task.payload.get("source_id")
    return replace(
        changed, payload=task.payload, source_id=UUID(str(source_id)) if source_id else None
    )


def _task(schedule: Schedule) -> NewTask:
    try:
        return task_for(schedule)
    except Rejected as error:
        # Of a schedule `kind` is something else.
        message = error.message.removeprefix("kind: ")
        if message != error.message:
            message = f"task_kind: {message}"
        raise Rejected(message, code=error.error_code) from None


def _with_next_slot(schedule: Schedule, now: datetime, *, is_lenient: bool = False) -> Schedule:
    try:
        return replace(schedule, next_slot=rule_of(schedule).next_after(now))
    except ValueError as error:
        if is_lenient:
            return replace(schedule, next_slot=None)
        raise Rejected(str(error), code="bad-field") from None


def _given(field_name: str, value: T | None) -> T:
    if value is None:
        raise Rejected(f"{field_name}: is required", code="bad-field")
    return value


def _checked(field_name: str, check: Callable[[], T]) -> T:
    try:
        return check()
    except ValueError as error:
        raise Rejected(f"{field_name}: {error}", code="bad-field") from None


def _within(field_name: str, value: int, low: int, high: int) -> int:
    if not low <= value <= high:
        raise Rejected(f"{field_name}: {value} is outside {low} to {high}", code="bad-field")
    return value


def _gone(schedule_id: UUID) -> NotFound:
    return NotFound(f"schedule {schedule_id}: there is none", code="schedule-not-found")
