"""Machines and processes: what a stopped one awaits is withheld, and a killed one is gone at once.

All that a process awaits is a `Wait`. While the process is stopped nothing wakes it: an answer that came
meanwhile waits with it, a cancellation too. When it goes on, each task gets its answer even past its deadline,
or its cancellation, as it happens with real ones; chance decides when it has both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

import trio
from outcome import Error, Outcome, Value, capture
from trio.lowlevel import Abort

from lockd import EventKind, LeaseEvent

from .history import Event, What
from .node import ProcessClock
from .occupation import occupy
from .plan import Fault

if TYPE_CHECKING:
    from .node import Node
    from .stores import Connection

ANSWER_WINS = 0.6
"""How often a task that has both gets its answer, not its cancellation."""
_THEN = 1e-6
"""After a computation has ended, the other tasks get their turn this much later."""


class Killed(BaseException):
    """Raised where a killed process awaits something; it can do nothing any more."""


class Wait:
    """One wait of one task. `give` may be called at any time, once or more; the first outcome counts."""

    __slots__ = ("_process", "_raise_cancel", "_task", "is_stiff", "outcome")

    def __init__(self, process: Process, *, is_stiff: bool = False) -> None:
        self._process = process
        self._task: trio.lowlevel.Task | None = None
        self._raise_cancel: Callable[[], Any] | None = None
        self.outcome: Outcome[Any] | None = None
        self.is_stiff = is_stiff
        """It is no checkpoint: not to be cancelled."""

    async def park(self) -> Any:
        """Wait for the outcome."""
        assert self.outcome is None
        self._process.check_alive()
        self._process.waits[self] = None
        self._task = trio.lowlevel.current_task()
        return await trio.lowlevel.wait_task_rescheduled(self._abort)

    def give(self, outcome: Outcome[Any]) -> None:
        """Set the outcome; the task gets it when the process runs."""
        if self.outcome is None:
            self.outcome = outcome
            if self._task is not None and not self._process.is_stopped:
                self.wake(outcome)

    def settle(self, random: Random) -> None:
        """Deliver what came while the process was stopped."""
        raise_cancel = None if self.is_stiff else self._raise_cancel
        if raise_cancel is not None and (self.outcome is None or random.random() >= ANSWER_WINS):
            self.wake(capture(raise_cancel))
        elif self.outcome is not None:
            self.wake(self.outcome)

    def wake(self, outcome: Outcome[Any]) -> None:
        """Deliver *outcome* now."""
        task, self._task = self._task, None
        if task is not None:
            del self._process.waits[self]
            trio.lowlevel.reschedule(task, outcome)

    def _abort(self, raise_cancel: Callable[[], Any]) -> Abort:
        if self._process.is_stopped or self.is_stiff:
            self._raise_cancel = raise_cancel
            return Abort.FAILED
        self._task = None
        del self._process.waits[self]
        return Abort.SUCCEEDED


class Process:
    """One process: its tasks live in `nursery`, its gates are `Wait`s."""

    def __init__(self, node: Node, number: int) -> None:
        self.node = node
        self.world = node.world
        self.random = node.random
        self.name = f"{node.name}.{number}"
        self.clock = ProcessClock(self)
        self.waits: dict[Wait, None] = {}
        self.connections: dict[Connection, None] = {}
        self.is_alive = True
        self.is_stopped = False
        self.frozen_until = 0.0
        self.leases = 0
        """How many leases it was granted."""
        self.is_pending = False
        """It has been granted a lease, and not yet the fence."""
        self.compute_seconds = 0.0
        """The body is to compute for as long, when it can."""
        self.outer = trio.CancelScope()
        """Around `hold` or `lead`: the world outside."""
        self._scope = trio.CancelScope()
        self._task: trio.lowlevel.Task | None = None
        self._stopped_until = 0.0
        self._computing: Wait | None = None
        self._held: list[Wait] = []
        self._traps: list[tuple[str, Callable[[Process], None]]] = []

    async def run(self) -> None:
        """Run until killed, or told to stop."""
        self._task = trio.lowlevel.current_task()
        self.record(What.STARTED, rate=self.node.plan.rate)
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    await occupy(self)
                    nursery.cancel_scope.cancel()
        except BaseException as error:
            if self.is_alive:
                self.record(What.CRASH, error=repr(error))
                self.world.crash(error)
        self.is_alive = False
        if self.node.process is self:
            self.node.process = None

    def record(self, what: What, holder: str = "", lease: int = 0, **facts: Any) -> None:
        """Add to the history, as long as it is alive."""
        if self.is_alive:
            world = self.world  # not by its `record`: half of all events are made here
            world.history.append(Event(world.agenda.now, what, self.name, holder, lease, facts))

    def new_wait(self) -> Wait:
        """Make a wait of this process."""
        self.check_alive()
        return Wait(self)

    async def sleep(self, seconds: float) -> None:
        """Sleep by its own clock."""
        await self.clock.sleep_until(self.clock.monotonic() + seconds)

    def observe(self, event: LeaseEvent) -> None:
        """Be lockd's observer."""
        if not self.is_alive:
            return
        holder = self.world.label(event.holder) if event.holder else ""
        self.record(What.NOTED, holder, kind=event.kind.value)
        if event.kind is EventKind.ACQUIRED:
            self.world.acquisitions += 1
        elif event.kind is EventKind.OVERRAN:
            self.world.hit(Fault.OVERRUN, holder)
            if self.node.plan.exits_on_overrun:
                self.kill()
                self.world.agenda.after(self.random.random(), self.world.start, self.node)

    def check_alive(self) -> None:
        """Raise in a process that was killed."""
        if not self.is_alive:
            raise Killed

    def kill(self) -> None:
        """End it at once: no clean-up of it reaches anybody."""
        if not self.is_alive:
            return
        self.record(What.KILLED)
        self.is_alive = False
        self.node.process = None
        for wait in list(self.waits):
            wait.wake(Error(Killed()))
        self._scope.cancel()
        for connection in list(self.connections):
            connection.close()

    def stop(self, why: str, seconds: float, *, is_frozen: bool = True) -> None:
        """Withhold everything for *seconds*, as SIGSTOP does, and SIGCONT."""
        now = self.world.agenda.now
        self._stopped_until = max(self._stopped_until, now + seconds)
        if is_frozen:
            self.frozen_until = self._stopped_until
        self.is_stopped = True
        self.record(What.STOPPED, why=why, seconds=seconds)
        self.world.agenda.at(self._stopped_until, self._go_on)

    def _go_on(self) -> None:
        if not self.is_alive or not self.is_stopped:
            return
        if self.world.agenda.now < self._stopped_until:
            return
        if self._computing is not None:
            computing, self._computing = self._computing, None
            computing.wake(Value(None))
            self._stopped_until += _THEN
            self.world.agenda.at(self._stopped_until, self._go_on)
            return
        self.is_stopped = False
        self.record(What.RESUMED)
        for wait in self._held:
            wait.outcome = Value(None)
        self._held.clear()
        for wait in list(self.waits):
            wait.settle(self.random)

    async def compute(self, seconds: float) -> None:
        """Block the event loop: nobody else of this process runs meanwhile, and this is no checkpoint."""
        self.check_alive()
        seconds = min(seconds, self.world.plan.quiet_at - self.world.agenda.now)
        if seconds <= 0:
            return
        self.world.hit(Fault.COMPUTE)
        self._computing = Wait(self, is_stiff=True)
        self.stop("computing", seconds, is_frozen=False)
        await self._computing.park()

    async def pass_by(self, step: str) -> None:
        """Stand between two instructions, where the process may be stopped or killed; no checkpoint."""
        for trap in self._traps:
            if step.startswith(trap[0]):
                self._traps.remove(trap)
                trap[1](self)
                break
        if self.is_stopped and self.is_alive:
            wait = Wait(self, is_stiff=True)
            self._held.append(wait)
            await wait.park()
        self.check_alive()

    def trap(self, step: str, action: Callable[[Process], None]) -> None:
        """Call *action* when a step whose name begins with *step* is passed by next."""
        self._traps.append((step, action))

    def disarm(self) -> None:
        """Forget all traps."""
        self._traps.clear()
        self.compute_seconds = 0.0

    def shift_deadlines(self, seconds: float) -> None:
        """Move all deadlines of its scopes: they are on a clock that will stand still for *seconds*."""
        scopes: dict[int, trio.CancelScope] = {}
        tasks = [self._task] if self._task else []
        while tasks:
            task = tasks.pop()
            tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
            status = task._cancel_status
            while status is not None:
                scopes[id(status._scope)] = status._scope
                status = status._parent
        for scope in scopes.values():
            if scope.deadline < math.inf:
                scope.deadline += seconds
