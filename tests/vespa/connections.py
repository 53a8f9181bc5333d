"""Serves an ASGI application on one port, so that the port can be closed and a connection broken on purpose.

hypercorn speaks HTTP/1.1, and HTTP/2 to a client that begins with it. A request finds its connection in the state of
its scope, to reset it or to say GOAWAY.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

import h2.connection
import trio
from hypercorn.config import Config
from hypercorn.events import RawData
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.utils import wrap_app
from hyperframe.frame import GoAwayFrame

STATE = "vespa.connection"
BACKLOG = 128
STREAMS_MAX = 512
"""Streams at once on an HTTP/2 connection."""
FLUSH_TIME = 5.0
"""Seconds for the last answers before a connection is closed."""
HEAD_BYTES_MAX = 256 * 1024
"""The longest head of a request: ids may be long."""
_RESET = struct.pack("ii", 1, 0)


class Connection:
    """A client's connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.server: TCPServer | None = None
        self.last_stream: int | None = None
        """The last stream that is served, once GOAWAY was said."""
        self._under_way = 0

    def reset(self) -> None:
        """Break it off: the client gets a reset, also for all other streams."""
        try:
            self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            return  # it is closed
        self._stream.socket.close()

    def stream_id(self, scope: Any) -> int:
        """The HTTP/2 stream of a request."""
        for stream_id, stream in self._protocol().streams.items():
            if getattr(stream, "scope", None) is scope:
                return stream_id
        return 0

    def refuses(self, scope: Any) -> bool:
        """Whether a request came after the last stream that is served."""
        if self.last_stream is None or scope["http_version"] != "2":
            return False
        return self.stream_id(scope) > self.last_stream

    async def go_away(self, last_stream: int | None = None) -> None:
        """Say that no stream after *last_stream* is served: None for the newest; then close when all are answered."""
        protocol = self._protocol()
        if last_stream is None:
            last_stream = protocol.connection.highest_inbound_stream_id
        assert self.server is not None
        self.last_stream = last_stream
        frame = GoAwayFrame(0, last_stream_id=last_stream, error_code=0)
        await self.server.protocol_send(RawData(data=frame.serialize()))

    def begin(self) -> None:
        """A request is under way."""
        self._under_way += 1

    async def end(self) -> None:
        """A request has ended, or is dropped; after GOAWAY the last one closes the connection."""
        self._under_way -= 1
        if self.last_stream is None or self._under_way:
            return
        protocol = self._protocol()
        with trio.move_on_after(FLUSH_TIME):
            # hypercorn ends a request before its answer is on the wire, and tells nobody when it is.
            while any(each <= self.last_stream for each in protocol.stream_buffers):
                await trio.sleep(0.001)
        if not self._under_way:
            await self._stream.aclose()

    def _protocol(self) -> H2Protocol:
        assert self.server is not None
        protocol = self.server.protocol.protocol
        assert isinstance(protocol, H2Protocol)
        assert isinstance(protocol.connection, h2.connection.H2Connection)
        return protocol


class Port:
    """A port that serves *app*; it can be closed, and opened again with the same number."""

    def __init__(self, app: Any, host: str, port: int) -> None:
        self._host = host
        self._config = Config()
        self._config.h2_max_concurrent_streams = STREAMS_MAX
        self._config.h11_max_incomplete_size = HEAD_BYTES_MAX
        self._config.h2_max_header_list_size = HEAD_BYTES_MAX
        self._config.keep_alive_timeout = 180
        self._config.keep_alive_max_requests = 1_000_000
        self._config.accesslog = None
        self._config.errorlog = None
        self._app = wrap_app(app, self._config.wsgi_max_body_size, "asgi")
        self._context = WorkerContext(None)
        self._connections: set[Connection] = set()
        self._serving: trio.CancelScope | None = None
        self._ended = trio.Event()
        self.port = port

    @property
    def url(self) -> str:
        """The address for clients."""
        host = "127.0.0.1" if self._host in ("", "0.0.0.0") else self._host
        return f"http://{host}:{self.port}"

    @property
    def is_open(self) -> bool:
        """Whether it accepts connections."""
        return self._serving is not None

    async def open(self, nursery: trio.Nursery) -> None:
        """Begin to serve; nothing happens when it does already."""
        if self._serving is None:
            await nursery.start(self._serve)

    async def close(self) -> None:
        """Stop: connections are reset, further ones refused."""
        if self._serving is not None:
            self._serving.cancel()
            await self._ended.wait()

    async def _serve(self, task_status: trio.TaskStatus[None]) -> None:
        listener = trio.SocketListener(self._listening())
        self._ended = trio.Event()
        try:
            with trio.CancelScope() as self._serving:
                async with listener, trio.open_nursery() as nursery:
                    task_status.started()
                    await trio.serve_listeners(self._handle, [listener], handler_nursery=nursery)
        finally:
            self._serving = None
            self._ended.set()

    def _listening(self) -> trio.socket.SocketType:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((self._host, self.port))
        listening.listen(BACKLOG)
        self.port = listening.getsockname()[1]
        return trio.socket.from_stdlib_socket(listening)

    async def _handle(self, stream: trio.SocketStream) -> None:
        connection = Connection(stream)
        self._connections.add(connection)
        given: Any = {STATE: connection}
        try:
            server = TCPServer(self._app, self._config, self._context, given, stream)  # type: ignore[arg-type]
            connection.server = server
            await server.run()
        except* Exception as group:
            # What a client can do to hypercorn, such as a stream that ends early, is the end of its connection.
            if group.subgroup(AssertionError):
                raise
        finally:
            self._connections.discard(connection)
            connection.reset()
