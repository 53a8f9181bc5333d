"""Schedules: which slots they have, and what becomes of those that are due.

A *slot* is one instant at which a schedule wants its task; the instant in UTC is its identity. ``next_slot`` is the
first slot without an outcome. Whoever moves it on records an outcome for every slot that it passes, in the same
transaction: one row for each that runs, one row for a stretch of those that do not. So it costs the same to have
been away for an hour or for a year.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Protocol
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from sercha.domain.cron import SECOND, Cron, check_spec

INTERVAL_SECONDS_MAX = 366 * 86_400
RUNS_MAX = 100
"""Most slots of one schedule that one step runs."""
MAX_LATE_SECONDS_MAX = 366 * 86_400
ANCHOR_MIN = datetime(1970, 1, 2, tzinfo=UTC)
ANCHOR_MAX = datetime(2200, 1, 1, tzinfo=UTC)

_DURATION = re.compile(r"(\d{1,9})(s|m|h|d)?", re.ASCII)
_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


class ScheduleKind(StrEnum):
    """How ``spec`` is read."""

    INTERVAL = "interval"
    """A duration: the slots are ``anchor + k * duration``, without drift."""
    CRON = "cron"
    """A rule of five fields, on the clocks of ``tz``."""


class CatchUp(StrEnum):
    """What becomes of slots that fell due while nobody scheduled."""

    COALESCE = "coalesce"
    """The newest one runs, for all of them."""
    ALL = "all"
    """The newest ``runs_max`` run, each by itself; older ones are skipped."""
    SKIP = "skip"
    """Those that are not later than ``max_late`` run, each by itself; older ones are skipped."""


class SlotOutcome(StrEnum):
    """What became of a slot; each has one."""

    ENQUEUED = "enqueued"
    COALESCED = "coalesced"
    """The task of another slot, or one that was queued already, does the work."""
    SKIPPED = "skipped"
    """Too late."""
    PAUSED = "paused"
    """The schedule, or its source, was paused."""
    MANUAL = "manual"
    """No slot of the rule: somebody asked for a run at that instant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When a task is wanted, and which one."""

    id: UUID
    name: str
    kind: ScheduleKind
    spec: str
    tz: str
    anchor: datetime
    """There are no slots before; where an interval counts from."""
    task_kind: str
    payload: dict[str, object]
    """Of the task; JSON."""
    priority: int = 0
    source_id: UUID | None = None
    """The schedule goes with its source, and rests while that one is paused."""
    catch_up: CatchUp = CatchUp.COALESCE
    runs_max: int = 10
    max_late: int = 3_600
    """Seconds."""
    enabled: bool = True
    paused_reason: str | None = None
    """Why it does not go on, when nobody paused it."""
    next_slot: datetime | None = None
    """The first slot without an outcome; None: there are no more."""
    is_default: bool = False
    """Follows the team's settings, until somebody changes it by hand."""
    version: int = 1
    """Grows with every change of the definition."""
    created_at: datetime
    updated_at: datetime


class Rule(Protocol):
    """The slots of a schedule. Instants are aware, in UTC, in whole seconds."""

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot after *instant*."""
        ...

    def last_until(self, instant: datetime) -> datetime | None:
        """Return the last slot that is not after *instant*."""
        ...


@dataclass(frozen=True, slots=True)
class Interval:
    """A slot every so many seconds, counted from the anchor."""

    seconds: int
    anchor: datetime

    def next_after(self, instant: datetime) -> datetime | None:
        """Return the first slot after *instant*."""
        return self._slot(max(0, self._number(instant) + 1))

    def last_until(self, instant: datetime) -> datetime | None:
        """Return the last slot that is not after *instant*."""
        number = self._number(instant)
        return self._slot(number) if number >= 0 else None

    def _number(self, instant: datetime) -> int:
        return (instant - self.anchor) // timedelta(seconds=self.seconds)

    def _slot(self, number: int) -> datetime:
        return self.anchor + number * timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class PlannedSlot:
    """A slot, or a stretch of slots, that gets an outcome."""

    slot: datetime
    last: datetime
    """The last slot of the stretch; ``slot`` itself where it is one."""
    outcome: SlotOutcome


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step does for one schedule."""

    slots: tuple[PlannedSlot, ...]
    next_slot: datetime | None
    """May be due as well: then another step follows."""


def rule_of(schedule: Schedule) -> Rule:
    """Return the slots of *schedule*.

    Raises:
        ValueError: they cannot be computed, because its zone is not known here; says which.
    """
    if schedule.kind is ScheduleKind.INTERVAL:
        return Interval(parse_interval(schedule.spec), schedule.anchor)
    try:
        return Cron(schedule.spec, ZoneInfo(schedule.tz), schedule.anchor)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"tz: the time zone {schedule.tz!r} is not known on this machine"
        ) from None


