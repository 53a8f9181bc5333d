"""The stores that lockd is given: the two models behind the network, in the two ways the real stores use them.

`SplitStore` keeps leases in the lease server and the fence in the database, as the store for Redis does;
`RowStore` keeps both in the database and takes them in one step, as the store for PostgreSQL does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import trio
from outcome import Value, capture

from lockd import Busy, FenceRow, Granted, Inspection, Notices, Renewal, StoreUnreachable

from .database import ConnectionLost, Database, Session
from .history import What
from .network import Execute, Pipe, Reply, Server
from .rows import Due

if TYPE_CHECKING:
    from .lease_server import LeaseServer
    from .process import Process, Wait
    from .world import World

LEAVE_SECONDS = 5.0
"""How long the end of a transaction is waited for."""
RESUBSCRIBE_SECONDS = 3.0
"""How long a lost subscription takes to be found out and mended."""
ARM_SECONDS = 2.0
"""How long a waiter waits for its subscription before it goes on without."""
KEEPALIVE_SECONDS = 5.0
"""How long the server takes to find out that a client is gone."""


def at_once(act: Callable[..., Any], *arguments: Any) -> Execute:
    """Make a request of what needs no lock."""

    def execute(reply: Reply) -> None:
        reply(capture(act, *arguments))

    return execute


def in_turn(act: Callable[..., None], *arguments: Any, **options: Any) -> Execute:
    """Make a request of what answers when it has its locks."""

    def execute(reply: Reply) -> None:
        act(*arguments, reply=reply, **options)

    return execute


class Connection:
    """A process's connection to the database; a lost one stays lost."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._pipe = Pipe()
        self._session = Session()
        self.is_open = True
        self.is_ready = False
        process.connections[self] = None

    async def open(self) -> None:
        """Connect."""
        await self._ask("connect", at_once(self._world.rows.connect, self._session))
        self.is_ready = True

    async def read(self, most: int) -> Due:
        """Ask what is due."""
        due: Due = await self._ask("read", at_once(self._world.rows.read, self._session, most))
        return due

    async def insert(self, slots: tuple[int, ...]) -> None:
        """Write the outcomes of *slots*, inside of a transaction."""
        await self._ask("insert", in_turn(self._world.rows.insert, self._session, slots))

    @asynccontextmanager
    async def fenced(self, name: str, holder: UUID, token: int) -> AsyncGenerator[Connection]:
        """Open a transaction as `LeaseStore.fenced` says; it ends as lockd's own transactions end."""
        rows = self._world.rows
        await self._ask("begin", in_turn(rows.begin, self._session, name, holder, token))
        try:
            yield self
            await trio.lowlevel.checkpoint_if_cancelled()
        except BaseException:
            if self.is_open:
                with suppress(ConnectionLost, StoreUnreachable):
                    await self._shielded("roll back", at_once(rows.roll_back, self._session))
            raise
        if not self.is_open:
            raise ConnectionLost("lost inside of the transaction")
        await self._shielded("commit", in_turn(rows.commit, self._session))

    def close(self) -> None:
        """Hang up; the server notices by the message, or by keep-alives."""
        if not self.is_open:
            return
        self.is_open = False
        del self._process.connections[self]
        close = partial(self._world.database.close, self._session)
        # A killed process's kernel hangs up for it, unless the machine went with it.
        is_told = not self._process.is_alive and self._process.random.random() < 0.5
        self._world.agenda.after(0.01 if is_told else KEEPALIVE_SECONDS, close)
        if self._process.is_alive:
            self._world.network.send(
                self._process, self._world.database, "hang up", lambda _: close(), pipe=self._pipe
            )

    async def _ask(self, op: str, execute: Execute) -> Any:
        if not self.is_open:
            raise ConnectionLost("closed")
        database = self._world.database
        try:
            return await self._world.network.ask(
                self._process, database, op, execute, pipe=self._pipe
            )
        except (ConnectionLost, StoreUnreachable, trio.Cancelled):
            self.close()
            raise

    async def _shielded(self, op: str, execute: Execute) -> None:
        """Wait for the end of the transaction, in a scope that may be cancelled already."""
        clock = self._process.clock
        deadline = clock.deadline(clock.monotonic() + LEAVE_SECONDS)
        with trio.CancelScope(shield=True, deadline=deadline) as scope:
            await self._ask(op, execute)
        if scope.cancelled_caught:
            raise ConnectionLost(f"no answer to {op}")


class Subscription:
    """Notices of one lease; one that is lost is mended, and then counts as a notice."""

    def __init__(self, process: Process, server: LeaseServer | Database, name: str) -> None:
        self._process = process
        self._name = name
        self._server = server
        self._wait: Wait | None = None
        self._has_notice = False
        self._is_open = True
        self._has_listened = False

    async def arm(self) -> None:
        """Listen from now on; go on without when that takes too long."""
        armed, clock = self._process.new_wait(), self._process.clock
        self._subscribe(armed)
        with trio.CancelScope(deadline=clock.deadline(clock.monotonic() + ARM_SECONDS)):
            await armed.park()

    async def wait(self) -> None:
        """Wait for a notice."""
        self._wait = self._process.new_wait()
        if self._has_notice:
            self._process.world.agenda.at(0.0, self._wait.give, Value(None))
        await self._wait.park()
        self._has_notice = False

    def close(self) -> None:
        """Listen no more."""
        self._is_open = False
        self._server.unlisten(self._notify)

    def _subscribe(self, armed: Wait | None = None) -> None:
        if self._is_open and self._process.is_alive:
            self._process.world.network.send(
                self._process, self._server, "subscribe", self._carry_out, wait=armed
            )
            # Asked again and again: what is lost, or forgotten by a restart, is mended some time.
            self._process.world.agenda.after(
                RESUBSCRIBE_SECONDS * (1 + self._process.random.random() / 3), self._subscribe
            )

    def _carry_out(self, reply: Reply) -> None:
        if not self._is_open:
            return
        is_new = self._server.listen(self._notify, self._name, self._process.node.name)
        reply(Value(None))
        if is_new and self._has_listened:
            self._notify()
        self._has_listened = True

    def _notify(self) -> None:
        self._has_notice = True
        if self._wait is not None:
            self._wait.give(Value(None))


