"""One subscription for all waiters of a store.

A waiter is *armed* when the server has confirmed the subscription of its channel; from then on it misses no
release. When the connection is lost all are disarmed, and as soon as they are armed again each is woken once,
since a release may have been missed. Notices are a short cut: waiters poll as well.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import trio

from lockd._errors import StoreUnreachable
from lockd._redis_client import REQUEST_SECONDS, RedisClient
from lockd._redis_link import Command, RedisLink, explain

ARM_SECONDS = 2.0
"""How long a block may wait for its subscription before it starts without; more than `RETRY_SECONDS_MAX`."""
PING_SECONDS = 10.0
"""A subscription is tried out this often, and given up after as long without an answer."""
RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 1.0

_log = logging.getLogger("lockd")


class Waiter:
    """Satisfies `lockd.Notices`."""

    def __init__(self) -> None:
        self.settled = trio.Event()
        """Set when it is armed for the first time, or has started without."""
        self.noticed = trio.Event()

    async def wait(self) -> None:
        """Return when there was a notice since the start or the last return; cancelled, it forgets none."""
        await self.noticed.wait()
        self.noticed = trio.Event()


class Notifier:
    """Subscribes to what waiters wait for, while anybody waits; `run` does the work."""

    def __init__(self, client: RedisClient, random: Random) -> None:
        self._client = client
        self._random = random
        self._waiters: dict[str, set[Waiter]] = {}
        self._sent: set[str] = set()
        """Channels that the connection has been told to subscribe to."""
        self._unconfirmed: Counter[str] = Counter()
        self._armed: set[str] = set()
        self._heard_at = 0.0
        self._changed = trio.Event()

    @asynccontextmanager
    async def listen(self, channel: str) -> AsyncGenerator[Waiter]:
        """Wait for messages on *channel* within the block, armed from its start on if Redis is there."""
        waiter = Waiter()
        self._waiters.setdefault(channel, set()).add(waiter)
        self._changed.set()
        try:
            if channel in self._armed:
                await trio.lowlevel.checkpoint()
            else:
                with trio.move_on_after(ARM_SECONDS):
                    await waiter.settled.wait()
            waiter.settled.set()
            yield waiter
        finally:
            self._waiters[channel].discard(waiter)
            if not self._waiters[channel]:
                del self._waiters[channel]
                self._changed.set()

    async def run(self) -> None:
        """Keep the subscription while anybody waits, until cancelled."""
        failures = 0
        while True:
            while not self._waiters:
                self._changed = trio.Event()
                await self._changed.wait()
            try:
                await self._connect_and_listen()
            except StoreUnreachable as error:
                failures = 1 if self._armed else failures + 1
                self._disarm()
                _log.log(logging.INFO if failures == 1 else logging.DEBUG, "no notices: %s", error)
                longest = min(RETRY_SECONDS_MAX, RETRY_SECONDS_MIN * 2.0 ** min(failures - 1, 10))
                await trio.sleep(longest * (0.5 + 0.5 * self._random.random()))
            else:
                self._disarm()

    async def _connect_and_listen(self) -> None:
        """Return when nobody has been waiting for a while; otherwise raise what went wrong."""
        link: RedisLink | None = None
        with trio.move_on_after(REQUEST_SECONDS):
            link = await self._client.open_link()
        if link is None:
            raise explain(self._client.address, f"no connection within {REQUEST_SECONDS:g} s")
        self._heard_at = trio.current_time()
        failures: list[StoreUnreachable] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_subscribed, link, nursery.cancel_scope)
                try:
                    while True:
                        self._hear(await self._client.call(link.receive()))
                except StoreUnreachable as error:
                    failures.append(error)
                nursery.cancel_scope.cancel()
        finally:
            self._client.drop(link)
        if failures:  # not from inside the nursery, which would wrap it
            raise failures[0]

    async def _keep_subscribed(self, link: RedisLink, listening: trio.CancelScope) -> None:
        asked_at = 0.0
        while True:
            self._changed = trio.Event()
            now = trio.current_time()
            is_quiet = now - self._heard_at >= PING_SECONDS
            is_asked = asked_at > self._heard_at
            if is_quiet and not self._waiters:
                listening.cancel(reason="nobody waits")
                return
            if is_asked and now - asked_at >= PING_SECONDS:
                break
            commands = self._changes()
            if is_quiet and not is_asked:
                commands.append(("PING",))
                asked_at = now
            if commands and not await self._has_sent(link, commands):
                break
            with trio.CancelScope(deadline=max(asked_at, self._heard_at) + PING_SECONDS):
                await self._changed.wait()
        self._client.drop(link)  # the reader gets an error from it

    async def _has_sent(self, link: RedisLink, commands: list[Command]) -> bool:
        with trio.move_on_after(REQUEST_SECONDS):
            try:
                await self._client.call(link.send(commands))
            except StoreUnreachable:
                return False
            return True
        return False

    def _changes(self) -> list[Command]:
        """Return what makes the subscription what is wanted now."""
        commands: list[Command] = []
        wanted = set(self._waiters)
        if new := sorted(wanted - self._sent):
            commands.append(("SUBSCRIBE", *new))
            self._unconfirmed.update(new)
        if old := sorted(self._sent - wanted):
            commands.append(("UNSUBSCRIBE", *old))
            self._armed.difference_update(old)
        self._sent = wanted
        return commands

    def _hear(self, message: Any) -> None:
        self._heard_at = trio.current_time()
        match message:
            case [b"message", bytes(channel), _]:
                for waiter in self._waiters.get(channel.decode(), ()):
                    waiter.noticed.set()
            case [b"subscribe", bytes(channel), _]:
                self._confirm(channel.decode())
            case _:  # the end of a subscription, or the answer to PING
                pass

    def _confirm(self, channel: str) -> None:
        self._unconfirmed[channel] -= 1
        if self._unconfirmed[channel] or channel not in self._sent:
            return  # it was unsubscribed, and possibly subscribed again, since then
        self._armed.add(channel)
        for waiter in self._waiters.get(channel, ()):
            if waiter.settled.is_set():
                waiter.noticed.set()  # it may have missed one
            waiter.settled.set()

    def _disarm(self) -> None:
        self._sent.clear()
        self._unconfirmed.clear()
        self._armed.clear()
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.settled.set()
