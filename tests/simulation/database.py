"""A model of PostgreSQL as far as fenced work needs it: commits in order, locks, limits, crashes, failover.

What a transaction wrote is applied at its commit, in one step. A share lock on the fence's row is held until
the transaction ends; who wants to move the row waits for all of them, up to the statement limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

from outcome import Error

from lockd import StoreUnreachable

from .history import What
from .network import Execute, Reply
from .plan import Fault
from .times import ServerClock

if TYPE_CHECKING:
    from .world import World

NEVER = -math.inf
"""An expiry in the past."""
IDLE_SECONDS = 2.0
"""Longest pause inside of a fenced transaction."""

Write = tuple[dict[Any, Any], Any, Any]
"""Table, key, new value."""


class ConnectionLost(Exception):
    """The session has ended; what was on its way may have been carried out."""


@dataclass(frozen=True, slots=True)
class Fence:
    """One row of lease_fence."""

    holder: UUID | None = None
    token: int = 0
    timeline: int = 0


@dataclass(eq=False, slots=True)
class Session:
    """One connection as the server sees it."""

    is_open: bool = False
    is_over: bool = False
    name: str | None = None
    """The lease whose fence this session's transaction holds."""
    holder: UUID | None = None
    token: int = 0
    writes: list[Write] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    statements: int = 0


@dataclass(eq=False, slots=True)
class Statement:
    """One that may have to wait for locks."""

    attempt: Callable[[Statement], bool]
    """Carry it out; False: a lock is missing."""
    give_up: Callable[[], object]
    """Answer when the locks were too long in coming."""
    limit: float
    holder: str
    session: Session | None = None
    started_at: float = 0.0
    """By the server's clock."""


@dataclass(frozen=True, slots=True)
class Commit:
    """For undoing it."""

    at: float
    undo: list[Write]


