"""One connection through the proxy: two flows of bytes, one for each direction.

    sender -> read() -> bounded queue of chunks -> write() -> receiver
                                                   the faults act here

Delivered bytes are always a prefix of what the sender sent, unless a black hole swallowed some: then the
connection can never be healed and says so (`Connection.has_swallowed`). The end of a stream travels through
the queue like bytes do, so delays, black holes and order concern it as well.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, assert_never

import trio

from sercha.testing.proxy_state import Conditions, Cut, Direction, End

CHUNK_BYTES = 8192
"""The most that one read takes; what it took is a chunk."""

CHUNKS_MAX = 32
"""Chunks that wait in one direction of one connection before its sender has to wait."""

CONNECT_SECONDS = 10.0
"""How long the target may take to accept a connection."""

_NO_LINGER = struct.pack("ii", 1, 0)

_TOWARDS: dict[End, Direction] = {"server": "up", "client": "down"}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of one read, or how the stream ended: in order (``end``) or not (``reset``)."""

    kind: Literal["bytes", "end", "reset"]
    content: bytes
    read_at: float
    lateness: float
    """Its share of the jitter, from 0 up to 1."""
    luck: float
    """Dropped when below the probability; from 0 up to 1."""


def close_stream(stream: trio.SocketStream, *, reset: bool) -> None:
    """Close without a checkpoint, telling the peer by RST or by an orderly end; twice is once.

    The end is orderly for the peer even if there are bytes of its own that nobody has read. With a reset it
    may lose what it has not read yet, as TCP has it. A Unix socket knows no reset and is just closed.
    """
    with suppress(OSError):  # the peer was faster, or it is closed already
        if reset:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        else:
            stream.socket.shutdown(socket.SHUT_WR)
    stream.socket.close()


class Flow:
    """One direction of a connection, between two open streams."""

    def __init__(
        self,
        connection: Connection,
        direction: Direction,
        sender: trio.SocketStream,
        receiver: trio.SocketStream,
    ) -> None:
        self._connection = connection
        self._direction: Direction = direction
        self._sender = sender
        self._receiver = receiver
        self._conditions = connection.conditions
        self._random = connection.conditions.random(connection.number, direction)
        self._put, self._get = trio.open_memory_channel[Chunk](CHUNKS_MAX)
        self._held = 0
        self._cut: Cut | None = None
        self._cut_left = 0
        self._is_receiver_gone = False
        self.is_over = False
        """Whether the end was passed on."""
        self.opposite = self

    def close(self) -> None:
        """Give up what is held; the streams are the connection's to close."""
        self._put.close()
        self._get.close()
        self._count("held", -self._held)
        self._held = 0

    async def read(self) -> None:
        """Take chunks from the sender until it ends, as fast as the queue has room."""
        while True:
            try:
                content = bytes(await self._sender.receive_some(CHUNK_BYTES))
            except trio.BrokenResourceError:
                await self.put("reset")
                return
            except trio.ClosedResourceError:
                return
            await self.put("bytes" if content else "end", content)
            if not content:
                return

    async def put(self, kind: Literal["bytes", "end", "reset"], content: bytes = b"") -> None:
        """Queue one chunk, with its draws; waits for room."""
        lateness, luck = self._random.random(), self._random.random()
        self._held += len(content)
        self._count("held", len(content))
        await self._put.send(Chunk(kind, content, trio.current_time(), lateness, luck))

    async def write(self) -> None:
        """Deliver chunk after chunk, or do to them what the faults say; ends with the connection."""
        while True:
            chunk = await self._get.receive()
            await self._until_due(chunk)
            await self._pass_on(chunk)
            self._held -= len(chunk.content)
            self._count("held", -len(chunk.content))

    async def _until_due(self, chunk: Chunk) -> None:
        """Wait for as long as the present delay says, counted from when the chunk was read."""
        while True:
            faults = self._conditions.faults(self._direction)
            due = chunk.read_at + faults.delay + chunk.lateness * faults.jitter
            if trio.current_time() >= due:
                return
            with trio.move_on_at(due):
                await self._conditions.wait_changed()

    async def _pass_on(self, chunk: Chunk) -> None:
        faults = self._conditions.faults(self._direction)
        if faults.is_black_hole or self._is_receiver_gone:
            self._connection.has_swallowed = True
            self._count("swallowed", len(chunk.content))
        elif chunk.kind == "bytes":
            if chunk.luck < faults.drop_probability:
                self._connection.cut(reset=False)
            else:
                await self._pass_bytes(chunk.content, faults.cut)
        elif chunk.kind == "end":
            await self._pass_end()
        elif chunk.kind == "reset":
            self._connection.end(reset=True)
        else:
            assert_never(chunk.kind)

    async def _pass_bytes(self, content: bytes, cut: Cut | None) -> None:
        is_last = cut is not None and self._reaches(cut, len(content))
        content = content[: self._cut_left] if is_last else content
        try:
            if content:
                await self._receiver.send_all(content)
        except trio.ClosedResourceError:
            return
        except trio.BrokenResourceError:
            self._is_receiver_gone = True
        else:
            self._count("bytes", len(content))
            self._cut_left -= len(content)
        if cut is not None and is_last:
            self._connection.cut(reset=cut.is_reset)
        elif self._is_receiver_gone:
            # Told to the sender the long way, because the other direction may have faults of its own.
            await self.opposite.put("reset")

    def _reaches(self, cut: Cut, length: int) -> bool:
        """Whether these bytes reach the limit, which counts from the first chunk that meets it."""
        if cut is not self._cut:
            self._cut, self._cut_left = cut, cut.after
        return length >= self._cut_left and cut.take()

    async def _pass_end(self) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._receiver.send_eof()
        self.is_over = True
        if self.opposite.is_over:
            self._connection.end(reset=False)

    def _count(self, what: str, number: int) -> None:
        if number:
            self._conditions.ledger.count(**{f"{what}_{self._direction}": number})


