"""Declares what a handler takes, gives and demands, once: for the checks and for ``/openapi.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar, cast
from uuid import UUID

import trio
from pydantic import TypeAdapter
from quart import Response, request
from werkzeug.datastructures import Headers

from sercha.domain.account import Role, User
from sercha.domain.document import DocumentId
from sercha.errors import Rejected, SerchaError, Unauthenticated
from sercha.roles.api.context import ApiServices, current_state
from sercha.roles.api.edge import current_note
from sercha.roles.api.parsing import (
    Nothing,
    RequestModel,
    parse_body,
    parse_document_id,
    parse_query,
    parse_uuid,
)
from sercha.roles.api.problems import JSON, refusal_of
from sercha.services.accounts import Caller, require_role
from sercha.services.idempotency import KEPT, Answer, RepeatableRequest
from sercha.services.ports.idempotency import RequestIdentity
from sercha.services.retry import outlasting

BodyT = TypeVar("BodyT", bound=RequestModel)
QueryT = TypeVar("QueryT", bound=RequestModel)
AnswerT = TypeVar("AnswerT")

EVENT_STREAM = "text/event-stream"
KEY_HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"
UNSAFE_METHODS = frozenset({"POST", "PUT", "DELETE", "PATCH"})
KEY_CHARS_MAX = 255

_OPERATION = "__sercha_operation__"
_KEY = re.compile(rf"[!-~]{{1,{KEY_CHARS_MAX}}}")


@dataclass(frozen=True, slots=True)
class Call(Generic[BodyT, QueryT]):
    """One checked request."""

    services: ApiServices
    # Not shown: tracebacks with local variables must not hold tokens and passwords.
    headers: Headers = field(repr=False)
    body: BodyT = field(repr=False)
    query: QueryT
    path: dict[str, str]
    signed_in: Caller | None

    @property
    def caller(self) -> Caller:
        """Who asks; only where the operation demands a role."""
        assert self.signed_in is not None, "the operation is open to everybody"
        return self.signed_in

    @property
    def user(self) -> User:
        """The user who asks."""
        return self.caller.user

    def uuid(self, noun: str) -> UUID:
        """Return the id ``<noun>_id`` of the path; raise `NotFound` for what is none."""
        return parse_uuid(self.path[f"{noun}_id"], noun)

    def document_id(self) -> DocumentId:
        """Return the document's id in the path; raise `NotFound` for what is none."""
        return parse_document_id(self.path["document_id"])


@dataclass(frozen=True, slots=True)
class Operation:
    """What is declared of one operation."""

    summary: str
    answer: object
    """The answer's type; any that pydantic knows."""
    status: int
    role: Role | None
    """The least role; None: open to everybody."""
    body: type[RequestModel]
    query: type[RequestModel]
    errors: tuple[int, ...]
    content_type: str = JSON
    takes_key: bool = False
    """Whether methods that change something take an idempotency key."""


View = Callable[..., Awaitable[Response]]


