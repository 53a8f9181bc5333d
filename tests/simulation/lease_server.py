"""A model of Redis as far as leases need it: entries with a TTL by its wall clock, and how it can forget.

It serves one request after the other, each in no time. Its replica follows with a lag.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from outcome import Error

from lockd import Busy, Granted, Renewal, StoreUnreachable

from .history import What
from .network import Execute, Reply
from .plan import Fault
from .times import ServerClock

if TYPE_CHECKING:
    from .world import World


@dataclass(frozen=True, slots=True)
class Entry:
    """A lease."""

    holder: UUID
    expires_at: float
    """By the server's clock."""


class LeaseServer:
    """The server."""

    name = "redis"

    def __init__(self, world: World, clock: ServerClock) -> None:
        self._world = world
        self.clock = clock
        self._entries: dict[str, Entry] = {}
        self._changes: list[tuple[float, str, Entry | None]] = []
        """For the replica: when, name, what was there before."""
        self._listeners: dict[Callable[[], None], tuple[str, str]] = {}
        """With the leases and the machines they are for."""
        self._down_until = 0.0
        self._has_refused = True

    def arrive(self, execute: Execute, reply: Reply) -> None:
        """Carry out a request, unless the server is down."""
        if self._world.agenda.now < self._down_until:
            self._world.hit(Fault.DOWN, holder="", is_new=not self._has_refused)
            self._has_refused = True
            reply(Error(StoreUnreachable("LOADING or refused")))
        else:
            execute(reply)

    # Requests.

    def acquire(self, name: str, holder: UUID, ttl: float) -> Granted | Busy:
        """SET NX PX, and GET when that failed."""
        entry = self._entry(name)
        if entry is not None:
            return Busy(entry.holder, entry.expires_at - self.clock.now())
        self._set(name, holder, ttl, "acquire", None)
        return Granted(None)

    def renew(self, name: str, holder: UUID, ttl: float) -> Renewal:
        """Compare and PEXPIRE."""
        entry = self._entry(name)
        if entry is None:
            return Renewal.GONE
        if not self._may_renew(entry.holder, holder):
            return Renewal.TAKEN
        self._set(name, entry.holder, ttl, "renew", holder)
        return Renewal.RENEWED

    def release(self, name: str, holder: UUID) -> bool:
        """Compare, DEL and PUBLISH."""
        entry = self._entry(name)
        if entry is None or not self._may_release(entry.holder, holder):
            return False
        self._remove(name, "release", holder)
        return True

    def evict(self, name: str) -> bool:
        """DEL and PUBLISH."""
        if self._entry(name) is None:
            return False
        self._remove(name, "evict", None)
        return True

    def look(self, name: str) -> tuple[UUID, float] | None:
        """GET and PTTL."""
        entry = self._entry(name)
        return entry and (entry.holder, entry.expires_at - self.clock.now())

    def listen(self, listener: Callable[[], None], name: str, node: str) -> bool:
        """SUBSCRIBE; False when it did already."""
        is_new = listener not in self._listeners
        self._listeners[listener] = name, node
        return is_new

    def unlisten(self, listener: Callable[[], None]) -> None:
        """UNSUBSCRIBE."""
        self._listeners.pop(listener, None)

    # Faults.

    def go_down(self, seconds: float) -> None:
        """Answer errors for *seconds*."""
        self._down_until = self._world.agenda.now + seconds
        self._has_refused = False

    def restart(self, seconds: float) -> None:
        """Be down for *seconds*, and have forgotten everything."""
        self._forget(Fault.RESTART)
        self._listeners.clear()
        self._down_until = self._world.agenda.now + seconds

    def flush(self) -> None:
        """FLUSHALL."""
        self._forget(Fault.FLUSH)

    def fail_over(self, lag: float) -> None:
        """Be what the replica knew *lag* seconds ago."""
        now = self._world.agenda.now
        self._listeners.clear()
        before = dict(self._entries)
        while self._changes and self._changes[-1][0] > now - lag:
            _, name, entry = self._changes.pop()
            if entry is None:
                self._entries.pop(name, None)
            else:
                self._entries[name] = entry
        if before != self._entries:
            self._world.hit(Fault.STALE)
            self._world.breach("stale replica")

    def _forget(self, fault: Fault) -> None:
        if any(self._entry(name) for name in list(self._entries)):
            self._world.hit(fault)
        for name, entry in self._entries.items():
            self._changes.append((self._world.agenda.now, name, entry))
        self._entries.clear()
        self._world.breach(fault.value)

    def _may_renew(self, was: UUID, holder: UUID) -> bool:
        return was == holder

    def _may_release(self, was: UUID, holder: UUID) -> bool:
        return was == holder

    def _entry(self, name: str) -> Entry | None:
        entry = self._entries.get(name)
        if entry is not None and entry.expires_at <= self.clock.now():
            del self._entries[name]
            return None
        return entry

    def _set(self, name: str, holder: UUID, ttl: float, op: str, by: UUID | None) -> None:
        expires_at = self.clock.now() + ttl
        self._changes.append((self._world.agenda.now, name, self._entries.get(name)))
        self._entries[name] = Entry(holder, expires_at)
        self._world.record(
            What.ENTRY,
            self.name,
            self._world.label(holder),
            op=op,
            by=self._world.label(by or holder),
            expires=self.clock.true_time(expires_at),
            ttl=ttl / self.clock.rate,
        )

    def _remove(self, name: str, op: str, by: UUID | None) -> None:
        entry = self._entries.pop(name)
        self._changes.append((self._world.agenda.now, name, entry))
        self._world.record(
            What.REMOVED,
            self.name,
            self._world.label(entry.holder),
            op=op,
            by=self._world.label(by) if by else "",
        )
        for listener, (listened, node) in self._listeners.items():
            if listened == name:
                self._world.network.push(self, node, listener)
