"""Requests to Redis from any Trio task: the asyncio loop behind them, and lanes of connections.

The loop runs in a task of its own, so that neither an asyncio loop around the caller nor the caller's place in
the tree of tasks matters. That task is shielded: what is cancelled is the single request, and the loop ends
with the block that opened it.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import trio
import trio_asyncio
from redis.exceptions import NoScriptError, ResponseError

from lockd._redis_address import RedisAddress
from lockd._redis_link import FAILURES, Command, RedisLink, explain, open_socket
from lockd._redis_scripts import Script
from lockd._redis_sentinel import check_role, find_master

T = TypeVar("T")

REQUEST_SECONDS = 5.0
"""How long a request may take in all: waiting for a connection, connecting, and the reply."""

_log = logging.getLogger("lockd")


class RedisClient:
    """Links to one server. Whatever is wrong with the server or the way to it is a `StoreUnreachable`.

    Once `run` has ended, every request raises ``trio.ClosedResourceError``, those under way too.
    """

    def __init__(self, address: RedisAddress, connections_max: int) -> None:
        if connections_max < 1:
            raise ValueError("connections_max must be at least 1")
        self.address = address
        self.ready = trio.Event()
        """Set when requests can be made."""
        self.answered = trio.Event()
        """Set by the first answer."""
        self.requests = RedisLane(self, connections_max)
        self.releases = RedisLane(self, connections_max)
        """Apart from the others, so that a release waits for nothing but releases."""
        self._links: set[RedisLink] = set()
        self._loop: Any = None  # trio-asyncio has no types

    async def run(self, *tasks: Callable[[], Awaitable[object]]) -> None:
        """Run the loop, and *tasks* in it, until cancelled; then close everything."""
        async with trio_asyncio.open_loop() as loop:
            loop.set_exception_handler(_log_unhandled)
            self._loop = loop
            try:
                async with trio.open_nursery() as nursery:
                    for task in tasks:
                        nursery.start_soon(task)
                    self.ready.set()
                    await trio.sleep_forever()
            finally:
                self._loop = None
                for link in list(self._links):
                    self.drop(link)

    async def request(self, *commands: Command) -> list[Any]:
        """Send *commands* in the common lane: see `RedisLane.request`."""
        return await self.requests.request(*commands)

    def open_lane(self, connections_max: int) -> RedisLane:
        """Make a lane apart from the others, for requests that block. It ends with the client."""
        return RedisLane(self, connections_max)

    async def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a link's coroutine in the loop. Cancellation cancels it, and waits for its end."""
        if self._loop is None:
            coroutine.close()
            raise _closed()
        try:
            return await self._loop.run_aio_coroutine(coroutine)
        except asyncio.CancelledError:  # not by us: the loop has ended
            raise _closed() from None
        except FAILURES as error:
            if self._loop is None:
                raise _closed() from None
            raise explain(self.address, error) from None

    async def open_link(self) -> RedisLink:
        """Connect and log in, to the master behind Sentinels. The caller sets a limit, and drops the link."""
        if not self.address.sentinels:
            return await self._open_link(self.address)
        master = await find_master(self.address, self._ask)
        link = await self._open_link(master)
        try:
            check_role(master, await self._answer(link, ("ROLE",)))
        except BaseException:
            self.drop(link)
            raise
        return link

    async def _ask(self, address: RedisAddress, command: Command) -> object:
        """Send one command over a link of its own."""
        link = await self._open_link(address)
        try:
            return await self._answer(link, command)
        finally:
            self.drop(link)

    async def _answer(self, link: RedisLink, command: Command) -> object:
        replies = await self.call(link.exchange([command]))
        if replies is None or isinstance(replies[0], ResponseError):
            raise explain(
                self.address, replies[0] if replies else "the connection was closed at once"
            )
        return replies[0]

    async def _open_link(self, address: RedisAddress) -> RedisLink:
        try:
            sock = await open_socket(address)
        except OSError as error:
            raise explain(address, error) from None
        link = RedisLink(address, sock)
        self._links.add(link)
        try:
            await self.call(link.connect())
        except BaseException:
            self.drop(link)
            raise
        return link

    def drop(self, link: RedisLink) -> None:
        """Close a link. No checkpoint."""
        self._links.discard(link)
        link.abort()


class RedisLane:
    """Connections for one kind of request. One that failed or was cancelled closes its connection.

    The idle ones are closed with it, since what broke one has probably broken them: a way that swallows
    packets, a master that became a replica. So the next attempt connects anew.
    """

    def __init__(self, client: RedisClient, connections_max: int) -> None:
        self._client = client
        self._permits = trio.Semaphore(connections_max)
        self._idle: list[RedisLink] = []

    async def request(self, *commands: Command) -> list[Any]:
        """Send *commands* at once and return their replies; `REQUEST_SECONDS` at most, never sent twice.

        `NoScriptError` is a reply. Cancelled, or without an answer, they may have been carried out.
        """
        with trio.move_on_after(REQUEST_SECONDS):
            async with self._permits:
                return await self._exchange(commands)
        raise explain(self._client.address, f"no answer within {REQUEST_SECONDS:g} s")

    async def run(self, script: Script, key: str, *arguments: str | int) -> int:
        """Run a script on its one key, whose reply is a number."""
        reply = await self.evaluate(script, key, *arguments)
        if not isinstance(reply, int):
            raise explain(self._client.address, f"a reply that makes no sense: {reply!r}")
        return reply

    async def evaluate(self, script: Script, key: str, *arguments: str | int) -> Any:
        """Run a script on its one key; its text is sent only to a server that does not know it."""
        rest = (1, key, *arguments)
        [reply] = await self.request(("EVALSHA", script.sha, *rest))
        if isinstance(reply, NoScriptError):
            [reply] = await self.request(("EVAL", script.text, *rest))
        return reply

    async def _exchange(self, commands: tuple[Command, ...]) -> list[Any]:
        try:
            replies = await self._first_answer(commands)
        except BaseException:
            self._drop_idle()
            raise
        for reply in replies:
            if isinstance(reply, ResponseError) and not isinstance(reply, NoScriptError):
                self._drop_idle()
                raise explain(self._client.address, reply)
        self._client.answered.set()
        return replies

    async def _first_answer(self, commands: tuple[Command, ...]) -> list[Any]:
        """Use the first connection that is still there, or a new one."""
        while self._idle:
            replies = await self._use(self._idle.pop(), commands)
            if replies is not None:
                return replies
        replies = await self._use(await self._client.open_link(), commands)
        if replies is None:
            raise explain(self._client.address, "the connection was closed at once")
        return replies

    async def _use(self, link: RedisLink, commands: tuple[Command, ...]) -> list[Any] | None:
        """Return None when the link had ended; nothing was sent then."""
        replies: list[Any] | None = None
        try:
            replies = await self._client.call(link.exchange(commands))
        finally:
            if replies is None:
                self._client.drop(link)
        if replies is not None:
            self._idle.append(link)
        return replies

    def _drop_idle(self) -> None:
        while self._idle:
            self._client.drop(self._idle.pop())


def _closed() -> trio.ClosedResourceError:
    return trio.ClosedResourceError("the block of this store has been left")


def _log_unhandled(_: object, context: dict[str, Any]) -> None:
    """Take note of what no coroutine was there to hear; trio-asyncio would end the program."""
    _log.warning("redis: %s", context.get("message"), exc_info=context.get("exception"))
