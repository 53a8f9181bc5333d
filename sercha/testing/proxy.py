"""A TCP proxy that fails on demand, to put between a client and a server such as Redis or PostgreSQL.

    async with open_proxy("127.0.0.1", 5432, seed=7) as proxy:
        connection = await connect(proxy.host, proxy.port)
        proxy.lose_next_reply()
        ...                      # the server acts, the client is cut off before it hears of it
        proxy.heal()

Switches are plain calls without a checkpoint: they may be used by any task of the same run, hold for what is
not delivered yet, and add up. `FaultProxy.heal` takes all of them back. Waiting is for events, not for time.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Literal

import trio

from sercha.testing.proxy_connection import Connection, close_stream
from sercha.testing.proxy_state import (
    Conditions,
    Cut,
    Direction,
    Directions,
    End,
    Faults,
    ProxyStatistics,
)

CONNECTIONS_MAX = 256
"""Connections at a time; more wait in the listener's backlog until one has ended."""


class FaultProxy:
    """Made by `open_proxy`. The faults of one direction do not concern the other.

    The same seed and the same traffic give the same faults. What counts as the same: connections accepted in
    the same order, with their bytes read in the same portions, as they are when requests and replies alternate.
    """

    def __init__(self, listener: trio.SocketListener, target: tuple[str, int] | str, seed: int):
        address = listener.socket.getsockname()
        self.host: str = address[0]
        self.port: int = address[1]
        self.seed = seed
        self._listener = listener
        self._target = target
        self._conditions = Conditions(seed)
        self._connections: set[Connection] = set()
        self._numbers = count(1)
        self._permits = trio.Semaphore(CONNECTIONS_MAX)
        self._newcomers: Literal["relay", "refuse", "ignore"] = "relay"

    def __repr__(self) -> str:
        target = self._target if isinstance(self._target, str) else ":".join(map(str, self._target))
        return f"<FaultProxy {self.host}:{self.port} -> {target}, seed={self.seed}>"

    # What goes wrong from now on, until `heal`.

    def delay(self, seconds: float, *, jitter: float = 0.0, direction: Directions = "both") -> None:
        """Deliver bytes *seconds* after they were read, and up to *jitter* seconds later; order is kept.

        A delay, not a rate: what is under way is under way together, up to the bound of the buffers (256 KiB
        for each direction of a connection, then the sender has to wait). 0 ends an earlier delay or `hold`.
        """
        _check(seconds >= 0 and jitter >= 0, "a delay and its jitter are seconds from 0 up")
        edit = partial(replace, delay=seconds, jitter=jitter)
        self._conditions.change(direction, edit)

    def hold(self, direction: Directions = "both") -> None:
        """Deliver nothing and lose nothing: a break in the network that TCP survives. It replaces a `delay`."""
        self.delay(float("inf"), direction=direction)

    def black_hole(self, direction: Directions = "both") -> None:
        """Swallow all bytes, and the end of the stream too; connections stay open."""
        self._conditions.change(direction, lambda faults: replace(faults, is_black_hole=True))

    def drop_randomly(self, probability: float, *, direction: Directions = "both") -> None:
        """Before each chunk, the bytes of one read, close its connection with this probability."""
        _check(0 <= probability <= 1, "a probability is between 0 and 1")
        edit = partial(replace, drop_probability=probability)
        self._conditions.change(direction, edit)

    def cut_after(
        self, n: int, direction: Direction, *, reset: bool = False, times: int | None = None
    ) -> None:
        """Deliver *n* more bytes in this direction of each connection and close both its ends.

        The *n* count from now, or from a connection's start. With 0 the first byte that should be delivered is
        what closes; until then the connection works. *times* is how many connections it may happen to (None:
        any number); *reset* closes by RST, which may cost the receiver bytes that it has not read yet. A new
        call takes the place of an earlier one for the same direction.
        """
        _check(n >= 0 and (times is None or times >= 1), "n is at least 0 and times at least 1")
        cut = Cut(n, reset, times)
        self._conditions.change(direction, lambda faults: replace(faults, cut=cut))

    def lose_next_reply(self, *, reset: bool = False) -> None:
        """Let requests arrive, and close the connection of the next reply before its first byte; once."""
        self.cut_after(0, "down", reset=reset, times=1)

    def refuse_new(self) -> None:
        """Close new connections as soon as they are accepted."""
        self._newcomers = "refuse"

    def ignore_new(self) -> None:
        """Accept new connections, tell the target nothing of them, swallow their bytes and stay silent."""
        self._newcomers = "ignore"

    # What happens now, to the connections that there are; new ones are not concerned.

    def half_open(self, gone: End = "server") -> None:
        """Close this end of each connection and tell the other nothing, as if the cable had been pulled.

        The other end's bytes are swallowed, and when it closes the connection is over.
        """
        for connection in list(self._connections):
            connection.lose(gone)

    def cut(self) -> None:
        """Close both ends of each connection in an orderly way, as a process does that exits."""
        for connection in list(self._connections):
            connection.cut(reset=False)

    def reset(self) -> None:
        """Close both ends of each connection by RST; bytes that a peer has not read yet may be lost to it."""
        for connection in list(self._connections):
            connection.cut(reset=True)

    def heal(self) -> None:
        """Take all faults back.

        Bytes that were delayed or held are delivered at once, in order. A connection that cannot go on is
        reset instead: bytes or an end of it were swallowed, an end is gone, or it was ignored.
        """
        self._newcomers = "relay"
        for connection in list(self._connections):
            if connection.is_beyond_healing:
                connection.cut(reset=True)
        self._conditions.change("both", lambda _: Faults())

    # What has happened.

    def statistics(self) -> ProxyStatistics:
        """Count what there is now."""
        return self._conditions.ledger.now

    async def wait_until(self, condition: Callable[[ProxyStatistics], bool]) -> None:
        """Return once *condition* holds; it is looked at again after each change of the statistics.

        A state that passes at once (``open``, ``held_*``) may be missed. Cancellation changes nothing.
        """
        await self._conditions.ledger.wait_until(condition)

    async def wait_bytes(
        self, direction: Direction, n: int, *, since: ProxyStatistics | None = None
    ) -> None:
        """Return when *n* bytes have been delivered since this call, or *since* earlier statistics.

        Swallowed bytes do not count; for them use `wait_until`. Cancellation changes nothing.
        """
        name = f"bytes_{direction}"
        goal = getattr(since or self.statistics(), name) + n
        await self.wait_until(lambda now: getattr(now, name) >= goal)

    async def wait_connections(self, n: int, *, since: ProxyStatistics | None = None) -> None:
        """Return when *n* connections have been accepted since this call, or *since* earlier statistics.

        Those refused or ignored count too. Cancellation changes nothing.
        """
        goal = (since or self.statistics()).accepted + n
        await self.wait_until(lambda now: now.accepted >= goal)

    async def _accept(self, nursery: trio.Nursery) -> None:
        while True:
            await self._permits.acquire()
            client = await self._listener.accept()
            number = next(self._numbers)
            self._conditions.ledger.count(accepted=1)
            if self._newcomers == "relay":
                self._start(number, client, None, nursery)
                continue
            self._conditions.ledger.count(refused=1)
            if self._newcomers == "ignore":
                self._start(number, client, "server", nursery)
            else:
                close_stream(client, reset=False)
                self._permits.release()

    def _start(
        self, number: int, client: trio.SocketStream, gone: End | None, nursery: trio.Nursery
    ) -> None:
        connection = Connection(number, client, self._conditions, gone=gone)
        self._connections.add(connection)
        nursery.start_soon(self._serve, connection)

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run(self._connect)
        finally:
            self._connections.remove(connection)
            self._permits.release()

    async def _connect(self) -> trio.SocketStream:
        if isinstance(self._target, str):
            return await trio.open_unix_socket(self._target)
        return await trio.open_tcp_stream(*self._target)


