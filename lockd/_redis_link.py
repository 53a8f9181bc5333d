"""One connection to Redis: redis-py speaks the protocol in an asyncio loop, Trio connects and sets limits.

redis-py's own clients reconnect and send again, keep connections whose last reply nobody has read, and look up
names in threads that cannot be given up. A connection of its own does none of that; what is used of it beyond
the documented is small (``_connect``, ``_reader``, ``_writer``, ``_parser``), and the version is pinned.

Invariant: a link on which anything went wrong, a cancellation included, is never used again.
"""

# pyright: reportPrivateUsage=false, reportUnknownMemberType=false

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any, cast

import trio
import trio_asyncio as trio_asyncio  # before anything that takes names out of asyncio
from redis.asyncio.connection import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from lockd._errors import StoreUnreachable
from lockd._redis_address import RedisAddress

Command = tuple[str | int | bytes, ...]

KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Seconds, seconds, times: a peer that vanished is noticed within half a minute on an idle connection."""
REASON_LENGTH_MAX = 200
FAILURES = (RedisError, RedisClusterException, OSError, EOFError)
"""What a driver's call may raise for reasons that are not ours."""


class RedisLink(Connection):
    """A connection over a socket that is connected already; it connects once, and never again.

    Its coroutines run in an asyncio loop, and have no time limits: whoever calls them has.
    """

    def __init__(self, address: RedisAddress, sock: socket.socket) -> None:
        super().__init__(
            host=address.host,
            port=address.port,
            db=address.database,
            username=address.username,
            password=address.password,
            protocol=2,
            driver_info=None,
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
        )
        self._sock: socket.socket | None = sock
        self._tls = address.tls
        self._transport: asyncio.Transport | None = None
        """The socket's own, below TLS: asyncio forgets it when a handshake is cancelled at its beginning."""

    async def exchange(self, commands: Sequence[Command]) -> list[Any] | None:
        """Send *commands* and read the reply to each; an error reply is a value.

        None: the link had ended or had something unread, and nothing was sent. Runs in asyncio.
        """
        if self._writer is None or self._transport is None or self._transport.is_closing():
            return None
        if await self.can_read():
            return None
        await self.send(commands)
        return [await self._reply() for _ in commands]

    async def send(self, commands: Sequence[Command]) -> None:
        """Send *commands* without reading. Runs in asyncio."""
        await self.send_packed_command(self.pack_commands(commands), check_health=False)

    async def receive(self) -> Any:
        """Read one reply or message. Runs in asyncio."""
        return cast("object", await self.read_response())

    async def _reply(self) -> Any:
        try:
            return await self.receive()
        except ResponseError as error:
            return error

    def abort(self) -> None:
        """Close at once, without a word to the server; whoever reads or writes gets an error. For Trio."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._writer is not None:
            self._writer.transport.abort()
        if self._transport is not None:
            self._transport.abort()
            self._transport = None
        self._reader = self._writer = None
        self._parser.on_disconnect()

    async def _connect(self) -> None:
        """Take the socket over, once; redis-py calls this again to reconnect, and would send again."""
        sock, self._sock = self._sock, None
        if sock is None:
            raise OSError("the connection has ended")
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        if self._tls is None:
            transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
            self._transport = transport
        else:
            self._transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
            if self._transport.is_closing():
                raise OSError("the connection was closed at once")  # nobody would tell start_tls
            transport = await loop.start_tls(
                self._transport, protocol, self._tls, server_hostname=self.host
            )
            assert transport is not None
            protocol.connection_made(transport)
        self._reader = reader
        self._writer = asyncio.StreamWriter(transport, protocol, reader, loop)


async def open_socket(address: RedisAddress) -> socket.socket:
    """Connect to the first of the host's addresses that answers. Cancellation leaves nothing open.

    Raises:
        OSError: none does, or the name is not known.
    """
    stream = await trio.open_tcp_stream(address.host, address.port)
    sock = socket.socket(fileno=stream.socket.detach())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock


def explain(address: RedisAddress, reason: BaseException | str) -> StoreUnreachable:
    """Make one line of what went wrong, without secrets."""
    lines = (str(reason) or type(reason).__name__).splitlines()
    text = address.without_secrets(lines[0])[:REASON_LENGTH_MAX]
    if isinstance(reason, OSError) and (inner := _first_cause(reason)) is not None:
        text += f" ({inner.strerror or type(inner).__name__})"
    return StoreUnreachable(f"{address}: {text}", refusal=_refusal(reason))


def _refusal(reason: BaseException | str) -> str | None:
    """Return the word that an error reply begins with; redis-py cuts off those that it knows."""
    if not isinstance(reason, RedisError):
        return None
    word = getattr(reason, "status_code", None) or str(reason).partition(" ")[0]
    return word if word.isalpha() and word.isupper() else None


def _first_cause(error: BaseException) -> OSError | None:
    """Find why connecting failed: Trio's error hides it below."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cast("BaseExceptionGroup[BaseException]", cause).exceptions[0]
    return cause if isinstance(cause, OSError) else None
