"""Open transactions, and how what a task does joins the one that is open around it.

Inside of a joined transaction every further transaction of the same task is a savepoint of it, on the same
connection: either all of it is committed, once, or nothing. Savepoints nest, so those who come in at one level
do so one after the other, also when tasks of one nursery do it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import trio
from psycopg import pq

from lockd.postgres import TrioConnection
from sercha.adapters.postgres.errors import translate_errors
from sercha.errors import Transient

if TYPE_CHECKING:
    from sercha.services.ports import Transaction

Connection = TrioConnection[tuple[Any, ...]]


class PostgresTransaction:
    """An open transaction of the truth, on one connection."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._is_left = False
        self._after_commit: list[Callable[[], None]] = []

    @property
    def is_open(self) -> bool:
        """Whether statements still take part in it."""
        status = self.connection.pgconn.transaction_status
        return not self._is_left and status in (
            pq.TransactionStatus.INTRANS,
            pq.TransactionStatus.ACTIVE,
        )

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run *call* once the transaction is known to have committed."""
        self._after_commit.append(call)

    def leave(self) -> None:
        """Mark the end; called once by whoever opened it."""
        self._is_left = True

    def announce_commit(self) -> None:
        """Run what was to be run after the commit; called once by whoever opened it."""
        for call in self._after_commit:
            call()

    def hand_up(self, outer: PostgresTransaction) -> None:
        """Leave to *outer* what is to be run after the commit; called once, when a savepoint was kept."""
        self._after_commit, calls = [], self._after_commit
        outer._after_commit += calls


def connection_of(tx: Transaction) -> Connection:
    """Return the connection of an open transaction of this adapter."""
    assert isinstance(tx, PostgresTransaction), "a transaction of another database"
    assert tx.is_open, "the transaction has ended"
    return tx.connection


class Level:
    """One level of a joined transaction: itself, or a savepoint."""

    def __init__(self, owner: object, transaction: PostgresTransaction) -> None:
        self.owner = owner
        """The pool whose transactions take part."""
        self.transaction = transaction
        self.is_over = False
        self.turn = trio.Lock()


# Copied into tasks that are started inside; those that outlive the block see that it is over.
_level: ContextVar[Level | None] = ContextVar("sercha.joined_transaction", default=None)


def joined_level(owner: object) -> Level | None:
    """Return the innermost open level of *owner*'s joined transaction around this task, if there is one."""
    level = _level.get()
    return level if level is not None and level.owner is owner and not level.is_over else None


@contextmanager
def joining(owner: object, transaction: PostgresTransaction) -> Generator[None]:
    """Let what this task does with *owner* join *transaction*, which the caller opens and ends."""
    level = Level(owner, transaction)
    token = _level.set(level)
    try:
        yield
    finally:
        level.is_over = True
        _level.reset(token)


@asynccontextmanager
async def savepoint(level: Level) -> AsyncGenerator[PostgresTransaction]:
    """Open a savepoint: kept on a normal end, undone on any error and on cancellation.

    What is to run after the commit runs after that of the whole, if it comes to that.

    Raises:
        Unavailable: the connection was lost; nothing will be committed.
        Transient: the transaction around it ended meanwhile, which only a task of somebody else can meet.
    """
    outer = level.transaction
    async with level.turn:
        if level.is_over:
            raise Transient("the transaction around this has ended", retry_after=1.0)
        inner = PostgresTransaction(outer.connection)
        with translate_errors():
            async with outer.connection.transaction():
                try:
                    with joining(level.owner, inner):
                        yield inner
                finally:
                    inner.leave()
        inner.hand_up(outer)
