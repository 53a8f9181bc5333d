"""Events as they happen, as server-sent events: a stream that ends and is begun again without missing any."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from random import Random
from types import TracebackType
from typing import Any, cast
from uuid import UUID

import trio
from quart import Blueprint, Response, request
from quart.wrappers.response import ResponseBody

from sercha.domain.account import Role
from sercha.errors import Forbidden, SerchaError, Transient, Unauthenticated
from sercha.roles.api.context import ApiServices, current_state
from sercha.roles.api.edge import current_note
from sercha.roles.api.operations import (
    EVENT_STREAM,
    Operation,
    bearer_token,
    caller_of,
    declare,
    note_route,
)
from sercha.roles.api.parsing import Nothing, OptionalText, RequestModel, parse_query
from sercha.roles.api.shapes import Instant, Shape
from sercha.roles.api.traffic import Traffic
from sercha.services.events import EventBatch, Watch
from sercha.services.ports.events import Event, EventPosition
from sercha.services.waiting import until_any

blueprint = Blueprint("events", __name__)

HEARTBEAT = 15.0
"""Seconds between signs of life; with each, whether the caller may still listen is asked again."""
CHECK_TIME = 5.0
"""Seconds that this question may take; without an answer it is asked again with the next heartbeat."""
SEND_TIME = 30.0
"""Seconds for a client to take one part of the stream."""
RETRY_MS = (1_000, 3_000)
"""Milliseconds after which a client is to come back: spread, since all are cut off together."""
RETRY_DRAIN_MS = (100, 1_000)

_ROLE = Role.MEMBER
_random = Random()


class EventsQuery(RequestModel):
    """Where to begin; the header ``Last-Event-ID`` goes before."""

    after: OptionalText = None


class EventData(Shape):
    """Ours: what happened."""

    event_id: str
    """Names the event: one that comes again has the same."""
    type: str
    at: Instant
    subject_id: UUID | None = None
    """The source or schedule."""
    data: dict[str, Any]


@blueprint.get("/events")
@declare(
    Operation("Follow what happens", EventData, 200, _ROLE, Nothing, EventsQuery, (), EVENT_STREAM)
)
async def follow_events() -> Response:
    """Stream events after ``Last-Event-ID`` or ``after``, without either from now on."""
    note_route()
    state = current_state()
    services = cast("ApiServices", state.services)
    token = bearer_token()
    role = await _role(services, token)
    query = parse_query(request.args, EventsQuery)
    start = await services.events.start(request.headers.get("Last-Event-ID") or query.after)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(b"", content_type=EVENT_STREAM, headers=headers)
    # Refused while it can be: the body, which counts itself, begins after the head was sent.
    with state.traffic.stream(services.options.streams_max):
        limit = current_note().limit
    stream = _EventStream(services, state.traffic, limit, token, role, start)
    return Response(stream, content_type=EVENT_STREAM, headers=headers)


class _EventStream(ResponseBody):
    """The body of one answer. Cancelled, as when the client goes away, it leaves nothing behind."""

    def __init__(
        self,
        services: ApiServices,
        traffic: Traffic,
        limit: trio.CancelScope,
        token: str,
        role: Role,
        start: EventPosition,
    ) -> None:
        self._services = services
        self._traffic = traffic
        self._limit = limit
        self._token = token
        self._role = role
        self._start = start
        self._stack = ExitStack()
        self._watch: Watch | None = None
        self._beat_at = 0.0
        self._is_over = False
        self._is_away = False

    async def __aenter__(self) -> _EventStream:
        self._stack.enter_context(self._traffic.stream(sys.maxsize))
        self._watch = self._stack.enter_context(self._services.events.watching(self._start))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        # The usual limit is for a whole answer; of this one it goes for sending each part.
        self._limit.deadline = math.inf
        if self._is_over:
            raise StopAsyncIteration
        content = await self._next()
        self._limit.deadline = trio.current_time() + SEND_TIME
        return content

    async def _next(self) -> bytes:
        watch = self._watch
        assert watch is not None
        if not self._beat_at:
            self._plan_beat()
            return _frame(f"retry: {_random.randint(*RETRY_MS)}", f"id: {self._start}")
        while True:
            if self._traffic.is_draining:
                self._is_over = True
                retry = f"retry: {_random.randint(*RETRY_DRAIN_MS)}"
                return _frame("event: reconnect", retry, "data: {}")
            if watch.is_ended:
                self._is_over = True
                return _frame("event: reconnect", "data: {}")
            if trio.current_time() >= self._beat_at:
                return await self._beat(watch)
            batch = await self._batch(watch)
            if batch is not None:
                return self._frames(batch)
            # After a failure there is something to read at once: not before the next heartbeat.
            arrived = () if self._is_away else (watch,)
            await until_any(self._beat_at - trio.current_time(), *arrived, _Drain(self._traffic))

    async def _batch(self, watch: Watch) -> EventBatch | None:
        try:
            batch = await watch.read()
        except Transient:
            self._is_away = True
            return None
        self._is_away = False
        return batch

    async def _beat(self, watch: Watch) -> bytes:
        """Return a sign of life, or say that the caller may not listen any more."""
        self._plan_beat()
        self._is_away = False
        try:
            with trio.move_on_after(CHECK_TIME):
                self._role = await _role(self._services, self._token)
        except Transient:
            pass
        except (Unauthenticated, Forbidden) as error:
            self._is_over = True
            return _frame("event: end", f"data: {_problem(error)}")
        position = self._services.events.position
        if watch.is_level and position is not None:
            return _frame(": alive", f"id: {position}")
        return _frame(": alive")

    def _plan_beat(self) -> None:
        self._beat_at = trio.current_time() + HEARTBEAT * _random.uniform(0.75, 1.0)

    def _frames(self, batch: EventBatch) -> bytes:
        """Write a batch; its position stands with the last event, so that a cut repeats rather than misses."""
        frames = [_event_frame(event) for event in batch.events if self._may_see(event)]
        if batch.is_reset:
            frames.append(["event: reset", "data: {}"])
        if batch.position is not None:
            if not frames:
                frames.append([])
            frames[-1].insert(0, f"id: {batch.position}")
        return b"".join(_frame(*lines) for lines in frames) or _frame(": more")

    def _may_see(self, event: Event) -> bool:
        """Whether the caller may read what the event is about by other operations, too."""
        return self._role is Role.ADMIN or not event.type.startswith("schedule.")


class _Drain:
    """The drain, to be waited for."""

    def __init__(self, traffic: Traffic) -> None:
        self.wait: Callable[[], Any] = traffic.wait_drain


async def _role(services: ApiServices, token: str) -> Role:
    return (await caller_of(services, token, _ROLE)).user.role


def _event_frame(event: Event) -> list[str]:
    data = EventData(
        event_id=str(event.id),
        type=event.type,
        at=event.at,
        subject_id=event.subject,
        data=event.data,
    )
    return [f"event: {event.type}", f"data: {data.model_dump_json(exclude_none=True)}"]


def _problem(error: SerchaError) -> str:
    return json.dumps({"error": error.message, "code": error.error_code})


def _frame(*lines: str) -> bytes:
    return ("\n".join(lines) + "\n\n").encode()
