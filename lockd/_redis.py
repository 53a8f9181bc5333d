"""The store that keeps leases in Redis, and its fence in PostgreSQL or, as a makeshift, in Redis too.

::

    <prefix><name>          string, the holder's id, with the TTL     SET NX PX, scripts
    <prefix><name>:token    hash of token and holder, without TTL     only without a fence of its own
    <prefix><name>:free     channel, told of each release

Redis may forget a lease: a restart without its append-only file, FLUSHALL, eviction, the promotion of a replica
that was behind. Then two holders *believe* for a while. With a fence only the newer one's effects are accepted.
Without a fence the token comes from Redis: it grows with the server's clock, so it mostly survives that Redis
forgets it, but nothing checks it; take it for a hint of the order, and no more.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Any
from uuid import UUID

from lockd._errors import StoreUnreachable
from lockd._fence import Fence
from lockd._redis_address import parse_address
from lockd._redis_client import RedisClient
from lockd._redis_notices import Notifier
from lockd._redis_open import running
from lockd._redis_scripts import EVICT, RELEASE, RENEW, TAKE_TOKEN
from lockd._store import Busy, FenceRow, Granted, Inspection, Notices, Renewal

CONNECTIONS_MAX = 16
TOKEN_SUFFIX = ":token"  # noqa: S105  # no password
FREE_SUFFIX = ":free"

_log = logging.getLogger("lockd")


class RedisStore:
    """Satisfies `lockd.LeaseStore`; made by `open_redis_store`, usable by any task of the same Trio run.

    Each request is one attempt, 5 seconds at most, on a connection that is closed when anything went wrong
    with it, also by cancellation. After the block every method raises ``trio.ClosedResourceError``.

    A user with limited rights needs SET, GET, PTTL, EVALSHA, EVAL, DEL, PEXPIRE, PUBLISH, SUBSCRIBE,
    UNSUBSCRIBE and PING, and without a fence HMGET, HGET, HSET and TIME; behind Sentinels ROLE; CONFIG GET is not missed.
    """

    def __init__(
        self, client: RedisClient, notifier: Notifier, fence: Fence | None, prefix: str
    ) -> None:
        self._client = client
        self._notifier = notifier
        self._fence = fence
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"<RedisStore {self._client.address}>"

    async def seen(self, name: str) -> FenceRow:
        """Read the fence; without one of its own the token that Redis keeps."""
        if self._fence is not None:
            return await self._fence.seen(name)
        key = self._key(name) + TOKEN_SUFFIX
        [[token, holder]] = await self._client.requests.request(("HMGET", key, "token", "holder"))
        return FenceRow(_holder(holder), int(token or 0))

    async def acquire(self, name: str, holder: UUID, ttl: float, seen: int) -> Granted | Busy:
        """Take the lease if nobody has it; the fence is another step."""
        key, requests = self._key(name), self._client.requests
        [answer] = await requests.request(("SET", key, str(holder), "NX", "PX", _ms(ttl)))
        if answer is not None:
            return Granted(None)
        return await self._look(key) or Busy(None, 0.0)

    async def fence(self, name: str, holder: UUID, seen: int) -> int | None:
        """Move the fence; without one of its own, the token in Redis: to its server's time or one further."""
        if self._fence is not None:
            return await self._fence.fence(name, holder, seen)
        key = self._key(name) + TOKEN_SUFFIX
        return await self._client.requests.run(TAKE_TOKEN, key, str(holder), seen) or None

    async def renew(self, name: str, holder: UUID, ttl: float) -> Renewal:
        """Extend the lease of *holder*."""
        key, arguments = self._key(name), (str(holder), _ms(ttl))
        match await self._client.requests.run(RENEW, key, *arguments):
            case 1:
                return Renewal.RENEWED
            case 0:
                return Renewal.TAKEN
            case _:
                return Renewal.GONE

    async def release(self, name: str, holder: UUID) -> bool:
        """Free the lease of *holder* and tell the waiters. It shares no connection with other requests."""
        key = self._key(name)
        return await self._client.releases.run(RELEASE, key, str(holder), key + FREE_SUFFIX) == 1

    async def inspect(self, name: str) -> Inspection:
        """Say who holds the lease. A value that is no holder's id shows as no holder with time remaining."""
        found = await self._look(self._key(name))
        row = await self.seen(name)
        if found is None:
            return Inspection(name, None, None, row.token)
        return Inspection(name, found.holder, found.remaining, row.token)

    async def evict(self, name: str) -> bool:
        """Move the fence so that it names nobody, then free the lease and tell the waiters."""
        key = self._key(name)
        if self._fence is not None:
            await self._fence.evict(name)
        else:
            await self._client.requests.run(TAKE_TOKEN, key + TOKEN_SUFFIX, "", "")
        return await self._client.requests.run(EVICT, key, key + FREE_SUFFIX) == 1

    def notices(self, name: str) -> AbstractAsyncContextManager[Notices]:
        """Listen for releases within the block. All waiters of the store share one connection."""
        return self._notifier.listen(self._key(name) + FREE_SUFFIX)

    def fenced(
        self, connection: Any, name: str, holder: UUID, token: int
    ) -> AbstractAsyncContextManager[Any]:
        """Open a transaction in which the fence names (*holder*, *token*): see the fence's own ``fenced``.

        Raises:
            TypeError: the store was opened without a fence.
        """
        if self._fence is None:
            raise TypeError(
                "fenced() needs a fence: open_redis_store(url, fence=...) with one in PostgreSQL"
            )
        return self._fence.fenced(connection, name, holder, token)

    async def _look(self, key: str) -> Busy | None:
        holder, ms = await self._client.requests.request(("GET", key), ("PTTL", key))
        if holder is None or ms == -2:  # or it ended between the two
            return None
        return Busy(_holder(holder), None if ms < 0 else ms / 1000)

    def _key(self, name: str) -> str:
        if name.endswith((TOKEN_SUFFIX, FREE_SUFFIX)):
            raise ValueError(f"the name of a lease must not end in {TOKEN_SUFFIX} or {FREE_SUFFIX}")
        return self._prefix + name


