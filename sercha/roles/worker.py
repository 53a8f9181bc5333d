"""The worker: heartbeat outside, slots inside.

::

    nursery: heartbeat, reaper            (end last: a draining worker is alive)
      └─ nursery: one task per claim      (at most ``slots`` at once)
           ▲ dispatcher claims as many as are free, then waits for a notice or the poll interval

The heartbeat extends every running claim in one statement. A claim that the statement no longer returns was
taken or cancelled: its scope is cancelled. A claim whose last confirmed beat was sent too long ago is cancelled
by its deadline, which counts from before the request was sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from uuid import UUID

import structlog
import trio

from sercha.domain.task import Claim, TaskKind
from sercha.errors import SerchaError
from sercha.services.attempt import Attempt, Ending, Handler, run_attempt
from sercha.services.backoff import Backoff
from sercha.services.ports import Notices, TaskQueue
from sercha.services.waiting import until_any
from sercha.telemetry import metrics

CHANNEL = "sercha_task"
REAP_INTERVAL = 10.0
"""Seconds between looks for the tasks of dead workers; less where claims are shorter."""
CLAIM_PATIENCE = 5.0
"""Seconds that a claim may go on once the worker drains."""
CLOCK_DRIFT = 0.01
"""Bound on the ratio of the server's clock rate to ours, less one."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How one worker works."""

    slots: int
    poll_interval: float
    """Seconds to wait on an empty queue when no notice comes."""
    grace: float
    """Seconds that running tasks get when the worker drains; then they are given back."""
    claim_ttl: float


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """A worker's state at one moment."""

    node_id: UUID
    slots: int
    running: tuple[Claim, ...]
    beat_at: float | None
    """When a beat was last confirmed, on Trio's clock."""


