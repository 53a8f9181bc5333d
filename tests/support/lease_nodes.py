"""Starting, stopping and listening to the processes of `tests.support.lease_node`."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from lockd.postgres import TrioConnection, create_tables
from tests.support.docs import ROOT
from tests.support.lease_node import SCHEMA, STALE

Event = dict[str, Any]


@dataclass
class Node:
    """One process and what it has told."""

    number: int
    process: trio.Process
    events: list[Event] = field(default_factory=list)
    told: trio.Event = field(default_factory=trio.Event)
    held: set[str] = field(default_factory=set)
    """Names of the leases that it believes to hold."""

    async def listen(self) -> None:
        assert self.process.stdout is not None
        rest = b""
        async for chunk in self.process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._note(json.loads(line))

    def _note(self, event: Event) -> None:
        self.events.append(event)
        if event["event"] == "lease.acquired":
            self.held.add(event["name"])
        elif event["event"] in ("lease.lost", "lease.released", "lease.release_failed"):
            self.held.discard(event["name"])
        self.told.set()
        self.told = trio.Event()

    async def wait_for(self, kind: str, since: int = 0, **details: object) -> Event:
        """Return the first event of that kind from position *since* on."""
        while True:
            told = self.told
            for event in self.events[since:]:
                if event["event"] == kind and details.items() <= event.items():
                    return event
            await told.wait()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


class Cluster:
    """Several nodes on the same servers, and the ledger of their effects."""

    def __init__(self, nursery: trio.Nursery, postgres: str, redis: str | None, ttl: float) -> None:
        self._nursery = nursery
        self.postgres = postgres
        self.redis = redis
        self.ttl = ttl
        self.nodes: list[Node] = []

    async def start(
        self,
        *names: str,
        seed: int,
        postgres: str | None = None,
        redis: str | None = None,
        options: Sequence[str] = (),
    ) -> Node:
        """Start a node that contends for *names*; addresses other than the cluster's lead through proxies."""
        number = len(self.nodes)
        command = [sys.executable, "-m", "tests.support.lease_node", "--node", str(number)]
        command += ["--postgres", postgres or self.postgres, "--ttl", str(self.ttl)]
        command += ["--seed", str(seed + number), *options]
        if redis or self.redis:
            command += ["--redis", redis or self.redis or ""]
        for name in names:
            command += ["--name", name]
        process = await trio.lowlevel.open_process(command, stdout=-1, cwd=ROOT)
        node = Node(number, process)
        self.nodes.append(node)
        self._nursery.start_soon(node.listen)
        await node.wait_for("node.started")
        return node

    async def holder_of(self, name: str) -> Node:
        """Return the node that believes to hold *name*, when one does."""
        while True:
            told = [node.told for node in self.nodes]
            for node in self.nodes:
                if name in node.held and node.process.returncode is None:
                    return node
            await _any(told)

    async def number(self, query: str) -> int:
        """Run a query on the ledger and return its number."""
        connection = await TrioConnection[Any].connect(self.postgres, autocommit=True)
        try:
            row = await (await connection.execute(query.encode())).fetchone()
        finally:
            connection.finish()
        assert row is not None
        return int(row[0])

    async def stale_effects(self) -> int:
        """Count the effects that were committed after a newer holder had taken the fence."""
        return await self.number(STALE)

    async def assert_slots_are_whole(self) -> None:
        """Each slot has exactly one effect, and there is no gap."""
        gaps = """SELECT count(*) FROM slot_counter c
                  WHERE next <> (SELECT count(*) FROM effect e WHERE e.name = c.name)"""
        assert await self.number(gaps) == 0

    async def effects(self) -> int:
        """Count all effects."""
        return await self.number("SELECT count(*) FROM effect")

    async def stop(self) -> None:
        """End all nodes in order; one that does not end is killed."""
        for node in self.nodes:
            if node.process.returncode is None:
                node.signal(signal.SIGCONT)
                node.signal(signal.SIGTERM)
        with trio.move_on_after(20):
            for node in self.nodes:
                await node.process.wait()
        for node in self.nodes:
            if node.process.returncode is None:
                node.process.kill()


async def _any(events: Sequence[trio.Event]) -> None:
    async with trio.open_nursery() as nursery:

        async def wait(event: trio.Event) -> None:
            await event.wait()
            nursery.cancel_scope.cancel()

        for event in events:
            nursery.start_soon(wait, event)


@asynccontextmanager
async def open_cluster(
    postgres: str, redis: str | None, *names: str, ttl: float
) -> AsyncIterator[Cluster]:
    """Make the tables, then nodes may be started; all have ended when the block has."""
    connection = await TrioConnection[Any].connect(postgres, autocommit=True)
    try:
        await create_tables(connection)
        await connection.execute(SCHEMA.encode())
        await connection.execute(
            b"INSERT INTO slot_counter SELECT unnest(%s::text[])", (list(names),)
        )
    finally:
        connection.finish()
    async with trio.open_nursery() as nursery:
        cluster = Cluster(nursery, postgres, redis, ttl)
        try:
            yield cluster
        finally:
            with trio.CancelScope(shield=True):
                await cluster.stop()
        nursery.cancel_scope.cancel()
