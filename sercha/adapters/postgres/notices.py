"""Wake-ups by LISTEN/NOTIFY: one connection of the process listens, for all who wait.

A notice only shortens a wait; whoever waits polls as well. So nothing here is an error for them: while the
connection is away they are simply not woken, and when it is back all of them are, since something may have
been missed. Behind a pooler in transaction mode LISTEN is accepted and has no effect: this is found out and
logged, the connection is given back and tried again once in a while.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from random import Random
from uuid import uuid4

import psycopg
import structlog
import trio
from psycopg import sql

from sercha.adapters.postgres.pool import Connection, ConnectionPool
from sercha.errors import SerchaError
from sercha.services.background import running
from sercha.services.backoff import Backoff
from sercha.services.waiting import Signal

RETRY_BASE, RETRY_CAP = 0.1, 15.0
"""Seconds between attempts to listen again."""

PROBE_SECONDS = 5.0
"""How long a notice of our own may take on its way through a pooler."""

DEAF_SECONDS = 300.0
"""How long to wait before LISTEN is tried again through a pooler that does not pass notices on."""

_log = structlog.get_logger()


class _DeafError(Exception):
    """LISTEN has no effect here."""


class PostgresNotices:
    """Satisfies the port ``Notices`` while `run` runs in somebody's nursery."""

    def __init__(
        self, pool: ConnectionPool, channels: Sequence[str], *, random: Random | None = None
    ) -> None:
        self._pool = pool
        self._members: dict[str, set[Signal]] = {name: set() for name in channels}
        self._delays = Backoff(base=RETRY_BASE, cap=RETRY_CAP, random=random)
        self._is_listening = False

    @property
    def is_listening(self) -> bool:
        """Whether notices come in at present; without them everything still works, a little later."""
        return self._is_listening

    @contextmanager
    def subscribe(self, channel: str) -> Generator[Signal]:
        """Count notices on *channel*, one of those given at the start, from now on.

        A subscription made while nothing is listening is woken as soon as somebody does.
        """
        subscription = Signal()
        members = self._members[channel]
        members.add(subscription)
        try:
            yield subscription
        finally:
            members.remove(subscription)

    async def run(self) -> None:
        """Listen until cancelled, on one dedicated connection of the pool; never fails.

        A lost connection is opened again after pauses that grow up to `RETRY_CAP` seconds.
        """
        while True:
            try:
                await self._listen()
            except _DeafError:
                _log.warning(
                    "notices.unheard", hint="a pooler in transaction mode? Polling instead"
                )
                await trio.sleep(DEAF_SECONDS)
            except (SerchaError, psycopg.Error) as error:
                pause = self._delays.next()
                log = _log.warning if self._delays.failures == 1 else _log.debug
                log("notices.lost", reason=str(error), retry_after=round(pause, 2))
                await trio.sleep(pause)

    async def _listen(self) -> None:
        async with self._pool.dedicated("notices") as connection:
            for channel in self._members:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            await self._check_hearing(connection)
            self._is_listening = True
            self._delays.reset()
            _log.info("notices.subscribed", channels=sorted(self._members))
            try:
                for members in self._members.values():
                    _wake(members)
                while True:
                    for notice in await connection.receive_notifies():
                        _wake(self._members.get(notice.channel, ()))
            finally:
                self._is_listening = False

    async def _check_hearing(self, connection: Connection) -> None:
        """Make sure that notices arrive when something stands between us and the server.

        A pooler gives its clients process ids of its own, so another id than the server's tells of one.

        Raises:
            _DeafError: a notice sent over another connection did not arrive.
        """
        row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
        if row == (connection.info.backend_pid,):
            return
        probe = f"probe_{uuid4().hex}"
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(probe)))
        async with self._pool.connection() as other:
            await other.execute("SELECT pg_notify(%s, '')", (probe,))
        with trio.move_on_after(PROBE_SECONDS):
            while all(each.channel != probe for each in await connection.receive_notifies()):
                pass
            await connection.execute(sql.SQL("UNLISTEN {}").format(sql.Identifier(probe)))
            return
        raise _DeafError


@asynccontextmanager
async def open_notices(
    pool: ConnectionPool, channels: Sequence[str], *, random: Random | None = None
) -> AsyncGenerator[PostgresNotices]:
    """Listen on *channels* in the background of the block.

    Usable at once, also while PostgreSQL is away. The block's own errors leave as they are, in no group.
    """
    notices = PostgresNotices(pool, channels, random=random)
    async with running(notices.run):
        yield notices


def _wake(members: set[Signal] | tuple[()]) -> None:
    for member in members:
        member.set()
