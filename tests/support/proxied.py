"""A fault proxy with a server behind it; both ends of each connection are in the test's hands."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager

import trio

from sercha.testing import FaultProxy, open_proxy

SILENCE = 0.05
"""Seconds to wait for nothing; that nothing comes can be seen in no other way."""

Pair = tuple[trio.SocketStream, trio.SocketStream]


class Lab:
    """A proxy and the server behind it."""

    def __init__(
        self, proxy: FaultProxy, listener: trio.SocketListener, closing: ExitStack
    ) -> None:
        self.proxy = proxy
        self.listener = listener
        self._closing = closing

    async def client(self) -> trio.SocketStream:
        stream = await trio.open_tcp_stream(self.proxy.host, self.proxy.port)
        self._closing.callback(stream.socket.close)
        return stream

    async def server(self) -> trio.SocketStream:
        stream = await self.listener.accept()
        self._closing.callback(stream.socket.close)
        return stream

    async def pair(self) -> Pair:
        """Connect; return the client's and the server's end."""
        return await self.client(), await self.server()


@asynccontextmanager
async def laboratory(seed: int = 0) -> AsyncGenerator[Lab]:
    listener, *_ = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(20), ExitStack() as closing:
        async with listener, open_proxy("127.0.0.1", port_of(listener), seed=seed) as proxy:
            yield Lab(proxy, listener, closing)


def port_of(listener: trio.SocketListener) -> int:
    return listener.socket.getsockname()[1]


async def receive(stream: trio.SocketStream, length: int) -> bytes:
    """Receive exactly so many bytes, fewer only if the stream ends."""
    found = bytearray()
    while len(found) < length and (more := await stream.receive_some(length - len(found))):
        found += more
    return bytes(found)


async def receive_all(stream: trio.SocketStream) -> bytes:
    return b"".join([bytes(each) async for each in stream])


async def ending(stream: trio.SocketStream) -> str:
    """Read to the end and say how it came."""
    try:
        await receive_all(stream)
    except trio.BrokenResourceError:
        return "reset"
    return "end"


async def is_silent(*streams: trio.SocketStream) -> bool:
    """Whether neither bytes nor an end nor a reset come."""
    for stream in streams:
        with trio.move_on_after(SILENCE) as scope:
            await stream.receive_some()
        if not scope.cancelled_caught:
            return False
    return True


async def works(client: trio.SocketStream, server: trio.SocketStream) -> bool:
    await client.send_all(b"ask")
    asked = await receive(server, 3)
    await server.send_all(b"answer")
    return (asked, await receive(client, 6)) == (b"ask", b"answer")


def vanish(stream: trio.SocketStream) -> None:
    """Close by RST."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def swallowed(proxy: FaultProxy, up: int = 0, down: int = 0) -> None:
    await proxy.wait_until(lambda now: now.swallowed_up >= up and now.swallowed_down >= down)
