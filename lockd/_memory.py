"""A store in this process's memory: the reference for the others, and for programs that try lockd out.

It is written as two servers would be, a lease that may be forgotten and a fence that may not, so that `hold`
goes through the same steps as with Redis and PostgreSQL. Leases end by Trio's clock.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import trio

from lockd._errors import FenceRefused
from lockd._store import Busy, FenceRow, Granted, Inspection, Notices, Renewal


@dataclass
class _Entry:
    holder: UUID
    expires_at: float


@dataclass
class _Row:
    holder: UUID | None = None
    token: int = 0
    readers: int = 0
    """Fenced transactions under way; the fence moves when there are none."""
    freed: trio.Event = field(default_factory=trio.Event)


class MemoryStore:
    """Satisfies `lockd.LeaseStore`; one per process. Never raises `StoreUnreachable`."""

    def __init__(self, *, now: Callable[[], float] = trio.current_time) -> None:
        self._now = now
        self._entries: dict[str, _Entry] = {}
        self._rows: dict[str, _Row] = {}
        self._waiters: dict[str, set[trio.Event]] = {}
        self.attempts = 0
        """How often somebody tried to acquire."""

    async def seen(self, name: str) -> FenceRow:
        """Read the fence."""
        await trio.lowlevel.checkpoint()
        row = self._row(name)
        return FenceRow(row.holder, row.token)

    async def acquire(self, name: str, holder: UUID, ttl: float, seen: int) -> Granted | Busy:
        """Take the lease if nobody has it; the fence is another step."""
        await trio.lowlevel.checkpoint()
        self.attempts += 1
        entry = self._entry(name)
        if entry is not None:
            return Busy(entry.holder, entry.expires_at - self._now())
        self._entries[name] = _Entry(holder, self._now() + ttl)
        return Granted(None)

    async def fence(self, name: str, holder: UUID, seen: int) -> int | None:
        """Move the fence when no fenced transaction is under way."""
        await trio.lowlevel.checkpoint()
        row = self._row(name)
        while row.readers:
            await row.freed.wait()
        if row.token != seen:
            return None
        row.holder, row.token = holder, row.token + 1
        return row.token

    async def renew(self, name: str, holder: UUID, ttl: float) -> Renewal:
        """Extend the lease of *holder*."""
        await trio.lowlevel.checkpoint()
        entry = self._entry(name)
        if entry is None:
            return Renewal.GONE
        if entry.holder != holder:
            return Renewal.TAKEN
        entry.expires_at = self._now() + ttl
        return Renewal.RENEWED

    async def release(self, name: str, holder: UUID) -> bool:
        """Free the lease of *holder*."""
        await trio.lowlevel.checkpoint()
        entry = self._entry(name)
        if entry is None or entry.holder != holder:
            return False
        self._free(name)
        return True

    async def inspect(self, name: str) -> Inspection:
        """Say who holds the lease."""
        await trio.lowlevel.checkpoint()
        entry, row = self._entry(name), self._row(name)
        if entry is None:
            return Inspection(name, None, None, row.token)
        return Inspection(name, entry.holder, entry.expires_at - self._now(), row.token)

    async def evict(self, name: str) -> bool:
        """Free the lease and move the fence."""
        await trio.lowlevel.checkpoint()
        row = self._row(name)
        while row.readers:
            await row.freed.wait()
        row.holder, row.token = None, row.token + 1
        was_held = self._entry(name) is not None
        self._free(name)
        return was_held

    @asynccontextmanager
    async def notices(self, name: str) -> AsyncGenerator[Notices]:
        """Listen for releases within the block."""
        await trio.lowlevel.checkpoint()
        waiters = self._waiters.setdefault(name, set())
        notices = _MemoryNotices(waiters)
        try:
            yield notices
        finally:
            waiters.discard(notices.event)

    @asynccontextmanager
    async def fenced(
        self, connection: object, name: str, holder: UUID, token: int
    ) -> AsyncGenerator[object]:
        """Keep the fence from moving within the block; gives *connection* back, whatever it is."""
        await trio.lowlevel.checkpoint()
        row = self._row(name)
        if (row.holder, row.token) != (holder, token):
            raise FenceRefused
        row.readers += 1
        try:
            yield connection
        finally:
            row.readers -= 1
            if not row.readers:
                row.freed.set()
                row.freed = trio.Event()

    def forget(self) -> None:
        """Lose all leases, as a server without persistence does when it restarts; the fence stays."""
        self._entries.clear()

    def _entry(self, name: str) -> _Entry | None:
        entry = self._entries.get(name)
        if entry is not None and entry.expires_at <= self._now():
            del self._entries[name]
            return None
        return entry

    def _row(self, name: str) -> _Row:
        return self._rows.setdefault(name, _Row())

    def _free(self, name: str) -> None:
        self._entries.pop(name, None)
        for event in self._waiters.get(name, ()):
            event.set()


class _MemoryNotices:
    def __init__(self, waiters: set[trio.Event]) -> None:
        self._waiters = waiters
        self.event = trio.Event()
        waiters.add(self.event)

    async def wait(self) -> None:
        await self.event.wait()
        self._waiters.discard(self.event)
        self.event = trio.Event()
        self._waiters.add(self.event)
