"""What processes do: contend for the lease, and as its holder write the slots that are due, inside the fence.

Bodies differ in their manners. All of them record every step they take, and no step but after a wait.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import trio

import lockd
from lockd import Lease, LeaseLost, LeaseTaken, StoreUnreachable

from .database import ConnectionLost
from .history import What
from .stores import Connection, RowStore, SplitStore
from .watch import names_of

if TYPE_CHECKING:
    from .process import Process

NAME = "scheduler"
STATEMENT_SECONDS = 1.5
"""How long a body waits for its work on the ledger."""


class Manners(StrEnum):
    """How a body behaves."""

    PLAIN = "plain"
    SHIELDED = "shielded"
    """It shields a clean-up."""
    NESTED = "nested"
    """It works in tasks of a nursery of its own."""
    BRIEF = "brief"
    """It ends by itself."""
    FAILING = "failing"
    """It ends with an error of its own."""


class BodyError(Exception):
    """A body's own error."""


async def occupy(process: Process) -> None:
    """Contend and work, until the world says that it is over."""
    world, plan = process.world, process.world.plan
    store = SplitStore(process) if plan.store == "split" else RowStore(process)
    options = {
        "ttl": plan.ttl,
        "drift": plan.drift,
        "observe": process.observe,
        "clock": process.clock,
        "random": process.random,
    }

    async def run(lease: Lease) -> None:
        await Body(process, lease).run()

    while not world.is_ending:
        process.outer = trio.CancelScope()
        with process.outer:
            try:
                match process.random.choice(("hold", "raise", "lead", "lead")):
                    case "lead":
                        await lockd.lead(store, NAME, run, **options)
                    case on_busy:
                        on_busy = "wait" if on_busy == "hold" else "raise"
                        async with lockd.hold(store, NAME, on_busy=on_busy, **options) as lease:
                            await run(lease)
                        process.record(What.LEFT, error="")
            except (LeaseLost, LeaseTaken, StoreUnreachable, BodyError) as error:
                process.record(What.LEFT, error=type(error).__name__)
        if process.outer.cancelled_caught:
            process.record(What.LEFT, error="Cancelled")
        if not world.is_ending:
            await process.sleep(0.2 + process.random.random())


class Body:
    """One body, in the scope of one lease."""

    def __init__(self, process: Process, lease: Lease) -> None:
        self._process = process
        self._world = process.world
        self._lease = lease
        self._holder, self._number = names_of(lease)
        random = process.random
        self._manners = Manners.PLAIN
        if not self._world.is_quiet:
            self._manners = random.choice(tuple(Manners))
        self._ticks_left = random.randrange(1, 8)

    async def run(self) -> None:
        """Work until cancelled, or as the manners say."""
        self._record(What.OPENED, manners=self._manners.value)
        try:
            match self._manners:
                case Manners.SHIELDED:
                    await self._work_and_clean_up()
                case Manners.NESTED:
                    await self._work_in_tasks()
                case _:
                    await self._work()
        finally:
            self._record(What.CLOSED)

    async def _work(self) -> None:
        process = self._process
        connection: Connection | None = None
        try:
            while True:
                if connection is None or not connection.is_open:
                    connection = Connection(process)
                await self._tick(connection)
                await self._compute()
                if self._is_done():
                    return
        finally:
            if connection is not None:
                connection.close()

    async def _tick(self, connection: Connection) -> None:
        """Look at the ledger once, and write what is due."""
        process = self._process
        seconds = process.random.random() * 0.2 + 0.02
        try:
            with self._limit():
                if not connection.is_ready:
                    await connection.open()
                    self._step()
                due = await connection.read(most=3)
                self._step()
                if due.slots:
                    self._check()
                    await process.pass_by("checked")
                    async with self._lease.fenced(connection):
                        self._step()
                        await connection.insert(due.slots)
                        self._step()
                else:
                    seconds += min(due.seconds, self._world.plan.ttl / 4)
        except (ConnectionLost, StoreUnreachable):
            connection.close()  # some of it may have been carried out
        await process.sleep(seconds)
        self._step()
        self._check()

    async def _work_and_clean_up(self) -> None:
        process, margin = self._process, self._lease.terms.margin
        try:
            await self._work()
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(2):
                    seconds = margin * process.random.choice((0.1, 0.4, 1.5))
                    await process.sleep(seconds)
                    self._step(shielded=True)

    async def _work_in_tasks(self) -> None:
        """Let two tasks do the same work, and a third look at the lease."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._work)
            nursery.start_soon(self._work)
            while True:
                await self._process.sleep(self._process.random.random() * 0.5)
                self._step()
                self._check()

    async def _compute(self) -> None:
        seconds, self._process.compute_seconds = self._process.compute_seconds, 0.0
        if seconds:
            await self._process.compute(seconds)
            self._step(shielded=True)

    def _is_done(self) -> bool:
        self._ticks_left -= 1
        if self._ticks_left <= 0 and self._manners is Manners.FAILING:
            raise BodyError
        return self._ticks_left <= 0 and self._manners is Manners.BRIEF

    def _limit(self) -> trio.CancelScope:
        clock = self._process.clock
        return trio.CancelScope(deadline=clock.deadline(clock.monotonic() + STATEMENT_SECONDS))

    def _check(self) -> None:
        self._lease.check()
        self._record(What.CHECKED)

    def _step(self, *, shielded: bool = False) -> None:
        self._record(What.STEP, shielded=shielded)

    def _record(self, what: What, **facts: object) -> None:
        self._process.record(what, self._holder, self._number, **facts)