def plan(schedule: Schedule, rule: Rule, now: datetime) -> Plan:
    """Decide about the slots of *schedule* that are due at *now*, at most `RUNS_MAX` runs of them."""
    first = schedule.next_slot
    if first is None or first > now:
        return Plan((), first)
    if schedule.catch_up is CatchUp.SKIP:
        return _run_the_oldest(first, rule, now, timedelta(seconds=schedule.max_late))
    is_all = schedule.catch_up is CatchUp.ALL
    runs = _newest(first, rule, now, min(schedule.runs_max, RUNS_MAX) if is_all else 1)
    passed = SlotOutcome.SKIPPED if is_all else SlotOutcome.COALESCED
    return Plan(
        (*_stretch(first, runs[0], rule, passed), *map(_run, runs)), rule.next_after(runs[-1])
    )


def plan_paused(schedule: Schedule, rule: Rule, now: datetime) -> Plan:
    """Decide about the slots of a schedule that rests: none of those that are due at *now* runs."""
    first = schedule.next_slot
    if first is None or first > now:
        return Plan((), first)
    following = rule.next_after(now)
    last = max(rule.last_until(now) or first, first)
    return Plan((PlannedSlot(first, last, SlotOutcome.PAUSED),), following)


def _run_the_oldest(first: datetime, rule: Rule, now: datetime, late: timedelta) -> Plan:
    slots: list[PlannedSlot] = []
    upcoming: datetime | None = first
    if first < now - late:
        skipped = max(rule.last_until(now - late - SECOND / 1_000_000) or first, first)
        slots.append(PlannedSlot(first, skipped, SlotOutcome.SKIPPED))
        upcoming = rule.next_after(skipped)
    while upcoming is not None and upcoming <= now and len(slots) < RUNS_MAX:
        slots.append(_run(upcoming))
        upcoming = rule.next_after(upcoming)
    return Plan(tuple(slots), upcoming)


def _newest(first: datetime, rule: Rule, now: datetime, count: int) -> list[datetime]:
    """Return the newest slots from *first* to *now*, at least one and at most *count*, in order."""
    found: list[datetime] = []
    slot = rule.last_until(now)
    while slot is not None and slot > first and len(found) < count:
        found.append(slot)
        slot = rule.last_until(slot - SECOND)
    # The first one counts even if the rule does not know it any more: the zone's data may have been renewed.
    if len(found) < count:
        found.append(first)
    return found[::-1]


def _stretch(
    first: datetime, end: datetime, rule: Rule, outcome: SlotOutcome
) -> tuple[PlannedSlot, ...]:
    """Return the slots from *first* on that come before *end*, as one."""
    if first >= end:
        return ()
    last = rule.last_until(end - SECOND)
    return (PlannedSlot(first, max(first, last or first), outcome),)


def _run(slot: datetime) -> PlannedSlot:
    return PlannedSlot(slot, slot, SlotOutcome.ENQUEUED)


def parse_interval(text: str) -> int:
    """Return the seconds of ``90``, ``90s``, ``15m``, ``6h`` or ``1d``.

    Raises:
        ValueError: it is none of these, or out of bounds.
    """
    match = _DURATION.fullmatch(text.strip())
    seconds = int(match[1]) * _UNITS[match[2] or "s"] if match else 0
    if not 1 <= seconds <= INTERVAL_SECONDS_MAX:
        raise ValueError("give a duration such as 90s, 15m, 6h or 1d, from 1s to 366d")
    return seconds


def format_interval(seconds: int) -> str:
    """Write a duration in the largest unit that gives a whole number."""
    unit = next(unit for unit, size in _UNITS.items() if seconds % size == 0)
    return f"{seconds // _UNITS[unit]}{unit}"


def normal_spec(kind: ScheduleKind, spec: str) -> str:
    """Return *spec* as it is kept.

    Raises:
        ValueError: it is wrong; says how.
    """
    if kind is ScheduleKind.INTERVAL:
        return format_interval(parse_interval(spec))
    return check_spec(spec)


def normal_anchor(anchor: datetime) -> datetime:
    """Return an anchor in UTC and whole seconds.

    Raises:
        ValueError: it has no zone, or is out of bounds.
    """
    if anchor.tzinfo is None or not ANCHOR_MIN <= anchor <= ANCHOR_MAX:
        raise ValueError("give an instant with its offset, between 1970 and 2200")
    return anchor.astimezone(UTC).replace(microsecond=0)


def is_zone(tz: str) -> bool:
    """Whether *tz* is the name of a time zone that this machine knows."""
    return tz in _zones()


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