class Database:
    """The server. Fences, lease rows and the ledger of slots are its tables."""

    name = "postgres"

    def __init__(self, world: World, clock: ServerClock) -> None:
        self.world = world
        self.clock = clock
        self.timeline = 1
        self.fences: dict[str, Fence] = {}
        self.expiries: dict[str, float] = {}
        """lease_row."""
        self.outcomes: dict[int, int] = {}
        """Slot to the token it was written with."""
        self.tasks: dict[int, int] = {}
        """Slot to how many tasks were enqueued for it."""
        self.counters: dict[str, int] = {"next_slot": 0}
        self.sessions: list[Session] = []
        self.crash_in_commit: float | None = None
        """Crash in the next commit; below 0.5 after it was made durable."""
        self._random = Random(f"{world.plan.seed} database")
        self._listeners: dict[Callable[[], None], tuple[str, str]] = {}
        """With the leases and the machines they are for."""
        self._log: list[Commit] = []
        self._waiting: list[Statement] = []
        self._down_until = 0.0

    def arrive(self, execute: Execute, reply: Reply) -> None:
        """Carry out a request, unless the server is down."""
        if self.world.agenda.now < self._down_until:
            reply(Error(StoreUnreachable("the database system is starting up")))
        else:
            execute(reply)

    def listen(self, listener: Callable[[], None], name: str, node: str) -> bool:
        """LISTEN; False when it did already."""
        is_new = listener not in self._listeners
        self._listeners[listener] = name, node
        return is_new

    def unlisten(self, listener: Callable[[], None]) -> None:
        """UNLISTEN."""
        self._listeners.pop(listener, None)

    def notify(self, name: str) -> None:
        """NOTIFY."""
        for listener, (listened, node) in self._listeners.items():
            if listened == name:
                self.world.network.push(self, node, listener)

    def fence_of(self, name: str) -> Fence:
        """Return the row; one that is not there has token 0."""
        return self.fences.get(name, Fence())

    def sharers(self, name: str) -> list[Session]:
        """Return the sessions whose transactions keep the fence from moving."""
        return [each for each in self.sessions if each.name == name]

    def next_token(self, fence: Fence) -> int:
        """Return a larger token: one more, or the server's clock in milliseconds."""
        return max(fence.token + 1, int(self.clock.now() * 1000))

    def statement_time(self, statement: Statement) -> float:
        """Return the time that *statement* goes by: that of the moment, as clock_timestamp() is."""
        return self.clock.now()

    # Statements, locks and commits.

    def run(self, statement: Statement) -> None:
        """Carry *statement* out now, or when its locks are free, or not at all."""
        statement.started_at = self.clock.now()
        if statement.attempt(statement):
            return
        self.world.hit(Fault.LOCK_WAIT, statement.holder)
        self._waiting.append(statement)
        self.world.agenda.after(statement.limit, self._give_up, statement)

    def _give_up(self, statement: Statement) -> None:
        if statement in self._waiting:
            self._waiting.remove(statement)
            self.world.hit(Fault.STATEMENT_LIMIT, statement.holder)
            statement.give_up()
            self.retry()

    def retry(self) -> None:
        """Let those that wait try again, in any order: who came last may be first."""
        is_new = True
        while is_new and self._waiting:
            is_new = False
            for statement in self._random.sample(self._waiting, len(self._waiting)):
                if statement in self._waiting and statement.attempt(statement):
                    self._waiting.remove(statement)
                    is_new = True

    def is_waiting(self, statement: Statement) -> bool:
        """Say whether *statement* still waits for a lock."""
        return statement in self._waiting

    def commit(self, writes: list[Write]) -> int:
        """Apply *writes*; returns the commit's number."""
        undo: list[Write] = []
        for table, key, value in writes:
            undo.append((table, key, table.get(key)))
            _put(table, key, value)
        self._log.append(Commit(self.world.agenda.now, undo))
        return len(self._log) - 1

    def move_fence(
        self, name: str, holder: UUID | None, op: str, more: tuple[Write, ...] = ()
    ) -> int:
        """Put *holder* into the fence, and commit; the token."""
        token = self.next_token(self.fence_of(name))
        row = Fence(holder, token, self.timeline)
        lsn = self.commit([(self.fences, name, row), *more])
        label = self.world.label(holder) if holder else ""
        self.world.record(What.FENCE, self.name, label, op=op, token=token, lsn=lsn)
        self.world.note_takeover()
        return token

    # Sessions.

    def end(self, session: Session) -> None:
        """End the session's transaction, if any, without a commit."""
        session.name = session.holder = None
        session.writes, session.slots = [], []
        self.retry()

    def close(self, session: Session) -> None:
        """End the session."""
        session.is_over = True
        if session.is_open:
            session.is_open = False
            self.sessions.remove(session)
            self._waiting = [each for each in self._waiting if each.session is not session]
            self.end(session)

    def note_idle(self, session: Session) -> None:
        """End the session unless another statement comes in time."""
        session.statements += 1
        if session.name is not None:
            self.world.agenda.after(IDLE_SECONDS, self._end_idle, session, session.statements)

    def _end_idle(self, session: Session, statements: int) -> None:
        if session.is_open and session.statements == statements and session.name is not None:
            self.world.hit(Fault.IDLE_LIMIT)
            self.close(session)

    # Faults.

    def crash(self, seconds: float) -> None:
        """Lose all sessions and what they had not committed; be down for *seconds*."""
        self._down_until = self.world.agenda.now + seconds
        self._listeners.clear()
        self._waiting.clear()  # nobody tells those who asked
        for session in list(self.sessions):
            self.close(session)

    def fail_over(self, lag: float, seconds: float, clock_step: float) -> None:
        """Be the standby: without the commits of the last *lag* seconds, and with a clock of its own."""
        self.crash(seconds)
        first_lost = len(self._log)
        while self._log and self._log[-1].at > self.world.agenda.now - lag:
            for table, key, value in reversed(self._log.pop().undo):
                _put(table, key, value)
        if len(self._log) < first_lost:
            self.world.hit(Fault.COMMITS_LOST)
        self.timeline += 1
        self.clock.jump(clock_step)
        self.world.record(What.FAILOVER, self.name, lsn=len(self._log))


def _put(table: dict[Any, Any], key: Any, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
