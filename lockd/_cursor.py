"""A server-side cursor that is closed also in a cancelled scope."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import trio
from psycopg import AsyncServerCursor
from psycopg.rows import Row

CLOSE_SECONDS = 5.0
"""How long the server may take to close a cursor."""


class TrioServerCursor(AsyncServerCursor[Row]):
    """As psycopg's; made by ``connection.cursor(name)``."""

    async def close(self) -> None:
        """Close the cursor in the server, under a shield for `CLOSE_SECONDS` at most."""
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            await super().close()
            return
        self._close()
