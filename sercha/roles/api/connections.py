"""Serves an application on connections of our own making, which can send an answer in one piece.

hypercorn speaks HTTP on each of them. It sends the head of an answer, its body and its end one after the other, and
a process killed in between leaves a client with half an answer. Here the application can hold what is sent
back, so that a small answer leaves in one write: whole, or not at all.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import structlog
import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper, LifespanState
from hypercorn.utils import wrap_app  # pyright: ignore[reportUnknownVariableType]

WHOLE_BYTES_MAX = 128 * 1024
"""The longest answer, with its head, that leaves in one write."""
SEND_BUFFER = 512 * 1024
"""Bytes that the kernel takes at once from a connection: also a whole answer behind others that were not read yet."""
SEND_TIME = 30.0
"""Seconds for a client to take what is written at once; then its connection is closed."""
CUT_TIME = 1.0
"""Seconds for what is being written, once the server is cancelled."""
LAST_TIME = 0.5
"""Seconds, at the end, for connections that have not asked yet: also those that wait to be accepted."""
ACCEPTED_MAX = 1_024
"""Connections that are still accepted from each socket at the end."""
_STREAM = "sercha.stream"

_log = structlog.get_logger()


class WholeStream(trio.abc.HalfCloseableStream):
    """A connection whose writes can be held back and sent as one, and take `SEND_TIME` at most."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._held: bytearray | None = None
        self._holding = trio.Lock()
        self._writing = trio.Lock()
        self._closed = trio.Event()
        self._is_fresh = True

    @property
    def socket(self) -> Any:
        """The connection's socket: hypercorn asks it for the addresses."""
        return self._stream.socket

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was received yet."""
        return self._is_fresh

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """Collect what the block sends, and send it in one write at its end; more than fits goes out at once.

        An error or cancellation of the block sends nothing of it, and closes the connection: what was held may
        have been a whole answer, whose place the next one must not take. Of pipelined requests the next answer
        waits for the last one to be sent.

        Raises:
            BrokenResourceError, ClosedResourceError: the client is gone, or does not read.
        """
        try:
            await self._holding.acquire()
        except trio.Cancelled:
            self.cut()
            raise
        self._held = bytearray()
        try:
            yield
            await self._flush()
        except BaseException as error:
            if self._held or not isinstance(error, Exception):
                self.cut()
            raise
        finally:
            self._held = None
            self._holding.release()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or keep for the end of the block of `held`.

        Raises:
            BrokenResourceError, ClosedResourceError: the client is gone, or does not read.
        """
        if not data:
            await trio.lowlevel.checkpoint()
        elif self._held is None:
            await self._write(data)
        else:
            self._held += data
            if len(self._held) > WHOLE_BYTES_MAX:
                await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for more."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive what there is."""
        data = await self._stream.receive_some(max_bytes)
        self._is_fresh = False
        return data

    async def send_eof(self) -> None:
        """Say that nothing follows, after what is held."""
        await self._flush()
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close, after what is held."""
        try:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._flush()
        finally:
            self._closed.set()
            await self._stream.aclose()

    def cut(self) -> None:
        """Close at once, whatever is being sent; whoever sends or receives gets a `ClosedResourceError`."""
        self._closed.set()
        self._stream.socket.close()

    async def wait_closed(self) -> None:
        """Wait until it is closed by this side."""
        await self._closed.wait()

    async def _flush(self) -> None:
        # Others may send while this writes (an interim answer, say): that is held, too, and follows.
        while self._held:
            data, self._held = self._held, bytearray()
            await self._write(data)

    async def _write(self, data: bytes | bytearray | memoryview) -> None:
        # Begun, it is sent: never half of it, unless the client does not take it.
        with trio.move_on_after(SEND_TIME, shield=True) as limit:
            async with self._writing:
                await self._stream.send_all(data)
        if limit.cancelled_caught:
            self.cut()
            raise trio.BrokenResourceError(f"the client took nothing for {SEND_TIME} s")


@asynccontextmanager
async def whole_answer(scope: Any) -> AsyncGenerator[None]:
    """Let what the block answers to the request of *scope* leave in one write.

    Not with HTTP/2, where the client's permission to send on may be needed in the middle, nor behind another server.
    """
    stream = scope.get("state", {}).get(_STREAM)
    if isinstance(stream, WholeStream) and scope.get("http_version", "").startswith("1"):
        async with stream.held():
            yield
    else:
        yield


async def serve(
    app: Any,
    config: Config,
    sockets: list[socket.socket],
    *,
    until: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve *app* on *sockets*, which listen, until *until* returns; the sockets are closed at the end.

    Then idle connections are closed, and the others get ``config.graceful_timeout`` seconds. Cancelled, all
    are closed at once.
    """
    state: LifespanState = {}
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
    lifespan = Lifespan(wrapped, config, state)
    try:
        async with trio.open_nursery() as lifespans:
            await lifespans.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            await _Server(wrapped, config, state).run(sockets, until, task_status)
            await lifespan.wait_for_shutdown()
            lifespans.cancel_scope.cancel("the server has ended")
    finally:
        for each in sockets:
            each.close()


