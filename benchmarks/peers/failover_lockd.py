"""Contenders by lockd: on Redis with the fence in PostgreSQL, or on PostgreSQL alone."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any
from uuid import uuid4

import psycopg
import trio
import trio.lowlevel

import lockd
from benchmarks.peers.failover_desk import ACQUISITION, ACT, Desk
from lockd.postgres import TrioConnection, open_postgres_fence, open_postgres_store
from lockd.redis import open_redis_store

RECONNECT_SECONDS = 0.05
ORDINARY = (lockd.EventKind.WAITING, lockd.EventKind.ACQUIRED, lockd.EventKind.RENEWED)


class Node:
    """One process's tenures, one after another."""

    def __init__(self, desk: Desk, store: lockd.LeaseStore) -> None:
        self._desk = desk
        self._store = store
        self._ending = trio.Event()
        self._is_waiting = False
        self._trio_token = trio.lowlevel.current_trio_token()
        signal.signal(signal.SIGUSR1, self._end)

    async def contend(self) -> str | None:
        """Hold the lease once, until the signal or the loss; why it was lost, if it was."""
        self._ending, self._is_waiting = trio.Event(), False
        hold = partial(lockd.hold, ttl=self._desk.ttl, random=self._desk.random)
        try:
            async with hold(self._store, self._desk.lease, observe=self._observe) as lease:
                tenure = uuid4().hex
                self._desk.tell("acquired", tenure=tenure, token=lease.token)
                if self._desk.acts:
                    await self._act_until_lost(lease, tenure)
                await self._ending.wait()
        except lockd.LeaseLost as error:
            return error.reason.value
        return None

    def _observe(self, event: lockd.LeaseEvent) -> None:
        if event.kind is lockd.EventKind.WAITING and not self._is_waiting:
            self._is_waiting = True
            self._desk.tell("waiting")
        if event.kind not in ORDINARY:  # for whoever asks why a run took long
            words = (self._desk.node, event.kind.value, event.reason, event.error)
            print(
                f"{time.monotonic():.3f}",
                *(word for word in words if word is not None),
                file=sys.stderr,
            )

    def _end(self, _: int, __: FrameType | None) -> None:
        self._desk.tell("ending")
        self._trio_token.run_sync_soon(lambda: self._ending.set())

    async def _act_until_lost(self, lease: lockd.Lease, tenure: str) -> None:
        is_recorded = False
        while True:
            try:
                async with connected(self._desk.postgres_url) as connection:
                    if not is_recorded:
                        await connection.execute(ACQUISITION.encode(), self._desk.row(tenure))
                        is_recorded = True
                    while True:
                        await self._act(lease, connection, tenure)
            except psycopg.Error:
                # The server ends the session of one who stood still inside of a transaction.
                await trio.sleep(RECONNECT_SECONDS)

    async def _act(self, lease: lockd.Lease, connection: TrioConnection[Any], tenure: str) -> None:
        async with lease.fenced(connection):
            time.sleep(self._desk.work_seconds())  # noqa: ASYNC251  in place of computing
            await connection.execute(ACT.encode(), self._desk.row(tenure))


@asynccontextmanager
async def connected(conninfo: str) -> AsyncGenerator[TrioConnection[Any]]:
    connection = await TrioConnection[Any].connect(conninfo, autocommit=True)
    try:
        yield connection
    finally:
        connection.finish()


@asynccontextmanager
async def open_store(desk: Desk) -> AsyncGenerator[lockd.LeaseStore]:
    if desk.system == "lockd-postgres":
        async with open_postgres_store(desk.postgres_url) as store:
            yield store
        return
    async with (
        open_postgres_fence(desk.postgres_url) as fence,
        open_redis_store(desk.redis_url, fence=fence, random=desk.random) as store,
    ):
        yield store


async def main() -> None:
    desk = Desk()
    async with open_store(desk) as store:
        node = Node(desk, store)
        desk.open()
        while True:
            await trio.to_thread.run_sync(desk.wait_to_contend, abandon_on_cancel=True)
            reason = await node.contend()
            desk.tell("ended", reason=reason)


if __name__ == "__main__":
    trio.run(main)
