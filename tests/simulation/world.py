"""One run: machines, servers and network of a plan, its faults, and the quiet after them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any
from uuid import UUID

import trio

from .database import Database
from .history import Event, History, What
from .inject import inject
from .lease_server import LeaseServer
from .network import Network
from .node import Node
from .occupation import NAME
from .plan import Fault, Plan
from .process import Process
from .rows import Rows
from .stores import LEAVE_SECONDS
from .times import Agenda, ServerClock

POLL_SECONDS = 5.5
"""How long a waiter may sleep between two looks, lockd's jitter included."""
FENCE_SECONDS = 10.0
"""How long a request for the fence may be waited for when its answer was lost."""
WORK_SECONDS = 5.0
"""How long it may take to do what was left undone, besides one more TTL for whoever found his lease lost."""
STOP_SECONDS = 30.0
"""How long processes have for their end once they were told to stop."""


class World:
    """All there is in one run."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.agenda = Agenda()
        self.history = History()
        self.hits: Counter[Fault] = Counter()
        self.moves: set[tuple[str, str]] = set()
        self.acquisitions = 0
        self.crashes: list[BaseException] = []
        self.on_takeover: list[Callable[[], None]] = []
        """What is to be done after the next move of the fence."""
        self.is_quiet = False
        self.is_ending = False
        self.served_seconds = 0.0
        self.back_seconds = 0.0
        """By how much the clock of the lease server was set back in all."""
        self.network = Network(self)
        self.lease_server = LeaseServer(self, ServerClock(self.agenda, 5e5, plan.lease_rate))
        self.database = Database(self, ServerClock(self.agenda, 7e5, plan.database_rate))
        self.rows = Rows(self.database)
        self.nodes = [Node(self, number, each) for number, each in enumerate(plan.nodes, 1)]
        self.nursery: trio.Nursery
        self._labels: dict[UUID, str] = {}
        self._due_at_quiet = 0
        self._served = trio.Event()
        self._random = Random(f"{plan.seed} world")

    async def run(self) -> None:
        """Let it all happen."""
        plan = self.plan
        self.record(
            What.BEGIN,
            "world",
            store=plan.store,
            ttl=plan.ttl,
            drift=plan.drift,
            outside=tuple(node.name for node in self.nodes if node.plan.is_outside),
        )
        self.hits[Fault.RATE_OUTSIDE] += sum(node.plan.is_outside for node in self.nodes)
        async with trio.open_nursery() as self.nursery:
            self.agenda.on_failure = self.nursery.cancel_scope.cancel
            for node in self.nodes:
                self.agenda.after(node.random.random(), self.start, node)
            for act in plan.acts:
                self.agenda.at(act.at, inject, self, act)
            await self.sleep(plan.quiet_at)
            await self._be_served()
            await self._stop()
            self.nursery.cancel_scope.cancel()
        if self.agenda.failure is not None:
            raise self.agenda.failure

    async def _be_served(self) -> None:
        """End all faults; then somebody must lead before long, and do what there was to do."""
        plan = self.plan
        self.is_quiet = True
        self._due_at_quiet = int(self.agenda.now / plan.slot_seconds)
        for node in self.nodes:
            if node.process is not None:
                node.process.disarm()
            else:
                self.start(node)
        bound = plan.ttl * (1 + plan.drift) + 1.0 + POLL_SECONDS + self.back_seconds
        lost = set(self.network.open_requests.values())
        bound += FENCE_SECONDS if "fence" in lost else LEAVE_SECONDS if "commit" in lost else 0
        work = plan.ttl + plan.slot_seconds + WORK_SECONDS
        self.record(What.QUIET, "world", bound=bound, work=work)
        with trio.move_on_after(bound + work + 0.1):
            await self._served.wait()

    async def _stop(self) -> None:
        """Tell all processes to stop, and look for what they leave behind."""
        self.is_ending = True
        for node in self.nodes:
            if node.process is not None:
                node.process.outer.cancel()
        with trio.move_on_after(STOP_SECONDS):
            while any(node.process is not None for node in self.nodes):
                await self.sleep(0.05)
        await self.sleep(self.plan.ttl * 1.1 + 6.0)
        left = [f"process {node.name}" for node in self.nodes if node.process is not None]
        left += [f"session {session.holder}" for session in self.database.sessions]
        if self.lease_server.look(NAME) is not None or self.rows.look(NAME)[0] is not None:
            left.append("lease")
        database = self.database
        self.record(
            What.LEDGER,
            database.name,
            next_slot=database.counters["next_slot"],
            outcomes=dict(database.outcomes),
            tasks=dict(database.tasks),
        )
        self.record(What.END, "world", left=tuple(left))
        for node in self.nodes:
            if node.process is not None:
                node.process.kill()

    async def sleep(self, seconds: float) -> None:
        """Sleep by true time."""
        await trio.sleep(seconds)

    def start(self, node: Node) -> None:
        """Start a process on *node*, unless there is one or the run is over."""
        if node.process is None and not self.is_ending:
            node.processes += 1
            node.process = Process(node, node.processes)
            self.nursery.start_soon(node.process.run)

    def crash(self, error: BaseException) -> None:
        """Note an error that must not be."""
        self.crashes.append(error)

    def record(
        self, what: What, process: str, holder: str = "", lease: int = 0, **facts: Any
    ) -> None:
        """Add to the history."""
        self.history.append(Event(self.agenda.now, what, process, holder, lease, facts))

    def hit(self, fault: Fault, holder: str = "", *, is_new: bool = True) -> None:
        """Note that a fault has hit; *is_new*: it is one more of its kind."""
        self.hits[fault] += is_new
        self.record(What.FAULT, "world", holder, kind=fault.value)

    def breach(self, why: str, *, back: float = 0.0) -> None:
        """Note that the lease server may have broken its promise to the holders of the moment."""
        self.back_seconds += back
        self.record(What.BREACH, "world", why=why)

    def note_effect(self) -> None:
        """Find out whether all is done that was due when the faults ended."""
        if not self.is_quiet or self._served.is_set():
            return
        if self.database.counters["next_slot"] > self._due_at_quiet:
            self.record(What.SERVED, "world")
            self.served_seconds = self.agenda.now - self.plan.quiet_at
            self._served.set()

    def note_takeover(self) -> None:
        """Bring about what waits for a move of the fence."""
        actions, self.on_takeover = self.on_takeover, []
        for action in actions:
            self.agenda.after(0.3 * self._random.random() ** 2, action)

    def new_holder(self, process: Process) -> UUID:
        """Make a holder id, and a label for people."""
        holder = UUID(int=process.random.getrandbits(128))
        self.label(holder)
        return holder

    def label(self, holder: UUID) -> str:
        """Return the label of a holder id."""
        label = self._labels.get(holder)
        if label is None:
            label = self._labels[holder] = f"h{len(self._labels) + 1}"
        return label