class _Server:
    """The connections of one run."""

    def __init__(self, app: AppWrapper, config: Config, state: LifespanState) -> None:
        self._app = app
        self._config = config
        self._state = state
        self._context = WorkerContext(None)
        self._streams: set[WholeStream] = set()

    async def run(
        self,
        sockets: list[socket.socket],
        until: Callable[[], Awaitable[None]],
        task_status: trio.TaskStatus[None],
    ) -> None:
        ended = trio.Event()
        async with trio.open_nursery() as guards:
            guards.start_soon(self._cut_off, ended)
            try:
                async with trio.open_nursery() as connections:
                    try:
                        await self._accept(sockets, connections, until, task_status)
                    finally:
                        # hypercorn's: its connections wait for this event while they are idle.
                        await self._context.terminated.set()
                        grace = self._config.graceful_timeout
                        guards.cancel_scope.deadline = trio.current_time() + grace
            finally:
                ended.set()

    async def _accept(
        self,
        sockets: list[socket.socket],
        connections: trio.Nursery,
        until: Callable[[], Awaitable[None]],
        task_status: trio.TaskStatus[None],
    ) -> None:
        # Trio closes a listener with its last task; what waits to be accepted then would be lost.
        listeners = [
            trio.SocketListener(trio.socket.from_stdlib_socket(each.dup())) for each in sockets
        ]
        async with trio.open_nursery() as accepting:
            accepting.start_soon(
                partial(trio.serve_listeners, self._handle, listeners, handler_nursery=connections)
            )
            task_status.started()
            await until()
            accepting.cancel_scope.cancel("nothing more is accepted")
        for each in sockets:
            self._accept_waiting(each, connections)
            each.close()
        with trio.move_on_after(LAST_TIME):
            for stream in [each for each in self._streams if each.is_fresh]:
                await stream.wait_closed()

    def _accept_waiting(self, listener: socket.socket, connections: trio.Nursery) -> None:
        listener.setblocking(False)
        for _ in range(ACCEPTED_MAX):
            try:
                accepted, _ = listener.accept()
            except OSError:  # mostly: nobody waits
                return
            stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
            connections.start_soon(self._serve, self._opened(stream))

    async def _handle(self, stream: trio.SocketStream) -> None:
        await self._serve(self._opened(stream))

    def _opened(self, stream: trio.SocketStream) -> WholeStream:
        whole = WholeStream(stream)
        self._streams.add(whole)
        return whole

    async def _serve(self, whole: WholeStream) -> None:
        given: Any = {**self._state, _STREAM: whole}
        try:
            server: Any = TCPServer(self._app, self._config, self._context, given, whole)  # pyright: ignore[reportArgumentType]
            await server.run()
        except* Exception:  # noqa: BLE001  one connection must not end the others
            # A fault of hypercorn's, such as what a client can cause by HTTP/2, is the end of one connection.
            _log.warning("connection.failed", exc_info=True)
        finally:
            self._streams.discard(whole)
            whole.cut()

    async def _cut_off(self, ended: trio.Event) -> None:
        """Close what does not end although it was cancelled: writes are shielded."""
        try:
            await ended.wait()
        finally:
            with trio.move_on_after(CUT_TIME, shield=True):
                await ended.wait()
            for stream in self._streams:
                stream.cut()
