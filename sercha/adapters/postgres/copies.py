"""The copies of the index that follow the change feed."""

from __future__ import annotations

from sercha.adapters.postgres.transaction import connection_of
from sercha.services.ports import Transaction


class PostgresCopyStore:
    """`sercha.services.ports.copies.CopyStore`."""

    async def forget_all(self, tx: Transaction) -> int:
        """Remove all consumers when *tx* commits, and wake the followers."""
        connection = connection_of(tx)
        cursor = await connection.execute("DELETE FROM consumer")
        await connection.execute("SELECT pg_notify('sercha_change', '')")
        return cursor.rowcount