class _Store:
    """What both have in common; satisfies `lockd.LeaseStore` with its children."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world: World = process.world
        self._rows = process.world.rows
        self._database = process.world.database

    async def seen(self, name: str) -> FenceRow:
        """Read the fence."""
        op = "look again" if self._process.is_pending else "seen"
        row: FenceRow = await self._ask(self._database, op, at_once(self._rows.seen, name))
        return row

    async def fence(self, name: str, holder: UUID, seen: int) -> int | None:
        """Move the fence."""
        execute = in_turn(self._rows.fence, name, holder, seen)
        token: int | None = await self._ask(self._database, "fence", execute, holder)
        return token

    def fenced(self, connection: Connection, name: str, holder: UUID, token: int) -> Any:
        """Open a transaction on *connection*."""
        return connection.fenced(name, holder, token)

    async def _ask(
        self, server: Server, op: str, execute: Execute, holder: UUID | None = None
    ) -> Any:
        label = self._world.label(holder) if holder else ""
        return await self._world.network.ask(self._process, server, op, execute, holder=label)

    def _told(self, holder: UUID, answer: Renewal) -> Renewal:
        self._process.record(What.TOLD, self._world.label(holder), answer=answer.value)
        return answer

    @asynccontextmanager
    async def _listen(self, server: LeaseServer | Database, name: str) -> AsyncGenerator[Notices]:
        subscription = Subscription(self._process, server, name)
        try:
            await subscription.arm()
            yield subscription
        finally:
            subscription.close()


class SplitStore(_Store):
    """Leases in the lease server, the fence in the database."""

    def __init__(self, process: Process) -> None:
        super().__init__(process)
        self._leases = process.world.lease_server

    async def acquire(self, name: str, holder: UUID, ttl: float, seen: int) -> Granted | Busy:
        """Take the lease if nobody has it."""
        execute = at_once(self._leases.acquire, name, holder, ttl)
        answer: Granted | Busy = await self._ask(self._leases, "acquire", execute, holder)
        return answer

    async def renew(self, name: str, holder: UUID, ttl: float) -> Renewal:
        """Extend the lease."""
        execute = at_once(self._leases.renew, name, holder, ttl)
        return self._told(holder, await self._ask(self._leases, "renew", execute, holder))

    async def release(self, name: str, holder: UUID) -> bool:
        """Free the lease."""
        execute = at_once(self._leases.release, name, holder)
        was_his: bool = await self._ask(self._leases, "release", execute, holder)
        return was_his

    async def inspect(self, name: str) -> Inspection:
        """Say who holds the lease."""
        left: tuple[UUID, float] | None
        left = await self._ask(self._leases, "inspect", at_once(self._leases.look, name))
        row = await self.seen(name)
        return Inspection(name, left and left[0], left and left[1], row.token)

    async def evict(self, name: str) -> bool:
        """Move the fence, then free the lease."""
        await self._ask(self._database, "evict", in_turn(self._rows.evict_fence, name))
        was_held: bool = await self._ask(self._leases, "evict", at_once(self._leases.evict, name))
        return was_held

    def notices(self, name: str) -> Any:
        """Listen for releases."""
        return self._listen(self._leases, name)


class RowStore(_Store):
    """Leases and fence in the database."""

    async def acquire(self, name: str, holder: UUID, ttl: float, seen: int) -> Granted | Busy:
        """Take the lease and the fence in one step."""
        execute = in_turn(self._rows.acquire, name, holder, ttl, seen)
        answer: Granted | Busy = await self._ask(self._database, "acquire", execute, holder)
        return answer

    async def renew(self, name: str, holder: UUID, ttl: float) -> Renewal:
        """Extend the lease."""
        execute = at_once(self._rows.renew, name, holder, ttl)
        return self._told(holder, await self._ask(self._database, "renew", execute, holder))

    async def release(self, name: str, holder: UUID) -> bool:
        """Free the lease."""
        execute = at_once(self._rows.release, name, holder)
        was_his: bool = await self._ask(self._database, "release", execute, holder)
        return was_his

    async def inspect(self, name: str) -> Inspection:
        """Say who holds the lease."""
        holder, left, token = await self._ask(
            self._database, "inspect", at_once(self._rows.look, name)
        )
        return Inspection(name, holder, left if holder else None, token)

    async def evict(self, name: str) -> bool:
        """Move the fence, then free the lease."""
        await self._ask(self._database, "evict", in_turn(self._rows.evict_fence, name))
        execute = at_once(self._rows.evict_row, name)
        was_held: bool = await self._ask(self._database, "evict", execute)
        return was_held

    def notices(self, name: str) -> Any:
        """Listen for releases."""
        return self._listen(self._database, name)
