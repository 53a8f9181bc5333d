"""The containers of a Vespa cluster, each with connections of its own; a request goes to one that is there.

Choice: the container with the fewest requests under way, of those that did not fail just now. One that refused a
connection, broke one or said 503 is left out for one to ten seconds, longer each time; where all are left out, the one
that comes back first is asked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import trio

from sercha.adapters.vespa.connections import ConnectionFailed, ConnectionPool
from sercha.adapters.vespa.messages import Reply, Request
from sercha.services.backoff import Backoff

AWAY_MIN, AWAY_MAX = 1.0, 10.0
"""Seconds for which a container that failed is left out."""


@dataclass(slots=True)
class _Container:
    pool: ConnectionPool
    in_flight: int = 0
    away_until: float = float("-inf")
    backoff: Backoff = field(default_factory=lambda: Backoff(base=2 * AWAY_MIN, cap=AWAY_MAX))

    def leave_out(self) -> None:
        """Not twice for requests that failed together."""
        now = trio.current_time()
        if self.away_until <= now:
            self.away_until = now + self.backoff.next()

    def take_back(self) -> None:
        self.away_until = float("-inf")
        self.backoff.reset()


class Containers:
    """Sends requests to one of several containers; made by `open_containers`."""

    def __init__(self, containers: Sequence[_Container]) -> None:
        self._containers = tuple(containers)

    async def send(self, request: Request, *, seconds: float) -> Reply:
        """Ask one container, once.

        Cancelled, it closes the connection; the server may carry the request out all the same.

        Raises:
            ConnectionFailed: no whole answer within *seconds*.
        """
        container = self._choose()
        container.in_flight += 1
        try:
            with trio.fail_after(seconds):
                reply = await container.pool.request(request)
        except (ConnectionFailed, trio.TooSlowError) as error:
            container.leave_out()
            what = "no answer in time" if isinstance(error, trio.TooSlowError) else str(error)
            raise ConnectionFailed(f"{container.pool.url}: {what}") from error
        finally:
            container.in_flight -= 1
        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
            container.leave_out()
        else:
            container.take_back()
        return reply

    def _choose(self) -> _Container:
        now = trio.current_time()
        here = [each for each in self._containers if each.away_until <= now]
        if here:
            return min(here, key=lambda each: each.in_flight)
        return min(self._containers, key=lambda each: each.away_until)


@asynccontextmanager
async def open_containers(urls: Sequence[str], *, connections: int) -> AsyncGenerator[Containers]:
    """Open *connections* at most to each of *urls*, as they are needed; all are closed when the block ends."""
    pools = [ConnectionPool(url, connections) for url in urls]
    try:
        yield Containers([_Container(pool) for pool in pools])
    finally:
        with trio.CancelScope(shield=True):
            for pool in pools:
                await pool.close()
