"""The public door to everything of lockd that needs PostgreSQL (psycopg, the extra ``postgres``)."""

from lockd._connection import TrioConnection
from lockd._postgres_connections import create_tables
from lockd._postgres_errands import Lend
from lockd._postgres_fence import PostgresFence
from lockd._postgres_open import (
    open_postgres_fence,
    open_postgres_fence_on,
    open_postgres_store,
    open_postgres_store_on,
)
from lockd._postgres_store import PostgresStore
from lockd._transaction import TrioTransaction

__all__ = [
    "Lend",
    "PostgresFence",
    "PostgresStore",
    "TrioConnection",
    "TrioTransaction",
    "create_tables",
    "open_postgres_fence",
    "open_postgres_fence_on",
    "open_postgres_store",
    "open_postgres_store_on",
]
