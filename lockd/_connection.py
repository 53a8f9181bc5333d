"""A connection to PostgreSQL for Trio: psycopg's protocol, rows and types, with Trio doing the waiting.

psycopg's ``AsyncConnection`` needs asyncio in four places only: its lock, `connect`, `wait` and `cancel_safe`.
They are replaced here; cursors, COPY, pipelines, ``executemany``, server-side cursors and ``notifies`` come
from psycopg unchanged. The names used are half private, therefore the version is pinned and
``tests/contract/test_postgres_connection.py`` holds each of them.

Invariant: whatever is cancelled, and whenever, the connection is afterwards either closed or ready for the
next command, in the transaction it was in (possibly failed) or in none.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self, cast

import trio
from psycopg import (
    AsyncConnection,
    AsyncCursor,
    AsyncPipeline,
    AsyncServerCursor,
    Notify,
    errors,
    generators,
    pq,
)
from psycopg.abc import AdaptContext, ConnDict, ConnParam, PQGen
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import AsyncRowFactory, Row, tuple_row
from psycopg.waiting import Wait

from lockd import _hosts
from lockd._cleanup import cleanup_seconds
from lockd._cursor import TrioServerCursor
from lockd._drive import RV, drive, drive_connecting, ready_now
from lockd._transaction import TrioTransaction

CANCEL_SECONDS = 5.0
"""How long a cancelled query may take to end before its connection is closed; less under a short lease."""

BUSY_SECONDS = 0.005
"""How long a connection may keep the loop busy with calls that never have to wait."""

_COPYING = (pq.ExecStatus.COPY_IN, pq.ExecStatus.COPY_OUT, pq.ExecStatus.COPY_BOTH)

_TUPLES = cast("AsyncRowFactory[Any]", tuple_row)

_log = logging.getLogger("lockd")


class TrioConnection(AsyncConnection[Row]):
    """A ``psycopg.AsyncConnection`` that runs under Trio. One task at a time; `lock` makes others wait.

    Cancelling a query asks the server to stop it and waits, shielded, for up to `CANCEL_SECONDS`; what the
    query had changed is undone by the server. A connection that cannot be brought back, is in a pipeline
    (``executemany`` outside of one makes its own) or in COPY is closed instead.

    A dead peer is noticed within about 11 seconds: see `lockd._hosts.DEFAULTS` for the TCP settings that hold
    unless the connection string has its own.
    """

    def __init__(
        self,
        pgconn: pq.abc.PGconn,
        row_factory: AsyncRowFactory[Row] = _TUPLES,
    ) -> None:
        super().__init__(pgconn, row_factory)
        self.server_cursor_factory = cast("type[AsyncServerCursor[Row]]", TrioServerCursor)
        self.lock: trio.Lock = trio.Lock()  # pyright: ignore[reportIncompatibleVariableOverride]
        self._turn_at = time.monotonic()

    @classmethod
    async def connect(
        cls,
        conninfo: str = "",
        *,
        autocommit: bool = False,
        prepare_threshold: int | None = 5,
        context: AdaptContext | None = None,
        row_factory: AsyncRowFactory[Row] | None = None,
        cursor_factory: type[AsyncCursor[Row]] | None = None,
        **kwargs: ConnParam,
    ) -> Self:
        """Connect to the first of the hosts in *conninfo* that can be used.

        Each address of each host gets ``connect_timeout`` seconds (10 by default, at least 2), name look-up
        included. ``target_session_attrs`` and everything about TLS work as libpq documents them. Cancellation
        leaves nothing open.

        Raises:
            ProgrammingError: *conninfo* cannot be read.
            OperationalError: no host could be used; the message has the reason for each.
        """
        params = _hosts.with_defaults(conninfo_to_dict(conninfo, **kwargs))
        connection = await cls._connect_to_any(params)
        connection._autocommit = autocommit
        if row_factory:
            connection.row_factory = row_factory
        if cursor_factory:
            connection.cursor_factory = cursor_factory
        if context:
            connection._adapters = AdaptersMap(context.adapters)
        connection.prepare_threshold = prepare_threshold
        return connection

    @classmethod
    async def _connect_to_any(cls, params: ConnDict) -> Self:
        limit = _hosts.connect_timeout(params)
        failures: list[tuple[str, errors.Error]] = []
        for host in _hosts.plan(params):
            try:
                with trio.fail_after(limit):
                    attempts = await _hosts.resolve(host)
            except (OSError, trio.TooSlowError) as error:
                reason = str(error) or f"no answer within {limit:g} s"
                failure = errors.OperationalError(
                    f"host name {host.get('host')!r} cannot be resolved: {reason}"
                )
                failures.append((_describe(host), failure))
                continue
            for attempt in attempts:
                try:
                    return await cls._connect_to(attempt, limit)
                except errors.Error as error:
                    failures.append((_describe(attempt), error))
        raise _summary(failures)

    @classmethod
    async def _connect_to(cls, params: ConnDict, limit: float) -> Self:
        gen = cls._connect_gen(make_conninfo("", **params))
        try:
            with trio.move_on_after(limit):
                return await drive_connecting(gen)
        finally:
            gen.close()  # closes the socket of an attempt that came to no end
        raise errors.ConnectionTimeout(f"no connection within {limit:g} s")

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        try:
            await super().__aexit__(exc_type, exc_val, exc_tb)
        finally:
            self.finish()  # also in a cancelled scope, where no ROLLBACK can be sent: the server does it

    async def close(self) -> None:
        """Close at once. A task that is waiting for the server gets an ``OperationalError``."""
        self.finish()

    def abandon(self, reason: str) -> None:
        """Close because the state of the session is not known any more; whoever uses it gets an error."""
        if not self.closed:
            _log.info("connection abandoned: %s", reason)
            self._close_socket()

    def finish(self) -> None:
        """Close without a checkpoint: `close` for code that must not or cannot wait."""
        self._closed = True
        self._close_socket()

    def _close_socket(self) -> None:
        # It has no socket any more, or Trio does not run any more and nobody waits.
        with suppress(errors.OperationalError, RuntimeError):
            trio.lowlevel.notify_closing(self.pgconn.socket)
        self.pgconn.finish()

    def is_readable(self) -> bool:
        """Whether the server has sent something that nobody has read: when idle mostly a notice or the end."""
        return self.closed or ready_now(self.pgconn.socket, Wait.R) != 0

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = 0.0,
        timeout: float | None = None,  # noqa: ASYNC109  psycopg's signature
    ) -> RV:
        """Drive a psycopg generator; the caller holds `lock`. *interval* has no use under Trio.

        A checkpoint for cancellation, and for the schedule whenever the connection was busy for
        `BUSY_SECONDS`. On cancellation see the class.

        Raises:
            errors._WaitTimeout: *timeout* seconds passed; the generator is dropped as if cancelled.
        """
        try:
            await self._take_turn()
            fd = self.pgconn.socket
            if timeout is None:
                return await drive(gen, fd)
            with trio.move_on_after(timeout):
                return await drive(gen, fd, poll_first=True)
        except Exception:
            raise
        except BaseException:
            await self._recover(gen)
            raise
        await self._recover(gen)
        raise errors._WaitTimeout("wait timeout expired")

    async def _take_turn(self) -> None:
        if time.monotonic() - self._turn_at < BUSY_SECONDS:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
            self._turn_at = time.monotonic()

    async def _recover(self, gen: PQGen[Any]) -> None:
        """End what *gen* had begun, under a shield; close the connection when that does not work out."""
        is_piped = self.pgconn.pipeline_status != pq.PipelineStatus.OFF
        if self._is_active():
            with trio.move_on_after(cleanup_seconds(CANCEL_SECONDS), shield=True):
                await self._stop_query(drain=not is_piped)
        if is_piped or self._is_active():
            self.abandon("cancelled in a pipeline" if is_piped else "a cancelled query did not end")
        with suppress(
            Exception
        ):  # one of psycopg's answers GeneratorExit by talking to the closed connection
            gen.close()

    def _is_active(self) -> bool:
        return self.pgconn.transaction_status == pq.TransactionStatus.ACTIVE

    async def _stop_query(self, *, drain: bool) -> None:
        try:
            await self.cancel_safe(timeout=CANCEL_SECONDS)
            if drain:
                await drive(_drain(self.pgconn), self.pgconn.socket)
        except errors.Error as error:
            _log.warning("query not cancelled: %s", error)

    async def cancel_safe(self, *, timeout: float = 30.0) -> None:  # noqa: ASYNC109  psycopg's signature
        """Ask the server to stop the present command. Needs libpq 17 (the binary package has it).

        Raises:
            CancellationTimeout: the request was not accepted within *timeout* seconds (0: no limit).
        """
        if not self._should_cancel():
            return
        with trio.move_on_after(timeout or math.inf):
            await drive_connecting(self._cancel_gen())
            return
        raise errors.CancellationTimeout("cancellation timeout expired")

    async def _try_cancel(self, *, timeout: float = CANCEL_SECONDS) -> None:  # noqa: ASYNC109
        # psycopg calls this while it cleans up, so it must work in a cancelled scope.
        with trio.move_on_after(cleanup_seconds(timeout), shield=True):
            await self._stop_query(drain=False)

    @asynccontextmanager
    async def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> AsyncGenerator[TrioTransaction]:
        """Open a transaction, or a savepoint when one is open; see `TrioTransaction` for how it ends."""
        transaction = TrioTransaction(self, savepoint_name, force_rollback)
        if self._pipeline:
            async with self.pipeline(), transaction, self.pipeline():
                yield transaction
        else:
            async with transaction:
                yield transaction

    @asynccontextmanager
    async def pipeline(self) -> AsyncGenerator[AsyncPipeline]:
        """Switch to pipeline mode for the block. Cancelled inside: the connection is closed."""
        try:
            async with super().pipeline() as pipeline:
                try:
                    yield pipeline
                except Exception:
                    raise
                except BaseException:
                    self.abandon("cancelled in a pipeline")
                    raise
        finally:
            if self._pipeline is not None and self._pipeline.level == 0:
                self.abandon("cancelled at the end of a pipeline")

    async def receive_notifies(self) -> list[Notify]:
        """Wait for notifications (after LISTEN); at least one. Cancellation loses none and closes nothing.

        Raises:
            OperationalError: the connection is lost.
        """
        async with self.lock:
            backlog = self._notifies_backlog
            while not backlog:
                assert backlog is not None, "notifies() is running on this connection"
                await self.wait(generators.notifies(self.pgconn))
            received = list(backlog)
            backlog.clear()
            return received


def _drain(pgconn: pq.abc.PGconn) -> PQGen[None]:
    """Send what is left to be sent and drop the results; stops at COPY, which does not end by itself."""
    yield from generators.send(pgconn)
    while (result := (yield from generators.fetch(pgconn))) is not None:
        if result.status in _COPYING:
            return


def _describe(params: ConnDict) -> str:
    shown = ("host", "hostaddr", "port", "dbname")
    return ", ".join(f"{name} {params[name]}" for name in shown if name in params)


def _summary(failures: list[tuple[str, errors.Error]]) -> errors.Error:
    """One error of the last failure's kind that tells all of them."""
    last = failures[-1][1]
    if len(failures) == 1:
        return last.with_traceback(None)
    lines = [f"none of {len(failures)} addresses could be used"]
    lines += [f"{where}: {error}" for where, error in failures]
    return type(last)("\n".join(lines), pgconn=last.pgconn)
