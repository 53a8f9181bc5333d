"""Several statements in one message and one transaction: one round trip, a fresh snapshot for each.

The simple protocol runs them in a transaction of their own that ends with the message, so no failure leaves one
open, and a pooler in transaction mode sends them all to one server. The settings are local to it.
"""

from __future__ import annotations

from typing import Any

from psycopg import AsyncClientCursor
from psycopg.rows import tuple_row

from lockd._connection import TrioConnection

Row = tuple[Any, ...]

# READ COMMITTED whatever the database's default is: the statements rely on seeing what has been committed while
# the one before waited for a lock. What is answered must survive a crash.
_PRELUDE = """
SET TRANSACTION ISOLATION LEVEL READ COMMITTED;
SET LOCAL synchronous_commit TO on;
SET LOCAL lock_timeout TO %(lock_ms)s;
"""

TIMELINE = """(
    (SELECT system_identifier FROM pg_control_system())
    || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))"""
"""Names the history that the server writes: another one after a promotion. An error on a standby."""


async def run_script(
    connection: TrioConnection[Any], script: str, *, lock_seconds: float, **values: object
) -> list[list[Row]]:
    """Run *script* and return the rows of each of its statements that gives any, be it none.

    *connection* is in autocommit mode, in no transaction. No wait for one lock takes longer than
    *lock_seconds*. Cancelled, it may have been carried out.

    Raises:
        psycopg.Error: nothing was changed, or the connection was lost and nobody knows.
    """
    cursor = AsyncClientCursor(connection, row_factory=tuple_row)
    lock_ms = max(1, round(lock_seconds * 1000))  # 0 would be no limit
    await cursor.execute((_PRELUDE + script).encode(), {**values, "lock_ms": lock_ms})
    results: list[list[Row]] = []
    while True:
        if cursor.description is not None:
            results.append(await cursor.fetchall())
        if not cursor.nextset():
            return results
