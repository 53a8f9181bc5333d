"""What statements do in the modelled database: fences, lease rows, and fenced work on the ledger of slots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from outcome import Error, Value

from lockd import Busy, FenceRefused, FenceRow, Granted, Renewal, StoreUnreachable

from .database import NEVER, ConnectionLost, Database, Fence, Session, Statement
from .history import What
from .network import Reply
from .plan import Fault

TAKEOVER_SECONDS = 8.0
"""How long a takeover waits for fenced transactions."""
LOCK_SECONDS = 2.0
"""How long a statement of a fenced transaction waits for a lock."""

_LOCK_NOT_AVAILABLE = Error(StoreUnreachable("canceling statement due to lock timeout"))


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be done now, and when to look again."""

    slots: tuple[int, ...]
    seconds: float


class Rows:
    """All statements. Those that may wait for a lock take the `Reply`; the others return."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._world = database.world
        self._row_locks: dict[str, Statement] = {}
        """Who waits for a fence while it has the lease's row locked."""

    # The fence.

    def seen(self, name: str) -> FenceRow:
        """SELECT."""
        fence = self._db.fence_of(name)
        return FenceRow(fence.holder, fence.token)

    def fence(self, name: str, holder: UUID, seen: int, reply: Reply) -> None:
        """UPDATE ... WHERE token = seen, waiting for fenced transactions."""

        def attempt(_: Statement) -> bool:
            if self._db.sharers(name):
                return False
            if self._db.fence_of(name).token != seen:
                reply(Value(None))
            else:
                reply(Value(self._db.move_fence(name, holder, "fence")))
            return True

        label = self._world.label(holder)
        self._run(attempt, lambda: reply(Value(None)), TAKEOVER_SECONDS, label)

    def evict_fence(self, name: str, reply: Reply) -> None:
        """Name nobody."""

        def attempt(_: Statement) -> bool:
            if self._db.sharers(name):
                return False
            self._db.move_fence(name, None, "evict")
            reply(Value(None))
            return True

        self._run(attempt, lambda: reply(_LOCK_NOT_AVAILABLE), TAKEOVER_SECONDS, "")

    def evict_row(self, name: str) -> bool:
        """Free the lease if the fence names nobody."""
        is_free = self._expiry(name) < self._db.clock.now()
        if is_free or self._db.fence_of(name).holder is not None:
            return False
        self._db.commit([(self._db.expiries, name, NEVER)])
        self._removed(name, None, "evict", None)
        return True

    # The lease's row.

    def acquire(self, name: str, holder: UUID, ttl: float, seen: int, reply: Reply) -> None:
        """Take the row if it has expired, and the fence, in one transaction: the row's lock, then the fence's."""

        def attempt(statement: Statement) -> bool:
            now, fence = self._db.statement_time(statement), self._db.fence_of(name)
            if self._expiry(name) > now:
                self._busy(name, reply)
            elif not self._has_row(name, statement):
                return False
            elif fence.token != seen:
                self._busy(name, reply)
            elif self._db.sharers(name):
                self._row_locks[name] = statement
                return False
            else:
                write = (self._db.expiries, name, now + ttl)
                token = self._db.move_fence(name, holder, "acquire", (write,))
                self._entered(holder, holder, now + ttl, "acquire", ttl)
                reply(Value(Granted(token)))
            return True

        label, limit = self._world.label(holder), min(2.0, ttl / 30)
        self._run(attempt, lambda: self._busy(name, reply), limit, label)

    def renew(self, name: str, holder: UUID, ttl: float) -> Renewal:
        """Extend the row if it has not expired and the fence is his, on this timeline."""
        now, fence = self._db.clock.now(), self._db.fence_of(name)
        is_his = fence.holder is not None and self._may_renew(fence.holder, holder)
        if self._expiry(name) > now and is_his and fence.timeline == self._db.timeline:
            assert fence.holder is not None
            self._db.commit([(self._db.expiries, name, now + ttl)])
            self._entered(fence.holder, holder, now + ttl, "renew", ttl)
            return Renewal.RENEWED
        return Renewal.GONE if fence.holder in (None, holder) else Renewal.TAKEN

    def release(self, name: str, holder: UUID) -> bool:
        """Free the row if it has not expired and the fence is his, and NOTIFY."""
        was = self._db.fence_of(name).holder
        is_live = self._expiry(name) > self._db.clock.now()
        if was is None or not is_live or not self._may_release(was, holder):
            return False
        self._db.commit([(self._db.expiries, name, NEVER)])
        self._removed(name, was, "release", holder)
        return True

    def look(self, name: str) -> tuple[UUID | None, float, int]:
        """SELECT holder, seconds left and token."""
        fence = self._db.fence_of(name)
        left = self._expiry(name) - self._db.clock.now()
        return (fence.holder if left > 0 else None), left, fence.token

    # Fenced work.

    def connect(self, session: Session) -> None:
        """Open a session."""
        if session.is_over:
            raise ConnectionLost("terminated")
        session.is_open = True
        self._db.sessions.append(session)

    def begin(self, session: Session, name: str, holder: UUID, token: int, reply: Reply) -> None:
        """BEGIN; SELECT ... WHERE holder AND token AND timeline FOR SHARE."""
        if not session.is_open:
            reply(Error(ConnectionLost("terminated")))
        elif not self._is_allowed(self._db.fence_of(name), holder, token):
            reply(Error(FenceRefused()))
        else:
            session.name, session.holder, session.token = name, holder, token
            self._db.note_idle(session)
            reply(Value(None))

    def insert(self, session: Session, slots: tuple[int, ...], reply: Reply) -> None:
        """INSERT slots ... ON CONFLICT DO NOTHING, a task for each new one, and the next slot."""

        def attempt(_: Statement) -> bool:
            if any(each.writes and each is not session for each in self._db.sessions):
                return False  # it has the row of the next slot locked
            new = [slot for slot in slots if slot not in self._db.outcomes]
            session.slots += new
            session.writes += [(self._db.outcomes, slot, session.token) for slot in new]
            for slot in new:
                session.writes.append((self._db.tasks, slot, self._db.tasks.get(slot, 0) + 1))
            following = max(self._db.counters["next_slot"], slots[-1] + 1)
            session.writes.append((self._db.counters, "next_slot", following))
            self._db.note_idle(session)
            reply(Value(len(new)))
            return True

        if not session.is_open or session.name is None:
            reply(Error(ConnectionLost("terminated")))
            return
        session.statements += 1  # not idle while it waits
        self._run(attempt, lambda: reply(_LOCK_NOT_AVAILABLE), LOCK_SECONDS, "", session)

    def commit(self, session: Session, reply: Reply) -> None:
        """COMMIT; the server may be killed in it."""
        if not session.is_open or session.name is None:
            reply(Error(ConnectionLost("terminated")))
            return
        crash = self._db.crash_in_commit
        if crash is None or crash < 0.5:
            self._effect(session)
        if crash is not None:
            self._db.crash_in_commit = None
            self._world.hit(Fault.COMMIT_UNKNOWN)
            self._db.crash(0.05 + crash)
            reply(Error(ConnectionLost("server closed the connection unexpectedly")))
            return
        self._db.end(session)
        session.statements += 1
        reply(Value(None))

    def roll_back(self, session: Session) -> None:
        """ROLLBACK."""
        if not session.is_open:
            raise ConnectionLost("terminated")
        self._db.end(session)
        session.statements += 1

    def read(self, session: Session, most: int) -> Due:
        """Say which slots are due by the ledger, at most so many; no lock."""
        if not session.is_open:
            raise ConnectionLost("terminated")
        following = self._db.counters["next_slot"]
        seconds = self._world.plan.slot_seconds
        due = int(self._world.agenda.now / seconds)
        last = min(due, following + most - 1)
        return Due(
            tuple(range(following, last + 1)),
            max(0.0, (following * seconds) - self._world.agenda.now),
        )

    def _effect(self, session: Session) -> None:
        assert session.holder is not None
        lsn = self._db.commit(session.writes)
        self._world.record(
            What.EFFECT,
            self._db.name,
            self._world.label(session.holder),
            token=session.token,
            slots=tuple(session.slots),
            lsn=lsn,
        )
        self._world.note_effect()

    def _is_allowed(self, fence: Fence, holder: UUID, token: int) -> bool:
        return (fence.holder, fence.token, fence.timeline) == (holder, token, self._db.timeline)

    def _may_renew(self, was: UUID, holder: UUID) -> bool:
        return was == holder

    def _may_release(self, was: UUID, holder: UUID) -> bool:
        return was == holder

    def _busy(self, name: str, reply: Reply) -> None:
        """Answer as the server has it at this moment."""
        fence, left = self._db.fence_of(name), self._expiry(name) - self._db.clock.now()
        busy = Busy(fence.holder, left, fence.token) if left > 0 else Busy(None, 0.0, fence.token)
        reply(Value(busy))

    def _run(
        self,
        attempt: Callable[[Statement], bool],
        give_up: Callable[[], object],
        limit: float,
        holder: str,
        session: Session | None = None,
    ) -> None:
        self._db.run(Statement(attempt, give_up, limit, holder, session))

    def _has_row(self, name: str, statement: Statement) -> bool:
        """Say whether nobody else has the lease's row locked."""
        owner = self._row_locks.get(name)
        return owner is None or owner is statement or not self._db.is_waiting(owner)

    def _expiry(self, name: str) -> float:
        return self._db.expiries.get(name, NEVER)

    def _entered(self, holder: UUID, by: UUID, expires_at: float, op: str, ttl: float) -> None:
        self._world.record(
            What.ENTRY,
            self._db.name,
            self._world.label(holder),
            op=op,
            by=self._world.label(by),
            expires=self._db.clock.true_time(expires_at),
            ttl=ttl / self._db.clock.rate,
        )

    def _removed(self, name: str, was: UUID | None, op: str, by: UUID | None) -> None:
        self._world.record(
            What.REMOVED,
            self._db.name,
            self._world.label(was) if was else "",
            op=op,
            by=self._world.label(by) if by else "",
        )
        self._db.notify(name)
