"""Around every request: its id, the drain, the time limit, headers, the log line and the counters.

Plain ASGI rather than the framework's hooks: it costs less, and it also sees what the framework does not.
"""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import structlog
import trio

from sercha.roles.api import metrics
from sercha.roles.api.client import Clients
from sercha.roles.api.connections import WHOLE_BYTES_MAX, whole_answer
from sercha.roles.api.context import ApiOptions
from sercha.roles.api.problems import INTERNAL, JSON, problem_body
from sercha.roles.api.traffic import Traffic

Scope = Any
Message = Any
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


LINGER = 2.0
"""Seconds for the rest of a request that was answered before its end."""
CLOSE_TIME = 5.0
"""Seconds for the last message of an answer."""

_ALWAYS_ANSWERED = frozenset(
    prefix + path
    for prefix in ("", "/api/v1")
    for path in ("/health", "/ready", "/version", "/metrics")
)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_SECURITY: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
]
_CORS_ALLOWED: Headers = [
    (b"access-control-allow-methods", b"GET, POST, PUT, DELETE"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, Idempotency-Key, Last-Event-ID, X-Request-Id, X-Setup-Token",
    ),
    (b"access-control-max-age", b"600"),
]
_CORS_EXPOSED = (
    b"access-control-expose-headers",
    b"Idempotency-Replayed, Retry-After, X-Request-Id",
)

_RETRY_AFTER = (b"retry-after", b"1")

_log = structlog.get_logger()


@dataclass(slots=True)
class Note:
    """What the application tells the edge about the running request."""

    limit: trio.CancelScope
    """Limits the request's time."""
    route: str = "none"
    """The pattern of the route that answers."""


_note: ContextVar[Note] = ContextVar("sercha.request_note")


def current_note() -> Note:
    """Return the note of the running request."""
    return _note.get()


@dataclass(slots=True)
class _Exchange:
    """One request and what was answered so far."""

    scope: Scope
    receive: Receive
    send: Send
    request_id: bytes
    cors: Headers
    headers: dict[bytes, bytes]
    client: str
    """The client's address, as far as it is known."""
    note: Note
    is_draining: Callable[[], bool]
    status: int = 0
    is_ended: bool = False
    """All of the answer's content was passed on."""
    is_lost: bool = False
    """The client went away before it had the answer, or does not read."""
    _kept: list[Message] = field(default_factory=list[Message])
    """The beginning of an answer that is to leave in one write."""
    request_ended: trio.Event = field(default_factory=trio.Event)
    started_at: float = field(default_factory=trio.current_time)

    async def take(self) -> Message:
        """Receive a message of the request."""
        message = await self.receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.request_ended.set()
        return message

    async def relay(self, message: Message) -> None:
        """Pass a message of the application's answer on.

        Before the last one, it waits for the rest of the request, which the application goes on receiving:
        closing on a client that still sends would take the answer away from it.
        """
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            with trio.move_on_after(LINGER):
                await self.request_ended.wait()
        await self._pass(message)

    async def _pass(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            given: Headers = list(message.get("headers", ()))
            headers = given + self._added({name for name, _ in given})
            message = {**message, "headers": headers}
            if _length(headers) <= WHOLE_BYTES_MAX:
                self._kept = [message]
                return
        elif self._kept and message.get("more_body", False):
            self._kept.append(message)
            if sum(len(each["body"]) for each in self._kept[1:]) < _length(
                self._kept[0]["headers"]
            ):
                return
            # What follows carries nothing: a client that leaves now has its answer.
            self.is_ended = True
            await self._send_whole()
            return
        if message.get("more_body", False) or message["type"] == "http.response.start":
            await self.send(message)
            return
        self.is_ended = True
        # The server closes the connection within this call, after it has told the application that the
        # client is gone, which cancels the application: without the shield the connection would stay open.
        with trio.move_on_after(CLOSE_TIME, shield=True):
            await self._send_whole(message)

    async def _send_whole(self, *last: Message) -> None:
        messages, self._kept = [*self._kept, *last], []
        try:
            async with whole_answer(self.scope):
                for message in messages:
                    await self.send(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.is_lost = True

    def _added(self, given: set[bytes]) -> Headers:
        ours: Headers = [(b"x-request-id", self.request_id), *_SECURITY, *self.cors]
        if self.is_draining() and self.scope.get("http_version", "1.1").startswith("1"):
            ours.append((b"connection", b"close"))
        return [header for header in ours if header[0] not in given]

    async def answer(
        self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]]
    ) -> None:
        """Answer in place of the application, which has ended or was not asked, unless it has begun to."""
        if self._kept:  # begun, but nobody has seen it
            self.status, self._kept = 0, []
        if self.status:
            return
        head = list(headers)
        if status != HTTPStatus.NO_CONTENT:
            head.append((b"content-length", b"%d" % len(body)))
        if self.scope["method"] == "HEAD":
            body = b""
        await self._pass({"type": "http.response.start", "status": status, "headers": head})
        await self._pass({"type": "http.response.body", "body": body, "more_body": True})
        with trio.move_on_after(LINGER):
            while not self.request_ended.is_set():
                await self.take()
        await self._pass({"type": "http.response.body", "body": b"", "more_body": False})

    async def refuse(
        self, status: int, code: str, message: str, *headers: tuple[bytes, bytes]
    ) -> None:
        """Answer with a problem, unless the application has begun to answer."""
        kind = (b"content-type", JSON.encode())
        await self.answer(status, problem_body(code, message), [kind, *headers])


