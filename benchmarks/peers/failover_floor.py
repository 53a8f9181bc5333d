"""The least that a hand-over takes: no lease, no renewal, no answer that may be lost, only the messages.

On Redis: DEL and PUBLISH in one process; in the other a blocked SUBSCRIBE, then SET NX PX and one
compare-and-set in PostgreSQL. On PostgreSQL alone: NOTIFY; a blocked LISTEN, then the compare-and-set.
"""

from __future__ import annotations

from typing import Any

import psycopg
import redis

from benchmarks.peers.failover_desk import Desk, block_end_signal, serve

KEEP_MS = 3_600_000
SEEN = "SELECT token FROM floor_fence WHERE name = %s"
TAKE = """
UPDATE floor_fence SET holder = %s, token = token + 1 WHERE name = %s AND token = %s RETURNING token
"""


class Fence:
    """The compare-and-set that both floors have in common."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.connection: psycopg.Connection[Any] = psycopg.connect(
            desk.postgres_url, autocommit=True
        )
        self.connection.execute(
            "INSERT INTO floor_fence (name) VALUES (%s) ON CONFLICT DO NOTHING", (desk.lease,)
        )
        self._seen = 0

    def look(self) -> int:
        """Read the token, which is 0 before the first tenure."""
        [self._seen] = self.connection.execute(SEEN, (self._desk.lease,)).fetchone() or (0,)
        return self._seen

    def take(self) -> None:
        """Move the token by one; it must be what `look` saw."""
        values = (str(self._desk.node), self._desk.lease, self._seen)
        assert self.connection.execute(TAKE, values).fetchone() is not None


def contend_on_redis(desk: Desk, client: redis.Redis, fence: Fence) -> None:
    """Hold and hand over once."""
    channel = f"{desk.lease}:free"
    with client.pubsub(ignore_subscribe_messages=False) as ear:
        ear.subscribe(channel)
        ear.parse_response(block=True)  # the server's word that it listens
        fence.look()
        desk.tell("waiting")
        while not client.set(desk.lease, desk.node, nx=True, px=KEEP_MS):
            ear.parse_response(block=True)
        fence.take()
    serve(desk, lambda: True)
    with client.pipeline(transaction=False) as pipe:
        pipe.delete(desk.lease).publish(channel, "").execute()


def contend_on_postgres(desk: Desk, ear: psycopg.Connection[Any], fence: Fence) -> None:
    """Hold and hand over once; who comes first finds the token at 0."""
    is_first = fence.look() == 0
    ear.execute("LISTEN floor")
    desk.tell("waiting")
    if not is_first:
        for _ in ear.notifies(stop_after=1):
            pass
    fence.take()
    ear.execute("UNLISTEN floor")
    serve(desk, lambda: True)
    fence.connection.execute("NOTIFY floor")


def main() -> None:
    block_end_signal()
    desk = Desk()
    fence = Fence(desk)
    client = redis.Redis.from_url(desk.redis_url)
    client.ping()
    with psycopg.connect(desk.postgres_url, autocommit=True) as ear:
        desk.open()
        while True:
            desk.wait_to_contend()
            if desk.system == "floor-redis":
                contend_on_redis(desk, client, fence)
            else:
                contend_on_postgres(desk, ear, fence)
            desk.tell("ended")


if __name__ == "__main__":
    main()
