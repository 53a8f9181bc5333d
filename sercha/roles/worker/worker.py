"""The worker: what keeps it alive outside, slots inside.

::

    nursery: heart, settler               shielded; end last: whoever drains is alive, and endings are recorded
      └─ nursery: caretaker, relay        look after the queue for all workers
           └─ nursery: slots              each runs one attempt at a time
                └─ nursery: intake        keeps the desk filled; ends first

Claims come through the intake to the desk, from there to a slot, and their endings to the settler. The heart
cancels attempts whose claims are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from uuid import UUID

import structlog
import trio

from sercha.domain.task import Claim, Outcome
from sercha.roles.worker.caretaker import Caretaker
from sercha.roles.worker.desk import Desk, Held
from sercha.roles.worker.heart import Heart
from sercha.roles.worker.intake import Intake
from sercha.roles.worker.relay import Confirmer, Relay
from sercha.roles.worker.settler import Settler
from sercha.services.attempt import Attempt, Ending, Handler, Verdict, out_of_time, run_attempt
from sercha.services.ports import Dispatch, Notices, TaskQueue
from sercha.telemetry import metrics

CLAIM_PATIENCE = 5.0
"""Seconds that a claim may go on once the worker drains."""
YIELD_EVERY = 8
"""Attempts after which a slot lets others run: a handler may end without ever waiting."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How one worker works."""

    slots: int
    poll_interval: float
    """Seconds to wait on an empty queue when no notice comes."""
    grace: float
    """Seconds that running tasks get when the worker drains; then they are given back."""


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """A worker's state at one moment."""

    owner: UUID | None
    """The name of its claims; None while the ledger does not know it."""
    slots: int
    busy: int
    running: tuple[Claim, ...]
    waiting: int
    """Claims that wait for a slot."""
    unsettled: int
    """Endings that are not recorded yet."""
    beat_at: float | None
    """When a beat was last confirmed, on Trio's clock."""
    dispatch_error: str | None
    """Why the dispatch is not used at present, if there is one."""


