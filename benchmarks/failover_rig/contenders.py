"""The processes of `benchmarks.peers`, in pairs: one holds, the other waits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import trio

from benchmarks.failover_rig.servers import ROOT, Lab
from benchmarks.failover_rig.systems import TTL_SECONDS, System
from benchmarks.peers.failover_desk import POSTGRES_VARIABLE, REDIS_VARIABLE

SETTLE_SECONDS = 30
"""How long a pair may take until one holds and the other waits."""
START_SECONDS = 60
STATES = {
    "started": "idle",
    "waiting": "waiting",
    "acquired": "holding",
    "ending": "ending",
    "ended": "idle",
}


class PairFailed(Exception):
    """A pair did not do what it should in time, or a process of it ended by itself."""


class Contender:
    """One process, and what it has told last."""

    def __init__(self, node: int, process: trio.Process, note: Callable[[], None]) -> None:
        self.node = node
        self.process = process
        self.state = "starting"
        self._note = note
        self._told_at: dict[str, float] = {}

    async def listen(self) -> None:
        """Take in its events until it has ended."""
        assert self.process.stdout is not None
        rest = b""
        try:
            async for chunk in self.process.stdout:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._hear(json.loads(line))
        except trio.ClosedResourceError:
            pass
        self.state = "gone"
        self._note()

    def told_at(self, event: str, since: float) -> float | None:
        """Return when it last told this event, if that was after *since*."""
        at = self._told_at.get(event)
        return at if at is not None and at >= since else None

    async def contend(self) -> None:
        """Let it contend once more."""
        assert self.process.stdin is not None
        self.state = "contending"
        try:
            await self.process.stdin.send_all(b"contend\n")
        except trio.BrokenResourceError:
            self.state = "gone"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self.process.returncode is None:
            os.kill(self.process.pid, number)

    async def end(self) -> None:
        """Kill it and wait for its end."""
        self.signal(signal.SIGKILL)
        await self.process.wait()

    def _hear(self, event: dict[str, Any]) -> None:
        self._told_at[event["event"]] = event["at"]
        self.state = STATES[event["event"]]
        self._note()


class Pair:
    """Two contenders of one system, for one lease."""

    def __init__(
        self, nursery: trio.Nursery, lab: Lab, system: System, *, acts: bool, seed: int
    ) -> None:
        self.system = system
        self._nursery = nursery
        self._lab = lab
        self._acts = acts
        self._seed = seed
        self._leases = count(1)
        self._lease = ""
        self._changed = trio.Event()
        self._nodes: dict[int, Contender] = {}

    async def end(self) -> None:
        """Kill both; `settled` starts two others."""
        with trio.CancelScope(shield=True):
            for contender in self._nodes.values():
                await contender.end()
        self._nodes.clear()

    async def replace(self, contender: Contender) -> None:
        """Kill one if it is still there, and start another in its place."""
        await contender.end()
        await self._start(contender.node)

    async def settled(self) -> tuple[Contender, Contender]:
        """Let both contend until one holds and the other waits; return them in this order.

        Without processes it starts two, for a lease that nobody has had before.

        Raises:
            PairFailed: it does not come to that.
        """
        if not self._nodes:
            kind = "acts" if self._acts else "idle"
            self._lease = f"failover-{self.system.name}-{kind}-{next(self._leases)}"
            await self._start(0)
            await self._start(1)
        both = list(self._nodes.values())
        with trio.move_on_after(SETTLE_SECONDS):
            while True:
                states = {contender.state for contender in both}
                if states == {"holding", "waiting"}:
                    holder, waiter = sorted(both, key=lambda it: it.state)
                    return holder, waiter
                if "gone" in states:
                    raise PairFailed(f"a process has ended: {self.last_words()}")
                changed = self._changed
                idle = [contender for contender in both if contender.state == "idle"]
                if idle and ("holding" in states or len(idle) == 2):
                    await idle[0].contend()
                else:
                    await changed.wait()
        raise PairFailed(f"not settled: {[contender.state for contender in both]}")

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for something to be so after an event; False when it took too long."""
        with trio.move_on_after(seconds):
            while not condition():
                await self._changed.wait()
            return True
        return condition()

    def last_words(self) -> str:
        """Return the end of what its processes wrote to standard error."""
        return self._log.read_text(errors="replace")[-1_500:] if self._log.exists() else ""

    @property
    def _log(self) -> Path:
        return self._lab.folder / f"{self.system.name}.log"

    def _note(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _start(self, node: int) -> None:
        python = self._lab.peers_python if self.system.is_peer else sys.executable
        self._seed += 1
        command: list[str | Path] = [python or sys.executable, "-m", self.system.module]
        command += ["--system", self.system.name, "--lease", self._lease, "--node", str(node)]
        command += ["--ttl", str(TTL_SECONDS), "--seed", str(self._seed)]
        command += ["--acts"] if self._acts else []
        addresses = {
            REDIS_VARIABLE: self._lab.redis_url,
            POSTGRES_VARIABLE: self._lab.postgres_url,
        }
        with self._log.open("ab") as log:
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log.fileno(),
                cwd=ROOT,
                env={**os.environ, **addresses},
                start_new_session=True,  # Ctrl-C is for us; they end with their standard input
            )
        contender = self._nodes[node] = Contender(node, process, self._note)
        self._nursery.start_soon(contender.listen)
        if not await self.until(lambda: contender.state != "starting", START_SECONDS):
            raise PairFailed(f"not started within {START_SECONDS} s: {self.last_words()}")


@asynccontextmanager
async def open_pairs(
    lab: Lab, systems: Sequence[System], *, acts: bool, seed: int
) -> AsyncGenerator[list[Pair]]:
    """Give a pair of each system for the block; no process of them is left after it."""
    async with trio.open_nursery() as nursery:
        pairs = [
            Pair(nursery, lab, system, acts=acts, seed=seed + 1_000 * number)
            for number, system in enumerate(systems, 1)
        ]
        try:
            yield pairs
        finally:
            for pair in pairs:
                await pair.end()
            nursery.cancel_scope.cancel()