class Edge:
    """An ASGI application around another."""

    def __init__(self, app: Application, traffic: Traffic, options: ApiOptions) -> None:
        self._app = app
        self._traffic = traffic
        self._options = options
        self._origins = frozenset(origin.encode() for origin in options.cors_allowed_origins)
        self._clients = Clients(options.trusted_proxies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; the time limit and a client that goes away cancel what is under way."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = self._exchange(scope, receive, send)
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id.decode()):
            try:
                await self._serve(exchange)
            finally:
                _finish(exchange)

    async def _serve(self, exchange: _Exchange) -> None:
        is_refusable = exchange.scope["path"] not in _ALWAYS_ANSWERED
        if self._traffic.is_draining and is_refusable:
            await self._refuse_draining(exchange)
        elif self._traffic.answering >= self._options.requests_max and is_refusable:
            await self._refuse_overload(exchange)
        elif _is_preflight(exchange):
            await exchange.answer(204, b"", _CORS_ALLOWED if exchange.cors[1:] else ())
        else:
            with self._traffic.request():
                await self._serve_bounded(exchange)

    async def _serve_bounded(self, exchange: _Exchange) -> None:
        limit = exchange.note.limit
        limit.deadline = trio.current_time() + self._options.request_time
        with limit:
            try:
                await self._app(exchange.scope, exchange.take, exchange.relay)
            except Exception:  # noqa: BLE001  the last place that can still answer
                _log.exception("request.failed")
                await exchange.refuse(500, "internal", INTERNAL)
        if limit.cancelled_caught:
            _log.warning("request.timed_out", route=exchange.note.route)
            await exchange.refuse(
                503,
                "request-timeout",
                "this took too long and was given up",
                _RETRY_AFTER,
            )

    async def _refuse_draining(self, exchange: _Exchange) -> None:
        await exchange.refuse(503, "draining", "this process is stopping: ask again", _RETRY_AFTER)

    async def _refuse_overload(self, exchange: _Exchange) -> None:
        note = "this process has too many requests under way: ask again"
        await exchange.refuse(503, "overloaded", note, _RETRY_AFTER)

    def _exchange(self, scope: Scope, receive: Receive, send: Send) -> _Exchange:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8).encode()
        note = Note(trio.CancelScope())
        _note.set(note)
        return _Exchange(
            scope,
            receive,
            send,
            request_id,
            self._cors(headers.get(b"origin")),
            headers,
            self._client(scope),
            note,
            lambda: self._traffic.is_draining,
        )

    def _client(self, scope: Scope) -> str:
        peer: str = (scope.get("client") or ("",))[0]
        forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return self._clients.address(peer, b",".join(forwarded))

    def _cors(self, origin: bytes | None) -> Headers:
        if not self._origins:
            return []
        if b"*" in self._origins:
            return [(b"vary", b"Origin"), (b"access-control-allow-origin", b"*"), _CORS_EXPOSED]
        if origin is None or origin not in self._origins:
            return [(b"vary", b"Origin")]
        return [(b"vary", b"Origin"), (b"access-control-allow-origin", origin), _CORS_EXPOSED]


def _length(headers: Headers) -> float:
    """Return the length that an answer announces; infinite for a stream."""
    return next((int(value) for name, value in headers if name == b"content-length"), math.inf)


def _is_preflight(exchange: _Exchange) -> bool:
    is_asked = (
        b"origin" in exchange.headers and b"access-control-request-method" in exchange.headers
    )
    return exchange.scope["method"] == "OPTIONS" and is_asked


def _finish(exchange: _Exchange) -> None:
    """Log and count; without an answer the client went away, or was cut off (499, as nginx has it)."""
    scope = exchange.scope
    status = exchange.status if exchange.is_ended and not exchange.is_lost else 499
    seconds = trio.current_time() - exchange.started_at
    route = exchange.note.route
    metrics.record(scope["method"], route, status, seconds)
    # Balancers and monitors ask every second or so.
    log = _log.debug if scope["path"] in _ALWAYS_ANSWERED else _log.info
    log(
        "request.finished",
        method=scope["method"],
        route=route,
        status=status,
        duration=round(seconds, 6),
        client=exchange.client,
    )