@asynccontextmanager
async def open_proxy(
    target_host: str = "127.0.0.1",
    target_port: int | None = None,
    *,
    target_path: str | os.PathLike[str] | None = None,
    seed: int = 0,
    listen_host: str = "127.0.0.1",
) -> AsyncGenerator[FaultProxy]:
    """Listen on a free port of *listen_host* for the block, and relay to the target.

    The target, a TCP port or the Unix socket at *target_path*, need not be there yet: a client whose target
    cannot be reached within 10 s is reset. Whatever ends the block, also cancellation, all connections are
    cut and the port is closed. The block's own errors leave as they are, in no group.

    Raises:
        ValueError: not exactly one of *target_port* and *target_path* is given.
        OSError: *listen_host* is no address of this machine.
    """
    target = _one_target(target_host, target_port, target_path)
    listener, *others = await trio.open_tcp_listeners(0, host=listen_host)
    for other in others:  # a name with several addresses: each has a port of its own
        other.socket.close()
    proxy = FaultProxy(listener, target, seed)
    failure: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(proxy._accept, nursery)  # pyright: ignore[reportPrivateUsage]
            try:
                yield proxy
            except Exception as error:  # noqa: BLE001  raised again below, outside of the nursery
                failure = error
            nursery.cancel_scope.cancel(reason="the proxy's block has ended")
    finally:
        listener.socket.close()
    if failure is not None:
        raise failure


def _one_target(
    host: str, port: int | None, path: str | os.PathLike[str] | None
) -> tuple[str, int] | str:
    if port is not None and path is None:
        return host, port
    if path is not None and port is None:
        return os.fspath(path)
    raise ValueError("give either target_port or target_path")


def _check(is_fine: bool, message: str) -> None:
    if not is_fine:
        raise ValueError(message)
