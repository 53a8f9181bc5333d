"""Notices of releases: one connection listens, for all who wait on the leases of a store.

A waiter starts when the server listens, and from then on it misses no release. When the connection is lost it
is opened again after growing pauses, and then every waiter is woken once, since a release may have been missed.
Notices only shorten a wait, so while they cannot be had nothing is an error: waiters poll as well.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import psycopg
import trio
from psycopg.rows import tuple_row

from lockd._connection import TrioConnection
from lockd._errors import StoreUnreachable
from lockd._postgres_errands import Lend
from lockd._postgres_errors import unreachable

CHANNEL = "lockd"
"""The channel of all releases; the payload is the name of the lease."""

ARM_SECONDS = 2.0
"""How long a waiter may wait for LISTEN before it starts without."""
LINGER_SECONDS = 60.0
"""How long the connection is kept when nobody waits any more."""
RETRY_BASE, RETRY_CAP = 0.1, 15.0
"""Seconds between attempts to listen again."""

_log = logging.getLogger("lockd")


class Ear:
    """What one waiter hears; satisfies `lockd.Notices`."""

    def __init__(self) -> None:
        self.settled = trio.Event()
        """Set when the waiter need not wait any longer for LISTEN, be it there or not."""
        self._due = trio.Event()

    def wake(self) -> None:
        """Let the present or the next `wait` return."""
        self._due.set()

    async def wait(self) -> None:
        """Return when there was a notice since the last return; cancelled, it forgets none."""
        await self._due.wait()
        self._due = trio.Event()


class Listener:
    """Listens while somebody waits, as long as `run` runs; without *lend* it hears nothing, ever."""

    def __init__(self, lend: Lend | None, random: Random) -> None:
        self._lend = lend
        self._random = random
        self._ears: dict[str, set[Ear]] = {}
        self._wanted = trio.Event()
        self._is_listening = False
        self._linger = trio.CancelScope()

    @asynccontextmanager
    async def listen(self, name: str) -> AsyncGenerator[Ear]:
        """Hear of releases of *name* within the block, from its beginning on if the server is there."""
        ear = Ear()
        self._ears.setdefault(name, set()).add(ear)
        self._linger.deadline = math.inf
        self._wanted.set()
        try:
            if self._lend is None or self._is_listening:
                await trio.lowlevel.checkpoint()
            else:
                with trio.move_on_after(ARM_SECONDS):
                    await ear.settled.wait()
            ear.settled.set()
            yield ear
        finally:
            self._ears[name].discard(ear)
            if not self._ears[name]:
                del self._ears[name]
            if not self._ears:
                self._linger.deadline = trio.current_time() + LINGER_SECONDS

    async def run(self) -> None:
        """Listen while there are ears, until cancelled; never fails."""
        if self._lend is None:
            return
        failures = 0
        while True:
            if not self._ears:
                self._wanted = trio.Event()
                await self._wanted.wait()
            try:
                async with self._lend() as connection:
                    if not await _is_direct(connection):
                        break
                    await connection.execute(f"LISTEN {CHANNEL}".encode())
                    failures = 0
                    await self._hear(connection)
            except (psycopg.Error, StoreUnreachable) as error:
                failures += 1
                _log.info("no notices: %s", _sentence(error))
                self._settle()
                longest = min(RETRY_CAP, RETRY_BASE * 2.0 ** min(failures - 1, 10))
                await trio.sleep(longest * (0.5 + 0.5 * self._random.random()))
        _log.warning("no notices through a pooler: waiters poll instead")
        self._lend = None
        self._settle()

    async def _hear(self, connection: TrioConnection[Any]) -> None:
        """Pass on what comes in, until nobody has been waiting for a while."""
        self._is_listening = True
        try:
            with trio.CancelScope() as self._linger:
                self._greet()
                while True:
                    for notice in await connection.receive_notifies():
                        for ear in self._ears.get(notice.payload, ()):
                            ear.wake()
        finally:
            self._is_listening = False

    def _greet(self) -> None:
        """Let those start who waited for LISTEN; wake those who started without, or missed a while."""
        for ear in self._all():
            if ear.settled.is_set():
                ear.wake()
            ear.settled.set()

    def _settle(self) -> None:
        for ear in self._all():
            ear.settled.set()

    def _all(self) -> list[Ear]:
        return [ear for ears in self._ears.values() for ear in ears]


async def _is_direct(connection: TrioConnection[Any]) -> bool:
    """Say whether no pooler stands in between: those give out process ids of their own.

    In transaction mode LISTEN would be accepted, and heard by whoever gets that connection next.
    """
    cursor = psycopg.AsyncCursor(connection, row_factory=tuple_row)
    await cursor.execute("SELECT pg_backend_pid()")
    return await cursor.fetchone() == (connection.info.backend_pid,)


def _sentence(error: psycopg.Error | StoreUnreachable) -> str:
    return str(error if isinstance(error, StoreUnreachable) else unreachable(error))
