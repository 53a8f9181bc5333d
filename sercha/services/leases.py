"""Looking at leases, and taking one away from a holder that nobody can reach."""

from __future__ import annotations

import re
from typing import Protocol

import structlog

from lockd import Inspection, LeaseStore, StoreUnreachable
from sercha.errors import NotFound, Unavailable

LEASES_MAX = 100
"""Most leases that are listed."""

_NAME = re.compile(r"[\w:.-]{1,200}", re.ASCII)
_RESERVED = (":token", ":free")
"""Ends of names that a store in Redis keeps for itself."""

_log = structlog.get_logger()


class LeaseNames(Protocol):
    """Knows which leases there are: each has a row in the fence, wherever it is kept."""

    async def list(self, limit: int) -> list[str]:
        """Return the names of leases that were held at some time, in order."""
        ...


class Leases:
    """What administrators do with leases."""

    def __init__(self, store: LeaseStore, names: LeaseNames) -> None:
        self._store = store
        self._names = names

    async def list(self) -> list[Inspection]:
        """Return the leases that were held at some time, by name, and who holds them now.

        Raises:
            Unavailable: their store does not answer (``lease-store-away``).
        """
        try:
            return [await self._store.inspect(name) for name in await self._names.list(LEASES_MAX)]
        except StoreUnreachable as error:
            raise _away(error) from error

    async def release(self, name: str) -> None:
        """Free a lease whoever holds it; he can commit nothing any more, and the next one begins.

        Raises:
            NotFound: it was never held (``lease-not-found``).
            Unavailable: its store does not answer (``lease-store-away``); it may have taken place.
        """
        try:
            if not await self._was_held(name):
                raise NotFound(f"lease {name[:40]!r}: was never held", code="lease-not-found")
            await self._store.evict(name)
        except StoreUnreachable as error:
            raise _away(error) from error
        _log.warning("lease.evicted", name=name)

    async def _was_held(self, name: str) -> bool:
        if not _NAME.fullmatch(name) or name.endswith(_RESERVED):
            return False
        return (await self._store.seen(name)).token > 0


def _away(error: StoreUnreachable) -> Unavailable:
    return Unavailable(
        f"the store of the leases does not answer: {error}",
        code="lease-store-away",
        retry_after=2.0,
    )
