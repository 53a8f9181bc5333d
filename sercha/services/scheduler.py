"""One step of the scheduler: slots that are due become tasks.

::

    while something is due:                               by the server's clock
        ┌─ one transaction, at most `SLOTS_MAX` slots ────────────────────────┐
        │ fence (shared) ▸ due schedules (locked, those of others passed over)│
        │ ▸ outcomes ▸ tasks for those that had none ▸ next_slot              │
        └─────────────────────────────────────────────────────────────────────┘

Nothing but the row in the database says where a schedule stands. So a step that was cut off, whose COMMIT was not
answered, or that ran twice at the same time, is simply followed by another one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog
import trio

from sercha.domain.schedule import SlotOutcome, plan, plan_paused, rule_of
from sercha.domain.task import TaskKind
from sercha.errors import Rejected
from sercha.services.ports import DueSchedule, ScheduleStore, TaskQueue, Transaction
from sercha.services.slots import Decision, carry_out, task_for
from sercha.telemetry import metrics

SLOTS_MAX = 500
"""Most schedules, and most outcomes, of one transaction: whoever takes the lease over waits for it."""
BATCHES_MAX = 200
"""Most transactions of one step; then it returns and says that more is due."""
COMPUTING_SECONDS_MAX = 0.5
"""How long slots are computed for while schedules are locked; the server ends a transaction that stands still."""
CHECKPOINT_EVERY = 25
BUSY_PAUSE = 0.2
"""Seconds to wait when all that is due is locked by others."""
KEPT_SECONDS = 30 * 86_400.0
"""How long outcomes are kept."""
FORGOTTEN_MAX = 5_000
"""Most old outcomes that are removed at a time."""

KINDS = tuple(str(kind) for kind in TaskKind)
"""Kinds of tasks that this version can make. Schedules of others are left to versions that know them."""

OpenTransaction = Callable[[], AbstractAsyncContextManager[Transaction]]

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Tick:
    """What one step did."""

    outcomes: Counter[SlotOutcome] = field(default_factory=Counter[SlotOutcome])
    """Slots, and stretches of slots, by what became of them."""
    schedules: int = 0
    """Schedules that were due."""
    late: float = 0.0
    """Seconds that the oldest slot was late."""
    wait: float | None = None
    """Seconds until the next slot; None: there is none to come."""


class Ticker:
    """Turns due slots into tasks; usable by one task at a time."""

    def __init__(self, store: ScheduleStore, queue: TaskQueue) -> None:
        self._store = store
        self._queue = queue

    async def tick(self, open_transaction: OpenTransaction, *, token: int | None = None) -> Tick:
        """Deal with everything that is due, at most `BATCHES_MAX` times `SLOTS_MAX` slots.

        *open_transaction* gives the transactions, fenced or not; *token* is recorded with each outcome. Cancelled,
        what was committed stays and the transaction under way is rolled back.

        Raises:
            LeaseLost: a fenced transaction was refused.
            Transient: PostgreSQL is away, or gave up; what was due is due still.
        """
        outcomes = Counter[SlotOutcome]()
        schedules, late = 0, 0.0
        for _ in range(BATCHES_MAX):
            wait = await self._store.seconds_to_next(KINDS)
            if wait is None or wait > 0:
                return Tick(outcomes, schedules, late, wait)
            late = max(late, -wait)
            async with open_transaction() as tx:
                batch = await self._batch(tx, token)
            if batch is None:
                return Tick(outcomes, schedules, late, BUSY_PAUSE)
            for outcome, count in batch.outcomes.items():
                metrics.SCHEDULE_SLOTS.labels(outcome).inc(count)
            outcomes += batch.outcomes
            schedules += batch.schedules
        return Tick(outcomes, schedules, late, 0.0)

    async def forget(self) -> int:
        """Remove some outcomes that are older than `KEPT_SECONDS`; how many."""
        return await self._store.forget_slots(older_than=KEPT_SECONDS, limit=FORGOTTEN_MAX)

    async def _batch(self, tx: Transaction, token: int | None) -> Tick | None:
        """Deal with one batch; None when there is nothing that is not locked by others."""
        due, now = await self._store.lock_due(tx, SLOTS_MAX, KINDS)
        if not due:
            return None
        decisions, broken = await _decide(due, now)
        for each in due:
            if reason := broken.get(each.schedule.id):
                _log.error("schedule.paused", schedule_id=str(each.schedule.id), reason=reason)
        await self._store.pause_broken(tx, broken)
        outcomes = await carry_out(self._store, self._queue, tx, decisions, token=token)
        return Tick(outcomes, len(decisions))


async def _decide(due: list[DueSchedule], now: datetime) -> tuple[list[Decision], dict[UUID, str]]:
    """Decide about as many of *due* as fit into one transaction; the reasons for those that cannot be computed."""
    decisions: list[Decision] = []
    broken: dict[UUID, str] = {}
    slots, give_up_at = 0, trio.current_time() + COMPUTING_SECONDS_MAX
    for number, each in enumerate(due):
        if number % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1:
            await trio.lowlevel.checkpoint()
        if decisions and trio.current_time() > give_up_at:
            break
        try:
            decision = _decide_one(each, now)
        except ValueError as error:
            broken[each.schedule.id] = str(error)
        except Rejected as error:
            broken[each.schedule.id] = error.message
        else:
            slots += len(decision.plan.slots)
            if decisions and slots > SLOTS_MAX:
                break
            decisions.append(decision)
    return decisions, broken


def _decide_one(due: DueSchedule, now: datetime) -> Decision:
    rule = rule_of(due.schedule)
    decide = plan_paused if due.is_resting else plan
    return Decision(due.schedule, decide(due.schedule, rule, now), task_for(due.schedule))
