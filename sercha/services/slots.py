"""Carrying out what was decided about slots: outcomes, tasks and ``next_slot`` in one transaction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from sercha.domain.ids import new_id
from sercha.domain.schedule import Plan, Schedule, SlotOutcome
from sercha.domain.task import NewTask
from sercha.services.ports import ScheduleStore, SlotRecord, TaskQueue, Transaction
from sercha.services.task_kinds import task_of


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of the due slots of one schedule."""

    schedule: Schedule
    plan: Plan
    task: NewTask | None = None
    """The task of the schedule, where it was made already."""


async def carry_out(
    store: ScheduleStore,
    queue: TaskQueue,
    tx: Transaction,
    decisions: Sequence[Decision],
    *,
    token: int | None,
) -> Counter[SlotOutcome]:
    """Record the outcomes, enqueue a task for each slot that runs and had no outcome, move the schedules on.

    The schedules are locked by *tx*. Takes four statements, whatever there is to do, and one more when tasks of
    the same key were queued already. Returns how many slots and stretches got which outcome.
    """
    by_id = {each.schedule.id: each for each in decisions}
    records = [record for each in decisions for record in _records(each, token)]
    fresh = await store.record(tx, records)
    records = [each for each in records if (each.schedule_id, each.slot) in fresh]
    runs = [each for each in records if each.outcome is SlotOutcome.ENQUEUED]
    twins = await _enqueue(queue, tx, by_id, runs)
    merged = [
        replace(each, outcome=SlotOutcome.COALESCED, task_id=twins[each.task_id])
        for each in records
        if each.task_id in twins
    ]
    await store.amend(tx, merged)
    await store.advance(tx, {each.schedule.id: each.plan.next_slot for each in decisions})
    counts = Counter(record.outcome for record in records)
    counts[SlotOutcome.ENQUEUED] -= len(twins)
    counts[SlotOutcome.COALESCED] += len(twins)
    return +counts


def task_for(schedule: Schedule) -> NewTask:
    """Return the task that *schedule* wants.

    Raises:
        Rejected: there is no such kind, or its payload is wrong.
    """
    task = task_of(schedule.task_kind, schedule.payload)
    return replace(task, priority=schedule.priority)


async def _enqueue(
    queue: TaskQueue,
    tx: Transaction,
    decisions: dict[UUID, Decision],
    runs: Sequence[SlotRecord],
) -> dict[UUID | None, UUID]:
    """Enqueue the tasks of *runs*; which other task does the work of which of them."""
    if not runs:
        return {}
    tasks = [_task(decisions[run.schedule_id], run) for run in runs]
    queued = await queue.enqueue(tx, tasks)
    return {
        run.task_id: task_id
        for run, task_id in zip(runs, queued, strict=True)
        if task_id != run.task_id
    }


def _task(decision: Decision, run: SlotRecord) -> NewTask:
    return replace(decision.task or task_for(decision.schedule), id=run.task_id)


def _records(decision: Decision, token: int | None) -> list[SlotRecord]:
    records = [
        SlotRecord(
            schedule_id=decision.schedule.id,
            slot=each.slot,
            last=each.last,
            outcome=each.outcome,
            task_id=new_id() if each.outcome is SlotOutcome.ENQUEUED else None,
            token=token,
        )
        for each in decision.plan.slots
    ]
    # A stretch that was coalesced names the task which does its work.
    return [
        replace(each, task_id=records[-1].task_id)
        if each.outcome is SlotOutcome.COALESCED
        else each
        for each in records
    ]
