"""Serves an application on connections of our own making, which can send an answer in one piece.

hypercorn speaks HTTP on each of them. It sends the head of an answer, its body and its end one after the other, and
a process killed in between leaves a client with half an answer. Here the application can hold what is sent
back, so that a small answer leaves in one write: whole, or not at all.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

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
_STREAM = "sercha.stream"


class WholeStream(trio.abc.HalfCloseableStream):
    """A connection whose writes can be held back and sent as one."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._held: bytearray | None = None

    @property
    def socket(self) -> Any:
        """The connection's socket: hypercorn asks it for the addresses."""
        return self._stream.socket

    @asynccontextmanager
    async def held(self) -> AsyncGenerator[None]:
        """Collect what the block sends, and send it in one write at its end; more than fits goes out at once.

        An error or cancellation of the block sends nothing of it.
        """
        assert self._held is None, "one answer at a time"
        self._held = bytearray()
        try:
            yield
            await self._flush()
        finally:
            self._held = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send, or keep for the end of the block of `held`."""
        if not data:
            await trio.lowlevel.checkpoint()
        elif self._held is None:
            await self._stream.send_all(data)
        else:
            self._held += data
            if len(self._held) > WHOLE_BYTES_MAX:
                await self._flush()

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for more."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive what there is."""
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        """Say that nothing follows, after what is held."""
        await self._flush()
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close, after what is held."""
        try:
            await self._flush()
        finally:
            await self._stream.aclose()

    async def _flush(self) -> None:
        if self._held:
            data, self._held = bytes(self._held), bytearray()
            with trio.CancelScope(shield=True):  # begun, it is sent: never half of it
                await self._stream.send_all(data)


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
    async with trio.open_nursery() as lifespans:
        await lifespans.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        await _serve_connections(wrapped, config, state, sockets, until, task_status)
        await lifespan.wait_for_shutdown()
        lifespans.cancel_scope.cancel("the server has ended")


async def _serve_connections(
    app: AppWrapper,
    config: Config,
    state: LifespanState,
    sockets: list[socket.socket],
    until: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[None],
) -> None:
    context = WorkerContext(None)

    async def handle(stream: trio.SocketStream) -> None:
        whole = WholeStream(stream)
        given: Any = {**state, _STREAM: whole}
        await TCPServer(app, config, context, given, whole)  # pyright: ignore[reportArgumentType]

    async with trio.open_nursery() as connections:
        try:
            listeners = [
                trio.SocketListener(trio.socket.from_stdlib_socket(each)) for each in sockets
            ]
            async with trio.open_nursery() as accepting:
                accepting.start_soon(
                    partial(trio.serve_listeners, handle, listeners, handler_nursery=connections)
                )
                task_status.started()
                await until()
                accepting.cancel_scope.cancel("nothing more is accepted")
        finally:
            # hypercorn's: its connections wait for this event while they are idle.
            await context.terminated.set()
            connections.cancel_scope.deadline = trio.current_time() + config.graceful_timeout
