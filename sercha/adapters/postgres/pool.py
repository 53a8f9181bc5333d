"""A bounded pool of connections to PostgreSQL: everything of a process counts inside one limit.

A permit of one first-come-first-served semaphore stands for each open connection, dedicated ones (LISTEN, a
lease, a tail of the feed) included. Connections are opened when they are needed; those given back wait, newest
on top, for the next user. Only a connection that is idle, outside of any transaction and pipeline, is kept.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import psycopg
import structlog
import trio
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockd import Lease, StoreUnreachable
from lockd.postgres import TrioConnection, TrioTransaction
from sercha.adapters.postgres.errors import RETRY_AFTER, translate_errors
from sercha.adapters.postgres.transaction import (
    Connection,
    PostgresTransaction,
    joined_level,
    joining,
    savepoint,
)
from sercha.errors import SettingsError, Unavailable

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """A moment of the pool. ``open`` is the sum of idle, dedicated and in use."""

    open: int
    idle: int
    dedicated: int
    in_use: int
    waiting: int
    """Tasks that wait for a permit."""
    waits_total: int
    """Check-outs that found no permit free."""
    opened_total: int
    closed_total: int


@dataclass(slots=True)
class _Idle:
    connection: Connection
    expires_at: float


class ConnectionPool:
    """See the module. Satisfies the port ``Database``."""

    def __init__(
        self,
        conninfo: str,
        *,
        max_open: int = 10,
        max_idle: int = 3,
        lifetime: float = 300.0,
        checkout_timeout: float = 10.0,
        application_name: str = "sercha",
        random: Random | None = None,
    ) -> None:
        if max_open < 1:
            raise SettingsError(f"DB_MAX_OPEN_CONNS must be at least 1, not {max_open}")
        self._conninfo = _complete(conninfo)
        self._application_name = application_name
        self._max_open = max_open
        self._max_idle = min(max_idle, max_open)
        self._lifetime = lifetime
        self._checkout_timeout = checkout_timeout
        self._random = random or Random()
        self._permits = trio.Semaphore(max_open, max_value=max_open)
        self._idle: list[_Idle] = []
        self._out: set[Connection] = set()
        self._dedicated: set[Connection] = set()
        self._waits_total = self._opened_total = self._closed_total = 0
        self._is_closed = False

    def statistics(self) -> PoolStatistics:
        """Count what there is now."""
        in_use, dedicated, idle = len(self._out), len(self._dedicated), len(self._idle)
        return PoolStatistics(
            open=in_use + dedicated + idle,
            idle=idle,
            dedicated=dedicated,
            in_use=in_use,
            waiting=self._permits.statistics().tasks_waiting,
            waits_total=self._waits_total,
            opened_total=self._opened_total,
            closed_total=self._closed_total,
        )

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Lend a connection in autocommit mode, in no transaction; errors of the block are translated.

        Left in another state than it was lent (also: ACTIVE after a cancellation) it is closed. Inside of
        `joined` it is the one of that transaction, and the block is a savepoint.

        Raises:
            Unavailable: no permit within ``checkout_timeout`` seconds (``pool-exhausted``), or no server.
        """
        if (level := joined_level(self)) is not None:
            async with savepoint(level) as inner:
                yield inner.connection
            return
        async with self._lend() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[PostgresTransaction]:
        """Open a transaction: commit on a normal end, roll back on any error and on cancellation.

        Inside of `joined` it is a savepoint: its error or cancellation undoes it alone, and it is committed with
        the whole.

        Raises:
            Unavailable: as for `connection`; with the code ``commit-unknown`` when the connection was lost
                while COMMIT was on its way, so that nobody can say whether it took place.
        """
        if (level := joined_level(self)) is not None:
            async with savepoint(level) as inner:
                yield inner
            return
        async with self._lend() as connection:
            async with _transaction_on(connection, connection.transaction()) as transaction:
                yield transaction
            transaction.announce_commit()

    @asynccontextmanager
    async def joined(self) -> AsyncGenerator[PostgresTransaction]:
        """Open a transaction, as `transaction`, that all of this task's further ones join until its end.

        `transaction` and `connection` need no further permit in the block; `fenced` and `dedicated` stay apart.
        Inside of another `joined` it is a savepoint.

        Raises:
            Unavailable: as for `transaction`.
        """
        if joined_level(self) is not None:
            async with self.transaction() as inner:
                yield inner
            return
        async with self._lend() as connection:
            async with _transaction_on(connection, connection.transaction()) as transaction:
                with joining(self, transaction):
                    yield transaction
            transaction.announce_commit()

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run *call* once the joined transaction around this task is known to have committed; else at once."""
        if (level := joined_level(self)) is not None:
            level.transaction.after_commit(call)
        else:
            call()

    @asynccontextmanager
    async def fenced(self, lease: Lease) -> AsyncGenerator[PostgresTransaction]:
        """Open a transaction that can commit only while the fence names *lease*; as `transaction` else.

        Keep it short: whoever takes the lease over waits for its end, and the server ends it when it stands still
        for two seconds.

        Raises:
            LeaseLost: the lease is lost; nothing was written.
        """
        async with self._lend() as connection:
            try:
                async with _transaction_on(connection, lease.fenced(connection)) as transaction:
                    yield transaction
            except StoreUnreachable as error:
                raise Unavailable(
                    error.args[0], code="database-unavailable", retry_after=RETRY_AFTER
                ) from error
            transaction.announce_commit()

    @asynccontextmanager
    async def dedicated(self, name: str) -> AsyncGenerator[Connection]:
        """Open a connection for one purpose, seen by the server as ``application:name``; closed at the end.

        It takes one of the pool's permits for as long as it lives.

        Raises:
            Unavailable: as for `connection`.
        """
        async with self._permit():
            with translate_errors():
                self._make_room()
                connection = await self._open(f"{self._application_name}:{name}")
                self._dedicated.add(connection)
                try:
                    yield connection
                finally:
                    self._dedicated.remove(connection)
                    self._close(connection)

    def close(self) -> None:
        """Close idle connections now and the others when they are given back; nothing is lent any more."""
        self._is_closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while self._idle:
            self._close(self._idle.pop().connection)

    @asynccontextmanager
    async def _lend(self) -> AsyncGenerator[Connection]:
        async with self._permit():
            with translate_errors():
                connection, expires_at = await self._take()
                self._out.add(connection)
                try:
                    yield connection
                except psycopg.errors.ReadOnlySqlTransaction:
                    # A server that was put aside and still runs: it is asked no more, but looked for anew.
                    connection.finish()
                    self._close_idle()
                    raise
                finally:
                    self._out.remove(connection)
                    self._give_back(connection, expires_at)

    @asynccontextmanager
    async def _permit(self) -> AsyncGenerator[None]:
        await self._acquire()
        try:
            yield
        finally:
            self._permits.release()

    async def _acquire(self) -> None:
        if self._is_closed:
            raise Unavailable("the pool of database connections is closed", code="pool-closed")
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self._permits.acquire_nowait()
            return
        except trio.WouldBlock:
            self._waits_total += 1
        with trio.move_on_after(self._checkout_timeout):
            await self._permits.acquire()
            return
        raise Unavailable(
            f"all {self._max_open} database connections of this process are in use",
            code="pool-exhausted",
            retry_after=1.0,
        )

    async def _take(self) -> tuple[Connection, float]:
        """Take the newest idle connection that is sound, or open one."""
        while self._idle:
            idle = self._idle.pop()
            if idle.expires_at > trio.current_time() and _is_sound(idle.connection):
                return idle.connection, idle.expires_at
            self._close(idle.connection)
        connection = await self._open(self._application_name)
        # Spread out, so that connections opened together do not end together.
        life = self._lifetime * self._random.uniform(0.9, 1.0) if self._lifetime > 0 else math.inf
        return connection, trio.current_time() + life

    def _give_back(self, connection: Connection, expires_at: float) -> None:
        self._drop_expired()
        # Somebody who waits takes it in this very moment: then it does not count as idle.
        room = self._max_idle + self._permits.statistics().tasks_waiting
        is_wanted = not self._is_closed and len(self._idle) < room
        if is_wanted and expires_at > trio.current_time() and _is_sound(connection):
            self._idle.append(_Idle(connection, expires_at))
        else:
            self._close(connection)

    def _drop_expired(self) -> None:
        now = trio.current_time()
        for idle in [each for each in self._idle if each.expires_at <= now]:
            self._idle.remove(idle)
            self._close(idle.connection)

    def _make_room(self) -> None:
        """Close an idle connection if one more would be too many."""
        if self._idle and self.statistics().open >= self._max_open:
            self._close(self._idle.pop(0).connection)

    async def _open(self, application_name: str) -> Connection:
        connection = await TrioConnection[tuple[Any, ...]].connect(
            self._conninfo, autocommit=True, application_name=application_name
        )
        self._opened_total += 1
        return connection

    def _close(self, connection: Connection) -> None:
        self._closed_total += 1
        connection.finish()


@asynccontextmanager
async def _transaction_on(
    connection: Connection, opening: AbstractAsyncContextManager[TrioTransaction]
) -> AsyncGenerator[PostgresTransaction]:
    """Enter a transaction of *connection*; tell it apart when nobody can say whether it was committed."""
    block: TrioTransaction | None = None
    transaction = PostgresTransaction(connection)
    try:
        async with opening as block:
            try:
                yield transaction
            finally:
                transaction.leave()
    except psycopg.OperationalError as error:
        if connection.closed and block and block.status is block.Status.COMMITTED:
            raise Unavailable(
                "PostgreSQL went away before it answered COMMIT: it may have taken place",
                code="commit-unknown",
                retry_after=RETRY_AFTER,
            ) from error
        raise


@asynccontextmanager
async def open_pool(
    conninfo: str,
    *,
    max_open: int = 10,
    max_idle: int = 3,
    lifetime: float = 300.0,
    checkout_timeout: float = 10.0,
    application_name: str = "sercha",
) -> AsyncGenerator[ConnectionPool]:
    """Make a pool that opens connections as they are needed, and close them all at the end.

    *max_open* counts every connection of the process, *max_idle* those kept for the next user; *lifetime* is
    the greatest age of a connection in seconds (0: no limit), *checkout_timeout* the longest wait for one.

    Raises:
        SettingsError: *conninfo* cannot be read, or *max_open* is below 1.
    """
    pool = ConnectionPool(
        conninfo,
        max_open=max_open,
        max_idle=max_idle,
        lifetime=lifetime,
        checkout_timeout=checkout_timeout,
        application_name=application_name,
    )
    try:
        yield pool
    finally:
        pool.close()


def _is_sound(connection: Connection) -> bool:
    """Whether nothing is under way and nothing came in: what an idle connection says is its end."""
    pgconn = connection.pgconn
    return (
        not connection.closed
        and pgconn.transaction_status == pq.TransactionStatus.IDLE
        and pgconn.pipeline_status == pq.PipelineStatus.OFF
        and not connection.is_readable()
    )


def _complete(conninfo: str) -> str:
    """Add what every connection of ours has; what *conninfo* says itself stays."""
    try:
        params = conninfo_to_dict(conninfo)
    except (psycopg.Error, ValueError):
        # libpq's message may quote a part of the password.
        raise SettingsError("DATABASE_URL is not a PostgreSQL connection string") from None
    params.setdefault("client_encoding", "UTF8")
    params["options"] = f"-c timezone=UTC {params.get('options') or ''}".rstrip()
    return make_conninfo("", **params)
