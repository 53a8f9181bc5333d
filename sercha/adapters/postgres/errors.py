"""From psycopg's errors to those that callers can act on."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg

from sercha.errors import Transient, Unavailable

RETRY_AFTER = 2.0
"""Seconds that a client is asked to wait while PostgreSQL is away."""

_TRY_AGAIN = (
    pg.SerializationFailure,
    pg.DeadlockDetected,
    pg.LockNotAvailable,
    pg.ObjectInUse,
    pg.QueryCanceled,
    pg.IdleInTransactionSessionTimeout,
    pg.TransactionTimeout,
)
_AWAY = ("08", "53", "57", "58", "25006")
"""Beginnings of SQLSTATEs: connection, resources, operator, system, a server that only reads."""


@contextmanager
def translate_errors() -> Generator[None]:
    """Turn errors of the server's state into `Unavailable`, lost races into `Transient`.

    Everything else passes: a broken constraint means something to the caller only, and a wrong statement is
    our own bug.

    Raises:
        Unavailable: PostgreSQL is away, starting, stopping, full or (after a failover) only for reading.
        Transient: the server gave up this attempt (deadlock, serialization, a timeout of its own).
    """
    try:
        yield
    except _TRY_AGAIN as error:
        raise Transient(f"PostgreSQL gave up an attempt: {_sentence(error)}") from error
    except psycopg.Error as error:
        if not _is_away(error):
            raise
        raise Unavailable(
            f"PostgreSQL is not available: {_sentence(error)}",
            code="database-unavailable",
            retry_after=RETRY_AFTER,
        ) from error


def _is_away(error: psycopg.Error) -> bool:
    # Some OperationalErrors are about the statement (a value too large for an index, say): not retryable.
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)  # libpq's own, about the connection
    return error.sqlstate.startswith(_AWAY)


def _sentence(error: psycopg.Error) -> str:
    """The message in one line; libpq's have several, none with a password."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
