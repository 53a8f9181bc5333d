"""Declares what a handler takes, gives and demands, once: for the checks and for ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast
from uuid import UUID

import trio
from pydantic import TypeAdapter
from quart import Response, request
from werkzeug.datastructures import Headers

from sercha.domain.account import Role, User
from sercha.domain.document import DocumentId
from sercha.errors import Unauthenticated
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
from sercha.roles.api.problems import JSON
from sercha.services.accounts import Caller, require_role

BodyT = TypeVar("BodyT", bound=RequestModel)
QueryT = TypeVar("QueryT", bound=RequestModel)
AnswerT = TypeVar("AnswerT")

_OPERATION = "__sercha_operation__"


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
) -> Callable[[Callable[[Call[BodyT, QueryT]], Awaitable[AnswerT]]], View]:
    """Make a view of a handler: check the caller, read query and body, serialise the answer.

    *status_of* chooses the status by the answer; *request_time* (seconds) replaces the usual limit.
    """
    declared = Operation(summary, answer, status, role, body, query, errors)
    adapter = TypeAdapter[AnswerT](answer)

    def decorate(handler: Callable[[Call[BodyT, QueryT]], Awaitable[AnswerT]]) -> View:
        async def view(**path: str) -> Response:
            note_route()
            if request_time is not None:
                current_note().limit.deadline = trio.current_time() + request_time
            # An application of probes only has no operation that looks further than its services.
            services = cast("ApiServices", current_state().services)
            caller = await _caller(services, role) if role is not None else None
            call = Call(
                services=services,
                headers=request.headers,
                body=body() if body is Nothing else await parse_body(request, body),
                query=parse_query(request.args, query),
                path=path,
                signed_in=caller,
            )
            given = await handler(call)
            content = adapter.dump_json(given, exclude_none=True)
            chosen = status if status_of is None else status_of(given)
            return Response(content, status=chosen, content_type=JSON)

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


async def _caller(services: ApiServices, role: Role) -> Caller:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("send a token as Authorization: Bearer <token>")
    caller = await services.accounts.authenticate(token.strip())
    require_role(caller.user, role)
    return caller