def operation(
    summary: str,
    answer: type[AnswerT],
    *,
    role: Role | None,
    body: type[BodyT] = Nothing,
    query: type[QueryT] = Nothing,
    status: int = 200,
    errors: tuple[int, ...] = (),
    status_of: Callable[[AnswerT], int] | None = None,
    request_time: float | None = None,
    is_safe: bool = False,
    known_by_body: float | None = None,
) -> Callable[[Callable[[Call[BodyT, QueryT]], Awaitable[AnswerT]]], View]:
    """Make a view of a handler: check the caller, read query and body, serialise the answer.

    *status_of* chooses the status by the answer; *request_time* (seconds) replaces the usual limit.

    With an idempotency key, what another method than GET changes is changed once, and a repeat gets the first
    answer. That does not go for an operation that *is_safe*: it changes nothing, or nothing in the database and
    may be done twice. One that is *known_by_body* needs no key: the same body is the same request for that many
    seconds.
    """
    takes_key = not is_safe and known_by_body is None
    declared = Operation(summary, answer, status, role, body, query, errors, takes_key=takes_key)
    adapter = TypeAdapter[AnswerT](answer)

    def decorate(handler: Callable[[Call[BodyT, QueryT]], Awaitable[AnswerT]]) -> View:
        async def view(**path: str) -> Response:
            note_route()
            if request_time is not None:
                current_note().limit.deadline = trio.current_time() + request_time
            # An application of probes only has no operation that looks further than its services.
            services = cast("ApiServices", current_state().services)
            caller = None if role is None else await outlasting(partial(_caller, services, role))
            call = Call(
                services=services,
                headers=request.headers,
                body=body() if body is Nothing else await parse_body(request, body),
                query=parse_query(request.args, query),
                path=path,
                signed_in=caller,
            )

            async def act() -> Answer:
                given = await handler(call)
                content = adapter.dump_json(given, exclude_none=True)
                return Answer(status if status_of is None else status_of(given), content)

            answer = (
                await outlasting(act) if is_safe else await _answer_once(call, act, known_by_body)
            )
            return _response(answer)

        view.__name__ = handler.__name__
        view.__doc__ = handler.__doc__
        return declare(declared)(view)

    return decorate


def declare(declared: Operation) -> Callable[[View], View]:
    """Declare a view that does without the checks."""

    def decorate(view: View) -> View:
        setattr(view, _OPERATION, declared)
        return view

    return decorate


def note_route() -> None:
    """Tell the edge which route answers, for its counters and log."""
    rule = request.url_rule
    assert rule is not None, "within a view"
    current_note().route = rule.rule


def operation_of(view: object) -> Operation | None:
    """Return what was declared of a view, if anything."""
    return getattr(view, _OPERATION, None)


def bearer_token() -> str:
    """Return the token of the running request; raise `Unauthenticated` where there is none."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("send a token as Authorization: Bearer <token>")
    return token.strip()


async def caller_of(services: ApiServices, token: str, role: Role) -> Caller:
    """Return who has *token*; raise `Unauthenticated` or `Forbidden` unless it is good for *role*."""
    caller = await services.accounts.authenticate(token)
    require_role(caller.user, role)
    return caller


async def _caller(services: ApiServices, role: Role) -> Caller:
    return await caller_of(services, bearer_token(), role)


async def _answer_once(
    call: Call[BodyT, QueryT], act: Callable[[], Awaitable[Answer]], known_by_body: float | None
) -> Answer:
    """Answer by *act*, or a repeat by what it answered the first time."""
    if request.method not in UNSAFE_METHODS:
        return await outlasting(act)
    idempotency = call.services.idempotency
    said = [each.model_dump(mode="json", exclude_unset=True) for each in (call.body, call.query)]
    content = json.dumps(said, sort_keys=True).encode()
    key = idempotency.key_of(content) if known_by_body is not None else _given_key()
    if key is None:
        return await act()
    principal = str(call.user.id) if call.signed_in is not None else ""
    repeatable = RepeatableRequest(
        RequestIdentity.of(principal, request.method, request.path, key),
        content,
        KEPT if known_by_body is None else known_by_body,
    )
    # Strangers leave nothing behind: what they are refused is not kept.
    refusal = _refused if principal else _never
    return await outlasting(partial(idempotency.once, repeatable, act, refusal=refusal))


def _given_key() -> str | None:
    key = request.headers.get(KEY_HEADER)
    if key is not None and not _KEY.fullmatch(key):
        raise Rejected(
            f"{KEY_HEADER}: give 1 to {KEY_CHARS_MAX} visible ASCII characters",
            code="bad-idempotency-key",
        )
    return key


def _response(answer: Answer) -> Response:
    response = Response(answer.content, status=answer.status, content_type=JSON)
    if answer.is_replayed:
        response.headers[REPLAYED_HEADER] = "true"
    return response


def _refused(error: SerchaError) -> Answer | None:
    refusal = refusal_of(error)
    return None if refusal is None else Answer(*refusal)


def _never(_: SerchaError) -> None:
    return None
