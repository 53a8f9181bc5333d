"""Recording how attempts ended, as many at once as have come together while the last ones were recorded.

A slot hands its outcome over and goes on. What is handed over is held, and beaten for, until the ledger has
answered; repeating is safe, since the token (task, owner, attempt) matches only until the first success.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import structlog
import trio
from prometheus_client import Counter

from sercha.domain.task import Outcome
from sercha.errors import Transient
from sercha.roles.worker.desk import Desk, Held
from sercha.services.attempt import Ending
from sercha.services.backoff import Backoff
from sercha.services.ports import TaskQueue
from sercha.services.waiting import Signal
from sercha.telemetry import metrics

BATCH_MAX = 500
SETTLE_TIMEOUT = 5.0
"""Seconds that recording may go on when the worker ends; then claims are left to be reaped."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Ended:
    held: Held
    outcome: Outcome | None
    """None: give it back."""


class Settler:
    """Records endings until closed, also those of attempts that were cancelled with everything around."""

    def __init__(self, queue: TaskQueue, desk: Desk) -> None:
        self._queue = queue
        self._desk = desk
        self._ended: deque[_Ended] = deque()
        self._due = Signal()
        self._counters: dict[tuple[str, Ending], Counter] = {}
        self._is_closing = False
        self._scope = trio.CancelScope(shield=True)
        self.keyed_ended = Signal()
        """Set when a task with a concurrency key has ended: another may run."""

    @property
    def backlog(self) -> int:
        """Endings that are not recorded yet."""
        return len(self._ended)

    def settle(self, held: Held, outcome: Outcome) -> None:
        """Record *outcome* soon. No checkpoint."""
        self._ended.append(_Ended(held, outcome))
        self._due.set()

    def give_back(self, held: Held) -> None:
        """Give the claim back soon, uncharged. No checkpoint."""
        self._ended.append(_Ended(held, None))
        self._due.set()

    def close(self) -> None:
        """End `run` when everything is recorded, after `SETTLE_TIMEOUT` seconds in any case."""
        self._is_closing = True
        self._scope.deadline = trio.current_time() + SETTLE_TIMEOUT
        self._due.set()

    async def run(self) -> None:
        """Record until closed; shielded from cancellation."""
        with self._scope:
            while self._ended or not self._is_closing:
                if not self._ended:
                    await self._due.wait()
                    continue
                count = min(len(self._ended), BATCH_MAX)
                await self._record([self._ended[n] for n in range(count)])
                for _ in range(count):
                    self._ended.popleft()
        for ended in self._ended:
            _log.error("task.settle_abandoned", task_id=str(ended.held.claim.task_id))
            self._forget(ended, Ending.ABANDONED)

    async def _record(self, batch: Sequence[_Ended]) -> None:
        """Record a batch; it is repeated for as long as PostgreSQL is away."""
        backoff = Backoff(base=0.1, cap=2.0)
        while True:
            try:
                await self._record_once(batch)
                return
            except Transient as error:
                metrics.DB_RETRIES.inc()
                log = _log.warning if backoff.failures == 0 else _log.debug
                log("task.settle_failed", error=error.message, count=len(batch))
            except Exception as error:  # noqa: BLE001 - one ending must not stop all that come after
                if len(batch) == 1:
                    _log.error("task.settle_refused", exc_info=error)
                    self._forget(batch[0], Ending.ABANDONED)
                    return
                for ended in batch:
                    await self._record([ended])
                return
            await trio.sleep(backoff.next())

    async def _record_once(self, batch: Sequence[_Ended]) -> None:
        settled = [ended for ended in batch if ended.outcome is not None]
        if settled:
            outcomes = [ended.outcome for ended in settled if ended.outcome is not None]
            accepted = await self._queue.settle(outcomes)
            for ended in settled:
                self._note(ended, is_accepted=ended.held.claim.task_id in accepted)
        if returned := [ended for ended in batch if ended.outcome is None]:
            accepted = await self._queue.give_back([ended.held.claim for ended in returned])
            for ended in returned:
                self._note(ended, is_accepted=ended.held.claim.task_id in accepted)
        if any(ended.held.claim.is_keyed for ended in batch):
            self.keyed_ended.set()

    def _note(self, ended: _Ended, *, is_accepted: bool) -> None:
        claim, outcome = ended.held.claim, ended.outcome
        if not self._desk.knows(ended.held.key):
            return  # noted before the repetition
        if not is_accepted:
            _log.warning("task.claim_lost", task_id=str(claim.task_id), attempt=claim.attempt)
            self._forget(ended, Ending.LOST)
        elif outcome is None:
            _log.info("task.given_back", task_id=str(claim.task_id), attempt=claim.attempt)
            self._forget(ended, Ending.GIVEN_BACK)
        else:
            self._forget(ended, Ending.FAILED if outcome.error else Ending.COMPLETED)

    def _forget(self, ended: _Ended, ending: Ending) -> None:
        key = ended.held.claim.kind, ending
        if key not in self._counters:
            self._counters[key] = metrics.ATTEMPTS.labels(*key)
        self._counters[key].inc()
        self._desk.forget(ended.held)
