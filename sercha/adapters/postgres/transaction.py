"""From the port's opaque transaction to the connection that carries it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sercha.adapters.postgres.pool import PostgresTransaction

if TYPE_CHECKING:
    from lockd.postgres import TrioConnection
    from sercha.services.ports import Transaction


def connection_of(tx: Transaction) -> TrioConnection:
    """Return the connection of an open transaction of this adapter."""
    assert isinstance(tx, PostgresTransaction), "a transaction of another database"
    assert tx.is_open, "the transaction has ended"
    return tx.connection
