"""From psycopg's errors to those that callers can act on."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg

from sercha.errors import SettingsError, Transient, Unavailable

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
_LOGIN_REFUSED = frozenset({"28P01", "28000", "3D000"})
"""SQLSTATEs of a wrong password, a user that is not let in, and a database that does not exist."""
# While it connects, libpq keeps the SQLSTATE to itself and gives the server's words only. Servers that speak
# another language than English are taken for being away.
_REFUSAL = re.compile(
    r"""FATAL:\s+(?:
        (?:\S+[ ])?authentication[ ]failed
        | role[ ]"[^"]*"[ ](?:does[ ]not[ ]exist|is[ ]not[ ]permitted[ ]to[ ]log[ ]in)
        | database[ ]"[^"]*"[ ]does[ ]not[ ]exist
        | no[ ]pg_hba\.conf[ ]entry | pg_hba\.conf[ ]rejects
        | no[ ]such[ ](?:user|database)               # PgBouncer
    ) | no[ ]password[ ]supplied""",
    re.VERBOSE,
)


@contextmanager
def translate_errors() -> Generator[None]:
    """Turn errors of the server's state into `Unavailable`, lost races into `Transient`.

    Everything else passes: a broken constraint means something to the caller only, and a wrong statement is
    our own bug.

    Raises:
        Unavailable: PostgreSQL is away, starting, stopping, full or (after a failover) only for reading; with
            the code ``database-refused`` it does not let us in.
        Transient: the server gave up this attempt (deadlock, serialization, a timeout of its own).
    """
    try:
        yield
    except _TRY_AGAIN as error:
        raise Transient(f"PostgreSQL gave up an attempt: {_sentence(error)}") from error
    except psycopg.Error as error:
        if _is_refused(error):
            raise Unavailable(
                f"PostgreSQL refuses the log-in: {_sentence(error)}",
                code="database-refused",
                retry_after=RETRY_AFTER,
            ) from error
        if not _is_away(error):
            raise
        raise Unavailable(
            f"PostgreSQL is not available: {_sentence(error)}",
            code="database-unavailable",
            retry_after=RETRY_AFTER,
        ) from error


@contextmanager
def first_contact() -> Generator[None]:
    """Turn a refused log-in into an error of the setting, for the first use of a database by a process.

    Later a refusal may pass by itself (a failover to a server that is still being set up), so it is only
    `Unavailable` then.

    Raises:
        SettingsError: PostgreSQL does not let us in.
    """
    try:
        yield
    except Unavailable as error:
        if error.error_code != "database-refused":
            raise
        raise SettingsError(f"DATABASE_URL: {error.message}") from error


def _is_refused(error: psycopg.Error) -> bool:
    if error.sqlstate is not None:
        return error.sqlstate in _LOGIN_REFUSED
    return isinstance(error, psycopg.OperationalError) and bool(_REFUSAL.search(str(error)))


def _is_away(error: psycopg.Error) -> bool:
    # Some OperationalErrors are about the statement (a value too large for an index, say): not retryable.
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)  # libpq's own, about the connection
    return error.sqlstate.startswith(_AWAY)


def _sentence(error: psycopg.Error) -> str:
    """The message in one line; libpq's have several, none with a password."""
    text = " ".join(str(error).split())
    return text or type(error).__name__
