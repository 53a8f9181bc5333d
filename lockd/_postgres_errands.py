"""Requests to PostgreSQL, carried out beside those who ask.

Who gives up a request gets away at once; the request is cancelled at the server, which may take seconds or be in
vain, and a connection that was just being opened is kept for the next one. So a release never waits for what was
given up before it, and an attempt with a short limit does not have to connect within it.

Requests run under a shield of their own: a lease whose world has been cancelled must still be kept and freed
by those who are shielded themselves. Leaving the block of `open_errands` ends them all.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import psycopg
import trio

from lockd._connection import TrioConnection
from lockd._postgres_errors import unreachable

T = TypeVar("T")

Lend = Callable[[], AbstractAsyncContextManager[TrioConnection[Any]]]
"""Gives a connection in autocommit mode for a block; raises psycopg's errors or `StoreUnreachable`."""

LANE_SIZE = 4
"""Requests of one kind at a time."""
REQUESTS_MAX = 16
"""Requests, and so connections, at a time in all, with those that were given up and have not ended."""


@dataclass(eq=False)
class _Errand(Generic[T]):
    work: Callable[[TrioConnection[Any]], Awaitable[T]]
    request: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Around the work on the connection; cancelled by who gave it up."""
    shelter: trio.CancelScope = field(default_factory=lambda: trio.CancelScope(shield=True))
    """Around everything; cancelled by the end of the block."""
    ended: trio.Event = field(default_factory=trio.Event)
    answers: list[T] = field(default_factory=list[T])
    """One, when there is an answer."""
    error: Exception | None = None


class Errands:
    """Made by `open_errands`."""

    def __init__(self, nursery: trio.Nursery, lend: Lend) -> None:
        self._nursery = nursery
        self._lend = lend
        self._permits = trio.Semaphore(REQUESTS_MAX)
        self._under_way: set[_Errand[Any]] = set()
        self._is_closed = False
        self.keeping = trio.Semaphore(LANE_SIZE)
        """The lane of renewals and releases, which wait for no lock that is held for long."""
        self.contending = trio.Semaphore(LANE_SIZE)
        """The lane of everything else."""

    async def run(
        self, lane: trio.Semaphore, work: Callable[[TrioConnection[Any]], Awaitable[T]]
    ) -> T:
        """Do *work* on a connection when there is room in *lane*. Cancelled, it may have been carried out.

        Raises:
            StoreUnreachable: there was an error of psycopg's; the connection is not used again.
            trio.ClosedResourceError: the block of these errands has been left.
        """
        async with lane:
            if self._is_closed:
                raise _closed()
            await self._permits.acquire()
            errand = _Errand(work)
            self._under_way.add(errand)
            self._nursery.start_soon(self._carry_out, errand)
            try:
                await errand.ended.wait()
            except BaseException:
                errand.request.cancel(reason="given up")
                raise
        if errand.error is not None:
            raise errand.error
        if not errand.answers:
            raise _closed()
        return errand.answers[0]

    def close(self) -> None:
        """End everything; no checkpoint."""
        self._is_closed = True
        for errand in self._under_way:
            errand.shelter.cancel(reason="the store is closed")

    async def _carry_out(self, errand: _Errand[Any]) -> None:
        try:
            with errand.shelter:
                async with self._lend() as connection:
                    with errand.request:
                        errand.answers.append(await _attempt(connection, errand.work))
        except psycopg.Error as error:
            errand.error = unreachable(error)
        except Exception as error:  # noqa: BLE001  raised where the request was made
            errand.error = error
        finally:
            self._under_way.discard(errand)
            self._permits.release()
            errand.ended.set()


async def _attempt(
    connection: TrioConnection[Any], work: Callable[[TrioConnection[Any]], Awaitable[T]]
) -> T:
    try:
        return await work(connection)
    except psycopg.Error as error:
        # It may be a server that has become a standby, a proxy that lost its server: connect anew.
        connection.finish()
        raise unreachable(error) from error


@asynccontextmanager
async def open_errands(lend: Lend) -> AsyncGenerator[tuple[Errands, trio.Nursery]]:
    """Run errands within the block; background tasks may be put into the nursery given, too.

    Errors of the block leave it as themselves, in no group.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            errands = Errands(nursery, lend)
            try:
                yield errands, nursery
            except BaseException as error:  # noqa: BLE001, ASYNC103  raised below, outside of the nursery
                failure = error
            errands.close()
            nursery.cancel_scope.cancel()
    finally:
        if failure is not None:
            raise failure  # also beside a cancellation that comes at the same time


def _closed() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("the block of this store has been left")