@asynccontextmanager
async def open_redis_store(
    url: str,
    *,
    fence: Fence | None = None,
    prefix: str = "lockd:",
    ssl_context: ssl.SSLContext | None = None,
    connections_max: int = CONNECTIONS_MAX,
    random: Random | None = None,
) -> AsyncGenerator[RedisStore]:
    """Keep leases in the Redis at *url* for the block; whoever shares them gives the same *prefix*.

    *url* is ``redis://user:password@host:port/0``, or ``rediss://`` for TLS with the options of redis-py
    (``?ssl_ca_certs=/path/ca.pem``); ``redis+sentinel://:password@h1:26379,h2:26379/service/0`` asks Sentinels for
    each new connection, and the server whether it is the master. *ssl_context* takes the place of these. *fence* is what makes stale
    effects impossible, see the module. Up to *connections_max* connections for requests, as many for
    releases, and one for notices are made when they are needed.

    Redis need not be there yet: that shows as `StoreUnreachable` in each request. The first answer makes it
    look at the server's settings; a server that may forget leases is warned of in the log.

    Leaving the block closes all connections. Errors of the block leave it as themselves, in no group;
    cancelled, the store goes on working until the block has ended.

    Raises:
        ValueError: *url* cannot be used, or a file that it names; *connections_max* is below 1.
    """
    client = RedisClient(parse_address(url, ssl_context), connections_max)
    notifier = Notifier(client, random or Random())
    async with running(client, notifier.run, lambda: _advise(client)):
        yield RedisStore(client, notifier, fence, prefix)


async def _advise(client: RedisClient) -> None:
    """Warn once, after the first answer, when the server may forget leases by itself."""
    await client.answered.wait()
    names = ("maxmemory-policy", "appendonly")
    try:
        replies = await client.requests.request(*(("CONFIG", "GET", name) for name in names))
        settings = {reply[0].decode(): reply[1].decode() for reply in replies if reply}
    except StoreUnreachable:  # managed servers do not tell
        return
    risks: list[str] = []
    if settings.get("maxmemory-policy", "noeviction") != "noeviction":
        risks.append("under memory pressure (maxmemory-policy is not noeviction)")
    if settings.get("appendonly", "yes") != "yes":
        risks.append("when it restarts (appendonly is off)")
    if risks:
        _log.warning("%s may forget leases %s", client.address, " and ".join(risks))


def _ms(seconds: float) -> int:
    return math.ceil(seconds * 1000)


def _holder(value: bytes | None) -> UUID | None:
    """Read a holder's id; None for anything else, such as a key that another program has put there."""
    try:
        return UUID((value or b"").decode())
    except ValueError:
        return None