class Connection:
    """A client's connection and the one made to the target for it; `end` and `cut` may be called any time."""

    def __init__(
        self, number: int, client: trio.SocketStream, conditions: Conditions, *, gone: End | None
    ) -> None:
        self.number = number
        self.conditions = conditions
        self.has_swallowed = False
        self._gone: End | None = gone
        self._streams: dict[End, trio.SocketStream] = {"client": client}
        self._is_open = True
        self._is_reset = False
        self._scope = trio.CancelScope()
        self._relay_scope = trio.CancelScope()
        conditions.ledger.count(open=1)

    @property
    def is_beyond_healing(self) -> bool:
        """Whether an end or some bytes are lost, so that it can never go on as if nothing had been."""
        return self.has_swallowed or self._gone is not None

    async def run(self, connect: Callable[[], Awaitable[trio.SocketStream]]) -> None:
        """Relay until both ends are done or `end` is called; cancellation closes both."""
        try:
            if self._gone is None:
                await self._reach_target(connect)
            with self._scope:
                if self._is_open and self._gone is None:
                    await self._relay()
                if self._is_open and self._gone is not None:
                    await self._stay_silent(self._gone)
        finally:
            self.end(reset=False)

    def cut(self, *, reset: bool) -> None:
        """Close both ends because of a fault."""
        if self._is_open:
            if self._gone is None:
                self.conditions.ledger.count(cut=1)
            self.end(reset=reset)

    def end(self, *, reset: bool) -> None:
        """Close both ends at once; what is held is lost. Does nothing the second time."""
        if not self._is_open:
            return
        self._is_open, self._is_reset = False, reset
        self._scope.cancel(reason="the connection has ended")
        for stream in self._streams.values():
            close_stream(stream, reset=reset)
        self.conditions.ledger.count(open=-1)

    def lose(self, gone: End) -> None:
        """Close one end and tell the other nothing, now and later."""
        if not self._is_open or self._gone is not None:
            return
        self._gone = gone
        self._relay_scope.cancel(reason=f"the {gone} is gone")
        if gone in self._streams:
            close_stream(self._streams[gone], reset=False)
        self.conditions.ledger.count(cut=1)

    async def _reach_target(self, connect: Callable[[], Awaitable[trio.SocketStream]]) -> None:
        """Connect to the target; what was switched meanwhile is done to the new stream as well.

        Not given up when the connection ends: the target may have accepted already, and must then be told.
        """
        try:
            with trio.fail_after(CONNECT_SECONDS):
                server = await connect()
        except (OSError, trio.TooSlowError):
            self.conditions.ledger.count(unreachable=1)
            self.end(reset=True)
            return
        self._streams["server"] = server
        if not self._is_open or self._gone == "server":
            close_stream(server, reset=self._is_reset)

    async def _relay(self) -> None:
        client, server = self._streams["client"], self._streams["server"]
        up = Flow(self, "up", client, server)
        down = Flow(self, "down", server, client)
        up.opposite, down.opposite = down, up
        try:
            with self._relay_scope:
                async with trio.open_nursery() as nursery:
                    for flow in (up, down):
                        nursery.start_soon(flow.read)
                        nursery.start_soon(flow.write)
        finally:
            up.close()
            down.close()

    async def _stay_silent(self, gone: End) -> None:
        """Swallow what the end that is left says, until it ends."""
        left = self._streams["client" if gone == "server" else "server"]
        direction = _TOWARDS[gone]
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while content := await left.receive_some(CHUNK_BYTES):
                self.conditions.ledger.count(**{f"swallowed_{direction}": len(content)})
