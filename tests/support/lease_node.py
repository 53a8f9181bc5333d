"""A process that contends for leases and acts under them; tests stop it, kill it and cut it off.

Each effect takes the next slot of its lease and some milliseconds, so that faults hit the middle of it. What
happens is told on standard output, one JSON object a line, with CLOCK_MONOTONIC, which all processes share.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import trio
import trio.lowlevel

import lockd
from lockd.postgres import TrioConnection, open_postgres_fence, open_postgres_store
from lockd.redis import open_redis_store
from tests.support.hanging import hang

SCHEMA = """
CREATE TABLE slot_counter (name text PRIMARY KEY, next bigint NOT NULL DEFAULT 0);
CREATE TABLE effect (
    name text, slot bigint, token bigint, node integer, PRIMARY KEY (name, slot));
CREATE TABLE takeover (name text, token bigint, slot bigint);
CREATE FUNCTION note_takeover() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO takeover SELECT NEW.name, NEW.token, next FROM slot_counter WHERE name = NEW.name;
    RETURN NULL;
END $$;
CREATE TRIGGER note_takeover AFTER INSERT OR UPDATE ON lease_fence
    FOR EACH ROW EXECUTE FUNCTION note_takeover();
"""
EFFECT = b"""
WITH taken AS (UPDATE slot_counter SET next = next + 1 WHERE name = %s RETURNING *)
INSERT INTO effect SELECT name, next - 1, %s, %s FROM taken
"""
STALE = """
SELECT count(*) FROM effect e JOIN takeover t
    ON t.name = e.name AND t.token > e.token AND e.slot >= t.slot
"""


def tell(event: str, **details: Any) -> None:
    """Write one line."""
    line = json.dumps({"at": time.monotonic(), "event": event, **details})
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def tell_event(event: lockd.LeaseEvent) -> None:
    if event.kind not in (lockd.EventKind.RENEWED, lockd.EventKind.WAITING):
        reason = event.reason and event.reason.value
        tell(event.kind.value, name=event.name, token=event.token, reason=reason, error=event.error)


class Actor:
    """Acts under leases, on one connection for each."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._random = random.Random(options.seed)
        self._blocks = options.block
        self._blocking: psycopg.Connection[Any] | None = None

    async def act_for_ever(self, lease: lockd.Lease) -> None:
        while True:
            try:
                async with self._connected() as connection:
                    while True:
                        await self._act(lease, connection)
            except psycopg.Error as error:
                # The server ends a session that stood still inside of a transaction.
                tell("act.failed", name=lease.name, error=str(error).splitlines()[0])
                await trio.sleep(0.05)

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[TrioConnection[Any]]:
        connection = await TrioConnection[Any].connect(self._options.postgres, autocommit=True)
        try:
            yield connection
        finally:
            connection.finish()

    async def _act(self, lease: lockd.Lease, connection: TrioConnection[Any]) -> None:
        lease.check()
        if self._blocks:
            tell("block.begun", name=lease.name)
            until, self._blocks = self._blocks, None
            hang(until)
            tell("block.ended", name=lease.name)
        if self._options.unfenced:
            self._write_unfenced(lease)
            await trio.sleep(self._random.uniform(0, 0.02))
            return
        async with lease.fenced(connection):
            await self._write(lease, connection)

    async def _write(self, lease: lockd.Lease, connection: TrioConnection[Any]) -> None:
        # As much time goes into computing as into waiting: a stop that hits it is noticed only afterwards.
        time.sleep(self._random.uniform(0, 0.02))  # noqa: ASYNC251
        await connection.execute(EFFECT, (lease.name, lease.token, self._options.node))
        await trio.sleep(self._random.uniform(0, 0.02))

    def _write_unfenced(self, lease: lockd.Lease) -> None:
        """Check, compute, write by a library that knows no checkpoints: what a fence is there for."""
        if self._blocking is None:
            self._blocking = psycopg.connect(self._options.postgres, autocommit=True)
        lease.check()
        time.sleep(self._random.uniform(0, 0.04))
        self._blocking.execute(EFFECT, (lease.name, lease.token, self._options.node))


@asynccontextmanager
async def open_store(options: argparse.Namespace) -> AsyncGenerator[lockd.LeaseStore]:
    if not options.redis:
        async with open_postgres_store(options.postgres) as store:
            yield store
        return
    async with (
        open_postgres_fence(options.postgres) as fence,
        open_redis_store(options.redis, fence=fence) as store,
    ):
        yield store


async def main(options: argparse.Namespace) -> None:
    actor = Actor(options)
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with open_store(options) as store, trio.open_nursery() as nursery:
            lead = partial(lockd.lead, ttl=options.ttl, observe=tell_event)
            for name in options.name:
                nursery.start_soon(partial(lead, store, name, actor.act_for_ever))
            tell("node.started")
            async for _ in signals:
                nursery.cancel_scope.cancel()
                await trio.lowlevel.checkpoint()
    tell("node.ended")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--node", type=int, required=True)
    parser.add_argument("--postgres", required=True)
    parser.add_argument("--redis")
    parser.add_argument("--name", action="append", required=True)
    parser.add_argument("--ttl", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--unfenced", action="store_true")
    parser.add_argument("--block", type=Path, help="hang once, until this file exists")
    return parser.parse_args()


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        trio.run(main, parse())
