"""The port of stores: where leases are kept, and the fence that makes tokens.

A store has two halves. The *lease* is an entry with a TTL that names its holder; it may be in a server that
forgets. The *fence* is a durable row that names the holder who acts and the newest token; every effect is
checked against it. In PostgreSQL both are rows of one database, with Redis the lease lives there and the
fence still lives in PostgreSQL.

Rules for every method: one call is one attempt (no retries inside), a call that was cancelled or raised
`StoreUnreachable` may have been carried out, and no method needs a clock of the client.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class FenceRow:
    """Who may act, as the fence has it; a fence that was never taken has token 0 and no holder."""

    holder: UUID | None
    token: int


@dataclass(frozen=True, slots=True)
class Granted:
    """The lease is the asker's."""

    token: int | None
    """The fencing token where the store gives it in the same step; None: `LeaseStore.fence` is to follow."""


@dataclass(frozen=True, slots=True)
class Busy:
    """The lease is not granted. ``holder`` may be the asker himself, after a reply that was lost."""

    holder: UUID | None
    remaining: float | None
    """Seconds by the server's clock; a hint for waiting, never for trusting."""
    token: int | None = None
    """The token that goes with ``holder``, where the store gives it in the same step."""


class Renewal(StrEnum):
    """What became of a renewal."""

    RENEWED = "renewed"
    TAKEN = "taken"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Inspection:
    """A lease as its store has it at one moment."""

    name: str
    holder: UUID | None
    """None: nobody holds it."""
    remaining: float | None
    """Seconds until it expires unless renewed, by the server's clock."""
    token: int
    """The newest fencing token; 0: it was never held."""


class Notices(Protocol):
    """Tells waiters that a lease may be free. A notice may be missed, so waiters poll as well."""

    async def wait(self) -> None:
        """Return when there was a notice since the start or the last return; may wait for ever."""
        ...


class LeaseStore(Protocol):
    """Keeps leases. All methods raise `StoreUnreachable` when there is no usable answer."""

    async def seen(self, name: str) -> FenceRow:
        """Read the fence; asked before `acquire`, and to find out whether a `fence` without answer took place."""
        ...

    async def acquire(self, name: str, holder: UUID, ttl: float, seen: int) -> Granted | Busy:
        """Take the lease for *holder* if nobody has it, for *ttl* seconds by the server's clock.

        A store that takes the fence in the same step does so only if its token is still *seen*.
        """
        ...

    async def fence(self, name: str, holder: UUID, seen: int) -> int | None:
        """Put *holder* into the fence if its token is still *seen*; the new, larger token, or None.

        Waits for running fenced transactions of the holder before; commits durably.
        """
        ...

    async def renew(self, name: str, holder: UUID, ttl: float) -> Renewal:
        """Make the lease live *ttl* seconds from now on, if *holder* has it."""
        ...

    async def release(self, name: str, holder: UUID) -> bool:
        """Free the lease if *holder* has it, and notify waiters; whether it was his.

        Must not wait behind a request of the same holder that was given up.
        """
        ...

    async def inspect(self, name: str) -> Inspection:
        """Say who holds the lease."""
        ...

    async def evict(self, name: str) -> bool:
        """Free the lease whoever holds it, and move the fence so that he can commit nothing any more."""
        ...

    def notices(self, name: str) -> AbstractAsyncContextManager[Notices]:
        """Listen for releases of *name* within the block, from its beginning on.

        Errors of the block leave it as themselves, in no group. A lost connection is the store's to mend; after
        it, `Notices.wait` returns once, since a notice may have been missed.
        """
        ...

    def fenced(
        self, connection: Any, name: str, holder: UUID, token: int
    ) -> AbstractAsyncContextManager[Any]:
        """Open a transaction on *connection* in which the fence names exactly (*holder*, *token*).

        The fence cannot move before the transaction ends. The value is the transaction.

        Raises:
            FenceRefused: it names somebody else; nothing was changed.
        """
        ...
