"""The public door to everything of lockd that needs PostgreSQL (psycopg, the extra ``postgres``)."""

from lockd._connection import TrioConnection
from lockd._transaction import TrioTransaction

__all__ = ["TrioConnection", "TrioTransaction"]
