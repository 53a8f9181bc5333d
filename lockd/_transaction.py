"""Transactions whose end reaches the server even when the scope around them is cancelled.

Trio's cancellation is level-triggered: inside a cancelled scope every wait fails at once, also the one for a
ROLLBACK, and the work would stay in an open transaction. So a transaction is left under a shield with a limit,
and when the limit passes the connection is closed, which rolls back as well.
"""

# pyright: reportPrivateUsage=false
# psycopg.AsyncTransaction is extended through its half private generators; see `lockd._connection`.

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import trio
from psycopg import AsyncTransaction, OperationalError, pq
from psycopg.errors import InFailedSqlTransaction

from lockd._drive import drive

if TYPE_CHECKING:
    from lockd._connection import TrioConnection

LEAVE_SECONDS = 5.0
"""How long the end of a transaction may take once the scope around it is cancelled."""


class TrioTransaction(AsyncTransaction):
    """A transaction block, or a savepoint inside of one.

    A scope that was cancelled before the block's end rolls back. Once COMMIT is on its way it is waited for,
    `LEAVE_SECONDS` at most after a cancellation: if the answer comes the block ends normally and the
    cancellation is delivered at the next checkpoint, so that ``Cancelled`` means "not committed"; if it does
    not come the connection is closed and the outcome is unknown.

    Raises:
        InFailedSqlTransaction: the block swallowed an error of the server, so nothing could be committed.
        OperationalError: the connection was lost before the end (nothing is committed) or while COMMIT was on
            its way (the outcome is unknown).
    """

    @property
    def _trio_connection(self) -> TrioConnection[Any]:
        return cast("TrioConnection[Any]", self._conn)

    async def __aenter__(self) -> Self:
        connection = self._trio_connection
        try:
            async with connection.lock:
                self._check_enter()
                await connection.wait(self._enter_gen())
        except BaseException as error:
            if self.status is self.Status.ACTIVE:
                await self._abort(error)
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> bool:
        if exc_val is not None or self.force_rollback:
            return await self._abort(exc_val)
        lock = self._trio_connection.lock
        try:
            await lock.acquire()
        except BaseException as error:  # cancelled before COMMIT was sent
            await self._abort(error)
            raise
        try:
            failure = self._why_not_to_commit()
            if failure is None:
                return await self._commit()
        finally:
            lock.release()
        await self._abort(failure)
        raise failure

    def _why_not_to_commit(self) -> Exception | None:
        if self.pgconn.status != pq.ConnStatus.OK:
            return OperationalError("the connection was lost inside the transaction")
        # The server answers COMMIT with a silent ROLLBACK here.
        if self.pgconn.transaction_status == pq.TransactionStatus.INERROR:
            return InFailedSqlTransaction(
                "the transaction was aborted by an earlier error and is rolled back"
            )
        return None

    async def _commit(self) -> bool:
        gen = self._exit_gen(None, None, None)
        fd = self.pgconn.socket
        try:
            return await drive(gen, fd)
        except trio.Cancelled:
            # The server will most likely commit. To say so is not to swallow the cancellation: it stays due.
            with trio.move_on_after(LEAVE_SECONDS, shield=True):
                return await drive(gen, fd)
            self._trio_connection.abandon("COMMIT was not answered")
            raise

    async def _abort(self, error: BaseException | None) -> bool:
        """Roll back, whatever the scope around says; close the connection when that does not work out."""
        connection = self._trio_connection
        with trio.move_on_after(LEAVE_SECONDS, shield=True) as scope:
            async with connection.lock:
                if self.pgconn.status == pq.ConnStatus.OK:
                    is_handled = await drive(
                        self._exit_gen(error and type(error), error, None), self.pgconn.socket
                    )
                    if self._is_over():
                        return is_handled
        if not connection.closed:
            late = " in time" if scope.cancelled_caught else ""
            connection.abandon(f"ROLLBACK was not answered{late}")
        self.status = self.Status.FAILED
        return False

    def _is_over(self) -> bool:
        if self.pgconn.pipeline_status != pq.PipelineStatus.OFF:
            return True  # the pipeline's own end tells
        status = self.pgconn.transaction_status
        if self._outer_transaction:
            return status == pq.TransactionStatus.IDLE
        # A savepoint that was cancelled before it was made cannot be rolled back to. That fails the transaction
        # around it, which finds out at its own end.
        return status not in (pq.TransactionStatus.ACTIVE, pq.TransactionStatus.UNKNOWN)
