"""Ours: what the API answers about schedules."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sercha.domain import schedule
from sercha.domain.schedule import CatchUp, ScheduleKind, SlotOutcome
from sercha.roles.api.shapes import Instant, Shape
from sercha.services.ports import SlotRecord
from sercha.services.schedules import upcoming

UPCOMING = 5
"""How many of the next slots are shown."""


class Schedule(Shape):
    """When a task is wanted, and which one."""

    id: UUID
    name: str
    kind: ScheduleKind
    spec: str
    tz: str
    anchor: Instant
    task_kind: str
    payload: dict[str, Any]
    priority: int
    source_id: UUID | None = None
    catch_up: CatchUp
    runs_max: int
    max_late: int
    """Seconds."""
    enabled: bool
    paused_reason: str | None = None
    """Why it does not go on, when nobody paused it by hand."""
    next_slot: Instant | None = None
    """The first slot without an outcome."""
    is_default: bool
    """Follows the team's settings until it is changed by hand."""
    version: int
    created_at: Instant
    updated_at: Instant


class ScheduleDetails(Schedule):
    """A schedule with its next slots."""

    upcoming: list[Instant]


class SchedulesResponse(Shape):
    """One page of schedules."""

    schedules: list[Schedule]
    total: int
    limit: int
    offset: int


class Slot(Shape):
    """What became of a slot, or of a stretch of slots."""

    slot: Instant
    last: Instant
    """The last slot of the stretch."""
    outcome: SlotOutcome
    task_id: UUID | None = None
    token: int | None = None
    """The fencing token of the scheduler that recorded it."""
    recorded_at: Instant


class SlotsResponse(Shape):
    """The latest slots, the newest first."""

    slots: list[Slot]
    limit: int
    offset: int


class RunAcceptedResponse(Shape):
    """A run that was asked for."""

    schedule_id: UUID
    task_id: UUID


def full_schedule(given: schedule.Schedule) -> Schedule:
    """Return a schedule."""
    return Schedule(**_fields(given))


def schedule_details(given: schedule.Schedule) -> ScheduleDetails:
    """Return a schedule with its next slots."""
    slots = upcoming(given, UPCOMING) if given.enabled else []
    return ScheduleDetails(**_fields(given), upcoming=slots)


def full_slot(record: SlotRecord) -> Slot:
    """Return a slot with its outcome."""
    assert record.recorded_at is not None, "read from the store"
    return Slot(
        slot=record.slot,
        last=record.last,
        outcome=record.outcome,
        task_id=record.task_id,
        token=record.token,
        recorded_at=record.recorded_at,
    )


def _fields(given: schedule.Schedule) -> dict[str, Any]:
    fields = {name: getattr(given, name) for name in Schedule.model_fields}
    if given.kind is ScheduleKind.INTERVAL:
        fields["spec"] = schedule.normal_spec(given.kind, given.spec)
    return fields
