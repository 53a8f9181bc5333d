"""The ASGI application of one port: records requests, applies faults, sends answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import trio

from tests.vespa.connections import STATE, Connection
from tests.vespa.control import CONTROL_PREFIX, Control
from tests.vespa.fault_answers import fault_answer
from tests.vespa.faults import REQUEST_KINDS, Fault
from tests.vespa.messages import Request, Streamed
from tests.vespa.model import Answer
from tests.vespa.record import RecordedRequest
from tests.vespa.routing import AnswerTo
from tests.vespa.state import State

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
_HTTP2_KINDS = frozenset({"goaway-before", "goaway-during", "goaway-after"})
_FIRST_KINDS = frozenset({"overload", "unavailable", "internal", "timeout"})


class Disconnected(Exception):
    """The client has gone before its request was read."""


class PortApplication:
    """What hypercorn calls for each request of a port."""

    def __init__(
        self,
        state: State,
        name: str,
        container: int | None,
        answer: AnswerTo,
        control: Control | None = None,
    ) -> None:
        self._state = state
        self._name = name
        self._container = container
        self._answer = answer
        self._control = control

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one request, or the events of the server's life."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            connection: Connection = scope["state"][STATE]
            connection.begin()
            try:
                await self._serve(scope, receive, send, connection)
            except Disconnected:
                pass
            except Exception as error:
                self._state.crashes.append(error)
                raise
            finally:
                await connection.end()

    async def _serve(
        self, scope: Any, receive: Receive, send: Send, connection: Connection
    ) -> None:
        if connection.refuses(scope):
            await _until_gone(receive)
            return
        raw_path = scope["raw_path"].decode("latin-1")
        query = scope["query_string"].decode("latin-1")
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        if self._control is not None and raw_path.startswith(CONTROL_PREFIX):
            body, _ = await _body(receive, self._state.limits.body_bytes)
            answer = await self._control.answer(scope["method"], raw_path, body)
            await _send(send, _parts(answer), answer)
            return
        recorded = self._state.requests.begin(
            self._name, scope["method"], raw_path, query, headers, scope["http_version"]
        )
        exchange = _Exchange(self._state, recorded, connection, send)
        try:
            kinds = REQUEST_KINDS - {"full"}
            if scope["http_version"] != "2":
                kinds -= _HTTP2_KINDS
            fault = self._state.faults.take(kinds, scope["method"], raw_path, self._container)
            body, size = await _body(receive, self._state.limits.body_bytes)
            self._state.requests.read(recorded, body, size)
            if connection.refuses(scope):
                await _until_gone(receive)
                return
            request = Request(
                scope["method"], raw_path, query, headers, body, size, self._container
            )
            await exchange.answer(request, fault, self._answer, scope, receive)
        finally:
            exchange.end(None)


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, state: State, recorded: RecordedRequest, connection: Connection, send: Send
    ) -> None:
        self._state = state
        self._recorded = recorded
        self._connection = connection
        self._send_event = send

    def end(self, status: int | None) -> None:
        """Record the end, once: before the client can know of it."""
        if self._recorded.ended is None:
            self._state.requests.end(self._recorded, status)

    async def answer(
        self,
        request: Request,
        fault: Fault | None,
        answer_to: AnswerTo,
        scope: Any,
        receive: Receive,
    ) -> None:
        kind = fault.kind if fault else ""
        if fault is None:
            await self._send(answer_to(request))
        elif kind in _FIRST_KINDS:
            if fault.variant == "applied":
                answer_to(request)
            await trio.sleep(fault.delay)
            await self._send(fault_answer(fault, request))
        elif kind == "reset-before":
            self.end(None)
            self._connection.reset()
        elif kind == "reset-after":
            answer_to(request)
            await trio.sleep(fault.delay)
            self.end(None)
            self._connection.reset()
        elif kind == "truncate":
            await self._send_cut(answer_to(request), fault)
        elif kind == "goaway-before":
            self.end(None)
            await self._connection.go_away(self._connection.stream_id(scope) - 1)
            await _until_gone(receive)
        elif kind == "goaway-during":
            await self._connection.go_away()
            await self._send(answer_to(request))
        elif kind == "goaway-after":
            await self._send(answer_to(request))
            await self._connection.go_away()
        else:
            answer = answer_to(request)
            await trio.sleep(fault.delay)
            await self._send(answer)

    async def _send(self, answer: Answer | Streamed) -> None:
        await _send(self._send_event, _parts(answer), answer, before_last=self.end)

    async def _send_cut(self, answer: Answer | Streamed, fault: Fault) -> None:
        """Send the first bytes of the body only."""
        left = fault.size
        parts: list[bytes] = []
        for part in _parts(answer):
            parts.append(part[:left])
            left -= len(parts[-1])
            if not left:
                break
        headers = tuple(each for each in answer.headers if each[0] != "content-length")
        cut = Streamed(answer.status, headers, iter(parts))
        if fault.is_clean:
            await self._send(cut)
            return
        start = {"type": "http.response.start", "status": cut.status, "headers": _raw(cut.headers)}
        await self._send_event(start)
        for part in parts:
            await self._send_event({"type": "http.response.body", "body": part, "more_body": True})
        self.end(answer.status)
        self._connection.reset()


async def _live(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def _body(receive: Receive, maximum: int) -> tuple[bytes, int]:
    """The body, as far as it is not too large, and its size."""
    body, size = bytearray(), 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Disconnected
        part = event.get("body", b"")
        size += len(part)
        if size <= maximum:
            body += part
        if not event.get("more_body", False):
            return bytes(body), size


async def _until_gone(receive: Receive) -> None:
    """Never answer: end when the connection is closed."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _parts(answer: Answer | Streamed) -> Iterator[bytes]:
    return answer.parts if isinstance(answer, Streamed) else iter([answer.body])


def _raw(headers: tuple[tuple[str, str], ...]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def _send(
    send: Send,
    parts: Iterator[bytes],
    answer: Answer | Streamed,
    *,
    before_last: Callable[[int], None] = lambda status: None,
) -> None:
    """Send an answer; *before_last* is called before the client has all of it."""
    headers = _raw(answer.headers)
    part = next(parts, b"")
    following = next(parts, None)
    if isinstance(answer, Answer) and answer.status != 204:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    if following is None:
        before_last(answer.status)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    while following is not None:
        await send({"type": "http.response.body", "body": part, "more_body": True})
        part, following = following, next(parts, None)
    before_last(answer.status)
    await send({"type": "http.response.body", "body": part, "more_body": False})