class Worker:
    """Works tasks of one queue until drained."""

    def __init__(
        self,
        node_id: UUID,
        queue: TaskQueue,
        notices: Notices,
        handlers: Mapping[TaskKind, Handler],
        settings: WorkerSettings,
    ) -> None:
        self.node_id = node_id
        self._queue = queue
        self._notices = notices
        self._handlers = handlers
        self._settings = settings
        # By attempt too: what was lost may be claimed anew while the old attempt still comes to its end.
        self._running: dict[tuple[UUID, int], tuple[Claim, trio.CancelScope]] = {}
        self._slot_freed = trio.Event()
        self._beat_at: float | None = None

    def statistics(self) -> WorkerStatistics:
        """Return what the worker is doing now."""
        return WorkerStatistics(
            node_id=self.node_id,
            slots=self._settings.slots,
            running=tuple(claim for claim, _ in self._running.values()),
            beat_at=self._beat_at,
        )

    async def run(
        self,
        *,
        drain: trio.Event,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Work tasks until *drain* is set, then finish or give back within the grace.

        Cancellation gives every running task back (shielded, bounded). Errors of the queue are met with a
        bounded, jittered back-off.
        """
        async with trio.open_nursery() as outer:
            outer.start_soon(self._beat_forever)
            outer.start_soon(self._reap_forever)
            async with trio.open_nursery() as slots:
                task_status.started()
                _log.info("worker.started", node=str(self.node_id), slots=self._settings.slots)
                async with trio.open_nursery() as dispatching:
                    dispatching.start_soon(self._dispatch, slots, drain)
                    await drain.wait()
                    # A claim under way gets a moment: what it brings is given back, not left to expire.
                    deadline = trio.current_time() + self._settings.grace
                    dispatching.cancel_scope.deadline = min(deadline, _soon())
                _log.info("worker.draining", running=len(self._running))
                slots.cancel_scope.deadline = deadline
            outer.cancel_scope.cancel("the worker has drained")
        _log.info("worker.stopped", node=str(self.node_id))

    async def _dispatch(self, slots: trio.Nursery, drain: trio.Event) -> None:
        backoff = Backoff(base=0.2, cap=10.0)
        with self._notices.subscribe(CHANNEL) as subscription:
            while not drain.is_set():
                self._slot_freed = trio.Event()
                try:
                    claimed = await self._claim(slots, drain)
                except SerchaError as error:
                    metrics.DB_RETRIES.inc()
                    delay = backoff.next()
                    _log.warning("worker.claim_failed", error=error.message, retry_in=delay)
                    await until_any(delay, drain)
                    continue
                backoff.reset()
                if len(self._running) >= self._settings.slots:
                    await until_any(inf, drain, self._slot_freed)
                elif not claimed:
                    await until_any(
                        self._settings.poll_interval, drain, subscription, self._slot_freed
                    )

    async def _claim(self, slots: trio.Nursery, drain: trio.Event) -> int:
        """Fill the free slots; how many were filled."""
        sent_at = trio.current_time()
        free = self._settings.slots - len(self._running)
        claims = await self._queue.claim(self.node_id, free, self._handlers.keys())
        for claim in claims:
            scope = trio.CancelScope(deadline=self._trust_until(sent_at))
            self._running[claim.task_id, claim.attempt] = (claim, scope)
            slots.start_soon(self._run_one, claim, scope, drain)
        metrics.SLOTS.labels("busy").set(len(self._running))
        metrics.SLOTS.labels("free").set(self._settings.slots - len(self._running))
        return len(claims)

    def _trust_until(self, sent_at: float) -> float:
        """Return when to stop believing in a claim asked for at *sent_at*, on Trio's clock.

        The server cannot give it away before ``sent_at + ttl`` by a clock that runs at most `CLOCK_DRIFT`
        faster; the margin is the time for stopping.
        """
        ttl = self._settings.claim_ttl
        return sent_at + ttl * (1 - CLOCK_DRIFT) - min(5.0, ttl / 12)

    async def _run_one(self, claim: Claim, scope: trio.CancelScope, drain: trio.Event) -> None:
        ending = Ending.LOST
        started_at = trio.current_time()
        try:
            with scope:
                ending = await run_attempt(
                    self._queue, Attempt(claim, drain), self._handlers[claim.kind]
                )
            if scope.cancelled_caught:
                _log.warning("task.claim_lost", task_id=str(claim.task_id), attempt=claim.attempt)
        finally:
            del self._running[claim.task_id, claim.attempt]
            self._slot_freed.set()
            metrics.ATTEMPTS.labels(claim.kind, ending).inc()
            metrics.ATTEMPT_DURATION.labels(claim.kind).observe(trio.current_time() - started_at)

    async def _beat_forever(self) -> None:
        """Extend all running claims three times within their life, in one statement each time."""
        interval = self._settings.claim_ttl / 3
        backoff = Backoff(base=0.2, cap=interval / 3)
        while True:
            await trio.sleep(interval if not backoff.failures else backoff.next())
            running = list(self._running.values())
            if not running:
                backoff.reset()
                continue
            sent_at = trio.current_time()
            try:
                kept = await self._queue.beat(self.node_id, [claim for claim, _ in running])
            except SerchaError as error:
                metrics.DB_RETRIES.inc()
                backoff.failures = max(1, backoff.failures)
                _log.warning("task.beat_failed", error=error.message)
                continue
            backoff.reset()
            self._beat_at = trio.current_time()
            for claim, scope in running:
                if (claim.task_id, claim.attempt) in kept:
                    scope.deadline = max(scope.deadline, self._trust_until(sent_at))
                elif (claim.task_id, claim.attempt) in self._running:
                    scope.cancel("the claim was taken or cancelled")

    async def _reap_forever(self) -> None:
        interval = min(REAP_INTERVAL, self._settings.claim_ttl / 3)
        while True:
            try:
                if reaped := await self._queue.reap():
                    _log.warning("task.reaped", count=reaped)
                counts = await self._queue.counts()
                metrics.set_states(metrics.TASKS, {str(k): n for k, n in counts.items()})
            except SerchaError as error:
                _log.warning("worker.reap_failed", error=error.message)
            await trio.sleep(interval)


def _soon() -> float:
    return trio.current_time() + CLAIM_PATIENCE
