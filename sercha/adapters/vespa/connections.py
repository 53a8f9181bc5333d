"""Connections to one container: HTTP/1.1 by h11, straight on Trio's streams.

Not by httpx, which the rest of Sercha uses: thousands of small requests a second go through here, and it takes eight
times the processor time for each (2.3 ms against 0.28 ms, for 1.5 kB to a server that answers at once).
"""

from __future__ import annotations

import ssl
from collections import deque
from contextlib import suppress
from urllib.parse import urlsplit

import h11
import trio

from sercha.adapters.vespa.messages import Reply, Request
from sercha.version import __version__

CONNECT_TIME = 1.0
KEPT_FOR = 25.0
"""Seconds that an idle connection is kept; the server gives it 180."""
CONTENT_BYTES_MAX = 256 * 1024 * 1024
RECEIVED_BYTES = 65_536

Headers = list[tuple[bytes, bytes]]


class ConnectionFailed(Exception):
    """No whole answer came. What was asked may have been carried out all the same."""


class _StaleError(Exception):
    """A connection that was kept turns out to be closed."""


class _Connection:
    """One connection; for one request at a time."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=RECEIVED_BYTES)
        self.idle_since: float | None = None

    @property
    def is_reusable(self) -> bool:
        """Whether a further request may be sent."""
        return self._protocol.our_state is h11.IDLE and self._protocol.their_state is h11.IDLE

    async def exchange(self, host: bytes, request: Request) -> Reply:
        """Send a request and return the whole answer.

        Raises:
            _StaleError: the connection was closed before a byte of the answer came.
            h11.RemoteProtocolError, trio.BrokenResourceError: it broke off.
        """
        try:
            await self._stream.send_all(self._encoded(host, request))
            first = await self._stream.receive_some(RECEIVED_BYTES)
        except trio.BrokenResourceError as error:
            raise _StaleError(str(error)) from error
        if not first:
            raise _StaleError("closed by the server")
        self._protocol.receive_data(bytes(first))
        return await self._receive()

    def _encoded(self, host: bytes, request: Request) -> bytes:
        headers: Headers = [(b"Host", host), (b"User-Agent", f"sercha/{__version__}".encode())]
        headers += [(name.encode(), value.encode()) for name, value in request.headers.items()]
        if request.content or request.method in ("POST", "PUT"):
            headers.append((b"Content-Length", b"%d" % len(request.content)))
        head = h11.Request(method=request.method, target=request.target, headers=headers)
        parts = [self._protocol.send(head)]
        if request.content:
            parts.append(self._protocol.send(h11.Data(data=request.content)))
        parts.append(self._protocol.send(h11.EndOfMessage()))
        return b"".join(part for part in parts if part)

    async def _receive(self) -> Reply:
        head: h11.Response | None = None
        content = bytearray()
        while True:
            event = self._protocol.next_event()
            if event is h11.NEED_DATA:
                received = await self._stream.receive_some(RECEIVED_BYTES)
                self._protocol.receive_data(bytes(received))
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                content += event.data
                if len(content) > CONTENT_BYTES_MAX:
                    raise h11.RemoteProtocolError("the answer is too long")
            elif isinstance(event, h11.EndOfMessage):
                break
            elif isinstance(event, h11.ConnectionClosed):
                raise h11.RemoteProtocolError("closed by the server")
        assert head is not None
        if self._protocol.their_state is h11.DONE and self._protocol.our_state is h11.DONE:
            self._protocol.start_next_cycle()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        return Reply(head.status_code, headers, bytes(content))

    async def close(self) -> None:
        """Close at once, without saying good-bye."""
        await trio.aclose_forcefully(self._stream)


class ConnectionPool:
    """At most *limit* connections to one address, kept while they are used."""

    def __init__(self, url: str, limit: int) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self.url = url.rstrip("/")
        self._hostname = parts.hostname
        self._is_secure = parts.scheme == "https"
        self._port = parts.port or (443 if self._is_secure else 80)
        self._host = parts.netloc.encode("idna")
        self._slots = trio.CapacityLimiter(limit)
        self._idle: deque[_Connection] = deque()

    async def request(self, request: Request) -> Reply:
        """Ask on a connection that is free; one that turns out to be stale is replaced, once.

        Cancelled, the connection is closed.

        Raises:
            ConnectionFailed: there was no whole answer.
        """
        async with self._slots:
            try:
                kept = await self._take()
                if kept is not None:
                    with suppress(_StaleError):
                        return await self._exchange(kept, request)
                return await self._exchange(await self._connect(), request)
            except (
                OSError,
                trio.BrokenResourceError,
                h11.RemoteProtocolError,
                _StaleError,
            ) as error:
                raise ConnectionFailed(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Close all that are idle."""
        while self._idle:
            await self._idle.pop().close()

    async def _exchange(self, connection: _Connection, request: Request) -> Reply:
        is_kept = False
        try:
            reply = await connection.exchange(self._host, request)
            if connection.is_reusable:
                connection.idle_since = trio.current_time()
                self._idle.append(connection)
                is_kept = True
            return reply
        finally:
            if not is_kept:
                with trio.CancelScope(shield=True):
                    await connection.close()

    async def _take(self) -> _Connection | None:
        """Return the connection that was used last, if it was not idle for too long."""
        while self._idle:
            connection = self._idle.pop()
            assert connection.idle_since is not None
            if trio.current_time() - connection.idle_since < KEPT_FOR:
                return connection
            await connection.close()
            await self.close()  # the others were idle for longer
        return None

    async def _connect(self) -> _Connection:
        with trio.move_on_after(CONNECT_TIME) as scope:
            stream: trio.abc.Stream = await trio.open_tcp_stream(self._hostname, self._port)
            if self._is_secure:
                context = ssl.create_default_context()
                secure = trio.SSLStream(stream, context, server_hostname=self._hostname)
                await secure.do_handshake()
                stream = secure
            return _Connection(stream)
        assert scope.cancelled_caught
        raise TimeoutError(f"no connection within {CONNECT_TIME:g} s")
