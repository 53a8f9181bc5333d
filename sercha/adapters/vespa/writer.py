"""Writes documents: many at once, each id's in order, each until Vespa has taken it.

What is met how, after the behaviour of Vespa's own feed clients, with time-outs and 5xx retried in addition, since
every write here may be repeated:

- 200 and 412 are done; 412 says that a newer version is there;
- 429: fewer at once, again after a moment, without end;
- no answer, 503: again, `TRIES_MAX` times in all, then the writing fails as a whole and begins anew later;
- 500, 502, 504: the same, with fewer tries;
- 507: the cluster is full. Writes that free nothing fail as a whole, with the code ``index-full``;
- any other: this document is refused. It is logged and counted, and holds up nobody.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus

import structlog
import trio

from sercha.adapters.vespa.connections import ConnectionFailed
from sercha.adapters.vespa.containers import Containers
from sercha.adapters.vespa.messages import Reply, Request
from sercha.adapters.vespa.throttle import Throttle
from sercha.errors import Transient, Unavailable
from sercha.services.backoff import Backoff
from sercha.telemetry import metrics

SERVER_TIME = 20.0
"""Seconds that Vespa may take for one write."""
CLIENT_TIME = 1.1 * SERVER_TIME + 1.0
TRIES_MAX = 10
SERVER_ERROR_TRIES_MAX = 4
FULL_PAUSE = 30.0
"""Seconds after which a full cluster is asked again."""

_DONE = frozenset({HTTPStatus.OK, HTTPStatus.PRECONDITION_FAILED})
_AGAIN = frozenset(
    {HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT}
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Write:
    """One operation on one document."""

    name: str
    """The document; operations with the same name are carried out in the order of their submission."""
    make: Callable[[], Awaitable[Request]]
    """Makes the request, when its turn has come: what waits is small."""


class Writer:
    """Takes writes while its block lasts; made by `open_writer`."""

    def __init__(self, containers: Containers, throttle: Throttle, nursery: trio.Nursery) -> None:
        self._containers = containers
        self._throttle = throttle
        self._nursery = nursery
        self._last: dict[str, trio.Event] = {}
        self.failure: Transient | None = None
        """What ended the writing before its end."""

    async def submit(self, write: Write) -> None:
        """Begin a write as soon as there is room for it.

        Raises:
            Transient: an earlier write of this block failed.
        """
        # Taken here and given back by the write's own task: what is submitted is bounded, whoever submits.
        token = object()
        await self._throttle.slots.acquire_on_behalf_of(token)
        if self.failure is not None:
            self._throttle.slots.release_on_behalf_of(token)
            raise self.failure
        before, done = self._last.get(write.name), trio.Event()
        self._last[write.name] = done
        self._nursery.start_soon(self._carry_out, write, token, before, done)

    async def _carry_out(
        self, write: Write, token: object, before: trio.Event | None, done: trio.Event
    ) -> None:
        try:
            if before is not None:
                await before.wait()
            await self._try_until_done(write)
        except Transient as error:
            # One failure speaks for all: the others are under way to the same cluster.
            self.failure = self.failure or error
            self._nursery.cancel_scope.cancel()
        finally:
            done.set()
            if self._last.get(write.name) is done:
                del self._last[write.name]
            self._throttle.slots.release_on_behalf_of(token)

    async def _try_until_done(self, write: Write) -> None:
        request = await write.make()
        delays = Backoff(base=0.05, cap=5.0)
        failures = 0
        while True:
            try:
                reply = await self._containers.send(request, seconds=CLIENT_TIME)
            except ConnectionFailed as error:
                metrics.VESPA_WRITES.labels("none").inc()
                failures, allowed, why = failures + 1, TRIES_MAX, str(error)
            else:
                metrics.VESPA_WRITES.labels(str(reply.status)).inc()
                if self._is_done(write, reply):
                    return
                why = reply.message
                if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
                    self._throttle.note_overload()
                    allowed = TRIES_MAX
                else:
                    failures += 1
                    allowed = (
                        TRIES_MAX
                        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE
                        else SERVER_ERROR_TRIES_MAX
                    )
            if failures >= allowed:
                raise Unavailable(f"Vespa did not take {write.name}: {why}", code="vespa-away")
            await trio.sleep(delays.next())

    def _is_done(self, write: Write, reply: Reply) -> bool:
        if reply.status in _DONE:
            self._throttle.note_success()
            return True
        if reply.status == HTTPStatus.INSUFFICIENT_STORAGE:
            raise Transient(
                f"Vespa has no room: {reply.message}", code="index-full", retry_after=FULL_PAUSE
            )
        if reply.status in _AGAIN or reply.status in {
            HTTPStatus.TOO_MANY_REQUESTS,
            HTTPStatus.SERVICE_UNAVAILABLE,
        }:
            return False
        metrics.VESPA_REFUSED.inc()
        _log.error(
            "vespa.document_refused",
            document=write.name,
            status=reply.status,
            reason=reply.message[:500],
        )
        return True


@asynccontextmanager
async def open_writer(containers: Containers, throttle: Throttle) -> AsyncGenerator[Writer]:
    """Write within the block; at its end everything submitted has been taken.

    Cancelled, or when the block raises, what is under way is given up: it may have been carried out or not.

    Raises:
        Transient: Vespa is away (``vespa-away``) or full (``index-full``), for longer than is waited for here.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        writer = Writer(containers, throttle, nursery)
        try:
            yield writer
        except Exception as error:  # noqa: BLE001  raised again below, outside of the nursery
            failure = error
            nursery.cancel_scope.cancel("the block has failed")
    failure = writer.failure or failure
    if failure is not None:
        raise failure
