"""The port of fences: the durable half of a store, for stores whose other half may forget.

A fence is a row per lease that names who acts and the newest token. Whoever holds the row's (holder, token)
may commit; moving the row waits for transactions under way and shuts out every holder before. With Redis as
the store of leases the fence lives in PostgreSQL.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from uuid import UUID

from lockd._store import FenceRow


class Fence(Protocol):
    """The four of `lockd.LeaseStore`'s methods that concern the fence; all raise `StoreUnreachable`."""

    async def seen(self, name: str) -> FenceRow:
        """Read the row; a row that is not there yet has token 0 and no holder."""
        ...

    async def fence(self, name: str, holder: UUID, seen: int) -> int | None:
        """Name *holder* if the token is still *seen*; the new, larger token, or None.

        Waits for fenced transactions under way; commits durably. Without an answer it may have taken place.
        """
        ...

    async def evict(self, name: str) -> object:
        """Move the row so that it names nobody, whoever it named before; the value does not matter."""
        ...

    def fenced(
        self, connection: Any, name: str, holder: UUID, token: int
    ) -> AbstractAsyncContextManager[Any]:
        """Open a transaction on *connection* in which the row names exactly (*holder*, *token*).

        Raises:
            FenceRefused: it names somebody else; nothing was changed.
        """
        ...
