"""The network between processes and servers: it delays, loses, doubles and cuts.

Requests are single messages with an answer each. A `Pipe` is a connection: it keeps the order of its messages,
doubles none, and once it lost one it loses all that follow.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

import trio
from outcome import Outcome, Value

from .history import What
from .plan import Fault

if TYPE_CHECKING:
    from .process import Process, Wait
    from .world import World

Reply = Callable[[Outcome[Any]], None]
Execute = Callable[[Reply], None]

_QUEUED = 0.15
"""How often a request waits for a free connection before it is sent."""


class Server(Protocol):
    """What a message can be sent to."""

    name: str

    def arrive(self, execute: Execute, reply: Reply) -> None:
        """Carry out a request, or refuse it."""
        ...


class Pipe:
    """One direction each of a connection."""

    def __init__(self) -> None:
        self.arrives_at = 0.0
        self.is_broken_out = False
        self.is_broken_in = False


class Network:
    """All links."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._agenda = world.agenda
        self._random = Random(f"{world.plan.seed} network")
        self._odds = world.plan.odds
        self.open_requests: dict[Wait, str] = {}
        """Those that somebody waits for."""
        self._cuts: dict[tuple[str, str, Fault], float] = {}
        self._fresh_cuts: set[tuple[str, str, Fault]] = set()
        """Those that have not yet cost a message."""

    async def ask(
        self,
        process: Process,
        server: Server,
        op: str,
        execute: Execute,
        *,
        holder: str = "",
        pipe: Pipe | None = None,
    ) -> Any:
        """Send a request and wait for its answer, for ever if need be."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await process.pass_by(f"send {op}")
        if self._random.random() < _QUEUED:
            queued = process.new_wait()
            self._agenda.after(self._delay(), queued.give, Value(None))
            await queued.park()
        wait = process.new_wait()
        self.send(process, server, op, execute, holder=holder, pipe=pipe, wait=wait)
        self.open_requests[wait] = op
        try:
            return await wait.park()
        finally:
            del self.open_requests[wait]

    def send(
        self,
        process: Process,
        server: Server,
        op: str,
        execute: Execute,
        *,
        holder: str = "",
        pipe: Pipe | None = None,
        wait: Wait | None = None,
    ) -> None:
        """Send a request; *wait* is given the answer."""
        process.check_alive()
        process.record(What.SENT, holder, op=op)
        node = process.node.name
        reply = partial(self._reply, node, server, holder, pipe, wait)
        if pipe is not None and pipe.is_broken_out:
            return
        if self._is_cut(node, server, Fault.CUT_OUT, holder) or self._hits(
            Fault.REQUEST_LOST, holder
        ):
            if pipe is not None:
                pipe.is_broken_out = True
            return
        arrives_at = self._agenda.now + self._delay()
        if self._hits(Fault.REQUEST_LATE, holder):
            arrives_at += self._lateness()
        if pipe is not None:
            pipe.arrives_at = arrives_at = max(arrives_at, pipe.arrives_at)
        elif self._hits(Fault.DUPLICATED, holder):
            again_at = arrives_at + self._random.choice((self._delay(), self._lateness()))
            self._agenda.at(again_at, server.arrive, execute, reply)
        self._agenda.at(arrives_at, server.arrive, execute, reply)

    def push(self, server: Server, node: str, action: Callable[[], None]) -> None:
        """Call *action* on the machine *node*, if the message gets there."""
        if not self._is_cut(node, server, Fault.CUT_IN, "") and not self._hits(
            Fault.REPLY_LOST, ""
        ):
            self._agenda.after(self._delay(), action)

    def cut(self, node: str, server: Server, fault: Fault, seconds: float) -> None:
        """Lose everything in one direction for *seconds*."""
        key = (node, server.name, fault)
        self._cuts[key] = self._agenda.now + seconds
        self._fresh_cuts.add(key)

    def _reply(
        self,
        node: str,
        server: Server,
        holder: str,
        pipe: Pipe | None,
        wait: Wait | None,
        outcome: Outcome[Any],
    ) -> None:
        if wait is None or (pipe is not None and pipe.is_broken_in):
            return
        if self._is_cut(node, server, Fault.CUT_IN, holder) or self._hits(Fault.REPLY_LOST, holder):
            if pipe is not None:
                pipe.is_broken_in = True
            return
        delay = self._delay()
        if self._hits(Fault.REPLY_LATE, holder):
            delay += self._lateness()
        self._agenda.after(delay, wait.give, outcome)

    def _is_cut(self, node: str, server: Server, fault: Fault, holder: str) -> bool:
        key = (node, server.name, fault)
        until = self._cuts.get(key)
        if until is None or until <= self._agenda.now:
            return False
        self._world.hit(fault, holder, is_new=key in self._fresh_cuts)
        self._fresh_cuts.discard(key)
        return True

    def _hits(self, fault: Fault, holder: str) -> bool:
        odds = self._odds.get(fault, 0.0)
        if not odds or self._world.is_quiet or self._random.random() >= odds:
            return False
        self._world.hit(fault, holder)
        return True

    def _delay(self) -> float:
        return 0.0001 + self._random.expovariate(1.0) * self._world.plan.latency

    def _lateness(self) -> float:
        """Return for how long a message is held up: often about as long as requests are waited for."""
        ttl = self._world.plan.ttl
        late = ttl * self._random.choice(
            (self._random.uniform(0.03, 0.3), self._random.uniform(0.3, 2.5))
        )
        left = self._world.plan.quiet_at - self._agenda.now
        return min(late, max(0.0, left) + self._random.random() * 0.1)
