"""The least that a durable queue takes: bare statements and messages, without retries, claims that expire, or order.

``redis``: INSERT, XADD, a blocked XREADGROUP, a claim by ids, XACK. ``postgres``: INSERT with NOTIFY, a blocked
LISTEN, a claim by SKIP LOCKED. Both claim and settle in batches, and settle while the next tasks run.
``commit`` does no more than to make a row durable: one INSERT, or one of 100 by unnest; ``copy``: 100 by COPY.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import psycopg
import redis
from psycopg.types.json import Jsonb

from benchmarks.peers.queue_desk import BATCH, Desk, enqueue

STREAM, GROUP = "floor", "floor"
BLOCK_MS = 2_000
UNSETTLED_MAX = 10
"""Batches that wait for their settlement."""

TABLE = """
CREATE TABLE task (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL,
    state text NOT NULL DEFAULT 'queued', owner integer, attempt integer NOT NULL DEFAULT 0
);
CREATE INDEX task_queued ON task (id) WHERE state = 'queued';
CREATE TABLE plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload jsonb NOT NULL);
"""
INSERT = "INSERT INTO task (payload) VALUES (%s) RETURNING id"
INSERT_NOTIFY = (
    "WITH n AS (SELECT pg_notify('floor', '')) INSERT INTO task (payload) SELECT %s FROM n"
)
INSERT_MANY = "INSERT INTO task (payload) SELECT unnest(%s::jsonb[]) RETURNING id"
PLAIN = "INSERT INTO plain (payload) VALUES (%s)"
PLAIN_MANY = "INSERT INTO plain (payload) SELECT unnest(%s::jsonb[])"
PLAIN_COPY = "COPY plain (payload) FROM STDIN"
TAKE = """
UPDATE task SET state = 'running', owner = 1, attempt = attempt + 1
WHERE id = ANY (%s) AND state = 'queued' RETURNING id, payload
"""
TAKE_FIRST = """
UPDATE task SET state = 'running', owner = 1, attempt = attempt + 1
WHERE id = ANY (ARRAY (
    SELECT id FROM task WHERE state = 'queued' ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED))
RETURNING id, payload
"""
SETTLE = (
    "UPDATE task SET state = 'completed' WHERE id = ANY (%s) AND owner = 1 AND state = 'running'"
)

Taken = list[tuple[int, dict[str, float]]]


class Floor:
    """One process's connections."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.pg: psycopg.Connection[Any] = psycopg.connect(desk.postgres_url, autocommit=True)
        self.redis = redis.Redis.from_url(desk.redis_url)

    def add(self, sent: float) -> None:
        """Enqueue one task."""
        payload = Jsonb({"sent": sent})
        if self.desk.variant == "redis":
            row = self.pg.execute(INSERT, [payload]).fetchone()
            assert row is not None
            self.redis.xadd(STREAM, {"id": row[0]})
        elif self.desk.variant == "postgres":
            self.pg.execute(INSERT_NOTIFY, [payload])
        else:
            self.pg.execute(PLAIN, [payload])

    def add_many(self, batch: Sequence[float]) -> None:
        """Enqueue many in one transaction."""
        payloads = [Jsonb({"sent": sent}) for sent in batch]
        if self.desk.variant == "copy":
            with self.pg.cursor() as cursor, cursor.copy(PLAIN_COPY) as copy:
                for payload in payloads:
                    copy.write_row((payload,))
            return
        if self.desk.variant == "commit":
            self.pg.execute(PLAIN_MANY, [payloads])
            return
        ids = self.pg.execute(INSERT_MANY, [payloads]).fetchall()
        if self.desk.variant == "redis":
            with self.redis.pipeline(transaction=False) as pipe:
                for [task_id] in ids:
                    pipe.xadd(STREAM, {"id": task_id})
                pipe.execute()

    def work(self) -> NoReturn:
        """Run tasks until told to stop; a thread settles."""
        done: queue.Queue[list[int]] = queue.Queue(UNSETTLED_MAX)
        threading.Thread(target=self._settle, args=[done], daemon=True).start()
        takes = self._take_entries() if self.desk.variant == "redis" else self._take_first()
        for taken in takes:
            for _, payload in taken:
                self.desk.run(payload["sent"])
            done.put([task_id for task_id, _ in taken])
        raise AssertionError("there is always more to take")

    def prepare_group(self) -> None:
        """Make the stream's group if it is not there."""
        try:
            self.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def _take_entries(self) -> Iterator[Taken]:
        while True:
            found: Any = self.redis.xreadgroup(
                GROUP, f"{id(self)}", {STREAM: ">"}, count=BATCH, block=BLOCK_MS
            )
            for _, entries in found:
                ids = [int(fields[b"id"]) for _, fields in entries]
                taken = self.pg.execute(TAKE, [ids]).fetchall()
                yield taken
                self.redis.xack(STREAM, GROUP, *(entry for entry, _ in entries))

    def _take_first(self) -> Iterator[Taken]:
        with psycopg.connect(self.desk.postgres_url, autocommit=True) as ear:
            ear.execute("LISTEN floor")
            while True:
                if taken := self.pg.execute(TAKE_FIRST, [BATCH]).fetchall():
                    yield taken
                else:
                    for _ in ear.notifies(timeout=BLOCK_MS / 1_000, stop_after=1):
                        pass

    def _settle(self, done: queue.Queue[list[int]]) -> None:
        with psycopg.connect(self.desk.postgres_url, autocommit=True) as connection:
            while True:
                connection.execute(SETTLE, [done.get()])


def main() -> None:
    desk = Desk()
    floor = Floor(desk)
    if desk.command == "prepare":
        desk.wait_go()
        floor.pg.execute(TABLE)
        desk.tell("ended")
    elif desk.command == "work":
        floor.prepare_group()
        desk.go_to_work()
        floor.work()
    else:
        floor.prepare_group()
        enqueue(desk, floor.add, floor.add_many)


if __name__ == "__main__":
    main()
