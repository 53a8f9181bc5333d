"""Time and transactions of the truth."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time. Durations and deadlines use Trio's clock, never this one."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        ...


class Transaction(Protocol):
    """An open transaction of the truth, opaque to services: only handed from one port to another."""

    @property
    def is_open(self) -> bool: ...

    def after_commit(self, call: Callable[[], None]) -> None:
        """Run *call*, which must neither block nor raise, once the transaction is known to have committed."""
        ...


class Database(Protocol):
    """Opens transactions; commits on a normal exit, rolls back on any exception or cancellation."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]: ...

    def joined(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that everything joins which this task does with the database until its end.

        A `transaction` inside becomes a part of it that can fail alone, and calls of stores that take no
        transaction take part as well: all of it is committed at once, or nothing.
        """
        ...