class Worker:
    """Works tasks of one queue until drained; run it once."""

    def __init__(
        self,
        node_id: UUID,
        queue: TaskQueue,
        notices: Notices,
        handlers: Mapping[str, Handler],
        settings: WorkerSettings,
        *,
        dispatch: Dispatch | None = None,
    ) -> None:
        self.node_id = node_id
        self._handlers = handlers
        self._settings = settings
        kinds = tuple(str(kind) for kind in handlers)
        self._durations = {kind: metrics.ATTEMPT_DURATION.labels(kind) for kind in kinds}
        self._desk = Desk(settings.slots)
        self._heart = Heart(queue, self._desk, node_id)
        self._settler = Settler(queue, self._desk)
        self._caretaker = Caretaker(queue, dispatch)
        self._relay = self._confirmer = None
        if dispatch is not None:
            self._relay = Relay(queue, dispatch, self._desk, kinds, self._settler.keyed_ended)
            self._confirmer = Confirmer(dispatch, self._relay)
        self._intake = Intake(
            queue,
            self._desk,
            self._heart,
            self._settler,
            notices,
            kinds,
            poll_interval=settings.poll_interval,
            dispatch=dispatch,
            relay=self._relay,
            confirmer=self._confirmer,
        )

    def statistics(self) -> WorkerStatistics:
        """Return what the worker is doing now."""
        return WorkerStatistics(
            owner=self._heart.owner,
            slots=self._settings.slots,
            busy=self._desk.busy,
            running=self._desk.running(),
            waiting=self._desk.waiting,
            unsettled=self._settler.backlog,
            beat_at=self._heart.beat_at,
            dispatch_error=self._intake.dispatch_error,
        )

    async def run(
        self,
        *,
        drain: trio.Event,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Work tasks until *drain* is set, then finish or give back within the grace.

        Cancellation gives every running task back (shielded, bounded). Errors of the queue and of the dispatch
        are met with a bounded, jittered back-off.
        """
        async with trio.open_nursery() as outer:
            outer.start_soon(self._keep)
            try:
                await self._work(drain, task_status)
            finally:
                self._give_back_waiting()
                self._settler.close()
        _log.info("worker.stopped", node=str(self.node_id))

    async def _keep(self) -> None:
        """Stay alive until every ending is recorded."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._heart.run)
                await self._settler.run()
                nursery.cancel_scope.cancel("everything is recorded")
            await self._heart.leave()

    async def _work(self, drain: trio.Event, task_status: trio.TaskStatus[None]) -> None:
        async with trio.open_nursery() as helpers:
            helpers.start_soon(self._caretaker.run)
            if self._relay is not None and self._confirmer is not None:
                helpers.start_soon(self._relay.run)
                helpers.start_soon(self._confirmer.run)
            async with trio.open_nursery() as slots:
                for _ in range(self._settings.slots):
                    slots.start_soon(self._work_slot, drain)
                task_status.started()
                _log.info("worker.started", node=str(self.node_id), slots=self._settings.slots)
                async with trio.open_nursery() as intake:
                    intake.start_soon(self._intake.run)
                    await drain.wait()
                    # A claim under way gets a moment: what it brings is given back, not left to expire.
                    deadline = trio.current_time() + self._settings.grace
                    self._intake.stop()
                    soon = trio.current_time() + CLAIM_PATIENCE
                    intake.cancel_scope.deadline = min(deadline, soon)
                _log.info("worker.draining", running=self._desk.busy)
                self._give_back_waiting()
                self._desk.close()
                slots.cancel_scope.deadline = deadline
            if self._confirmer is not None:
                with trio.move_on_after(1):
                    await self._confirmer.flush()
            helpers.cancel_scope.cancel("the worker has drained")

    def _give_back_waiting(self) -> None:
        for held in self._desk.take_waiting():
            self._settler.give_back(held)

    async def _work_slot(self, drain: trio.Event) -> None:
        while await self._work_in_scope(drain):
            pass

    async def _work_in_scope(self, drain: trio.Event) -> bool:
        """Run attempts one after the other until one is cancelled alone; False when there are no more.

        A scope of its own for each attempt would cost as much as all the rest of a short one.
        """
        worked = 0
        held: Held | None = None
        verdict: Verdict = Ending.GIVEN_BACK  # if the worker itself is cancelled
        try:
            with trio.CancelScope() as scope:
                while (held := await self._desk.next()) is not None:
                    verdict = Ending.GIVEN_BACK
                    if self._begin(held, scope):
                        attempt = Attempt(held.claim, drain)
                        verdict = await run_attempt(attempt, self._handlers[held.claim.kind])
                    else:
                        verdict = Ending.LOST
                    if scope.cancel_called:
                        break
                    self._end(held, verdict)
                    held = None
                    scope.deadline = inf
                    worked += 1
                    if worked % YIELD_EVERY == 0:
                        await trio.lowlevel.checkpoint()
            if held is None:
                return False
            if scope.cancelled_caught:
                verdict = Ending.LOST if held.is_lost else out_of_time(held.claim)
        finally:
            if held is not None:
                self._end(held, verdict)
        return True

    def _begin(self, held: Held, scope: trio.CancelScope) -> bool:
        """Put an attempt under *scope*; False when its claim may be another's by now."""
        if held.claim.owner != self._heart.owner or not self._heart.is_trusted():
            return False  # we stood still, and wake before our heart does
        held.scope = scope
        if held.claim.time_limit is not None:
            scope.deadline = held.since + held.claim.time_limit
        return True

    def _end(self, held: Held, verdict: Verdict) -> None:
        """Free the slot and hand the ending over. No checkpoint."""
        kind = held.claim.kind
        self._desk.end(held)
        self._durations[kind].observe(trio.current_time() - held.since)
        if isinstance(verdict, Outcome):
            self._settler.settle(held, verdict)
        elif verdict is Ending.GIVEN_BACK:
            self._settler.give_back(held)
        else:
            metrics.ATTEMPTS.labels(kind, verdict).inc()
            self._desk.forget(held)
