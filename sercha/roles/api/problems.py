"""Every error as JSON: ``{"error": a sentence, "code": kebab case}``; never a page, never a traceback."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

import structlog
from quart import Response
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from sercha.errors import (
    ClaimLost,
    Conflict,
    Forbidden,
    NotFound,
    Rejected,
    SerchaError,
    Transient,
    Unauthenticated,
)

JSON = "application/json"

_STATUS: tuple[tuple[type[SerchaError], int], ...] = (
    (Rejected, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (ClaimLost, 409),
    (Transient, 503),
)
_STATUS_OF_CODE = {"not-json": 415, "too-many-attempts": 429, "idempotency-key-reused": 422}
_SENTENCE = {
    400: ("bad-request", "the request cannot be understood"),
    404: ("not-found", "there is nothing at this address"),
    405: ("method-not-allowed", "this address does not take this method"),
    408: ("request-timeout", "the request took too long to arrive"),
    413: ("body-too-large", "the body is too large"),
    414: ("bad-request", "the address is too long"),
    415: ("not-json", "send the body as Content-Type: application/json"),
    431: ("bad-request", "the headers are too long"),
}

_log = structlog.get_logger()


def register(app: QuartTrio) -> None:
    """Make all errors of *app*'s handlers answers in JSON."""
    app.register_error_handler(SerchaError, _answer_ours)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_unexpected)


def problem_body(code: str, message: str) -> bytes:
    """Return the body of an error's answer."""
    return json.dumps({"error": message, "code": code}, ensure_ascii=False).encode()


def problem(
    status: int, code: str, message: str, headers: Iterable[tuple[str, str]] = ()
) -> Response:
    """Return an error's answer."""
    response = Response(problem_body(code, message), status=status, content_type=JSON)
    response.headers.extend(headers)
    return response


def status_of(error: SerchaError) -> int:
    """Return the status that stands for *error*."""
    if status := _STATUS_OF_CODE.get(error.error_code):
        return status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def refusal_of(error: SerchaError) -> tuple[int, bytes] | None:
    """Return status and body when *error* is an operation's answer for good: a repeat may be told the same.

    None: who asks has to show who he is, or another try may succeed.
    """
    status = status_of(error)
    if status >= 500 or status in (401, 429):
        return None
    return status, problem_body(error.error_code, error.message)


async def _answer_ours(error: SerchaError) -> Response:
    status = status_of(error)
    if status == 500:
        return await _answer_unexpected(error)
    headers: list[tuple[str, str]] = []
    if isinstance(error, Unauthenticated):
        headers.append(("WWW-Authenticate", "Bearer"))
    if isinstance(error, Transient):
        headers.append(("Retry-After", str(max(1, math.ceil(error.retry_after or 1.0)))))
    if status == 503:
        _log.warning("request.refused", code=error.error_code, error=error.message)
    return problem(status, error.error_code, error.message, headers)


async def _answer_http(error: HTTPException) -> Response:
    status = error.code or 500
    if status >= 500:
        return await _answer_unexpected(error)
    code, sentence = _SENTENCE.get(status, ("bad-request", f"the request was refused ({status})"))
    headers: list[tuple[str, str]] = []
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        allowed = ", ".join(sorted(error.valid_methods))
        headers.append(("Allow", allowed))
        sentence = f"{sentence}; allowed: {allowed}"
    return problem(status, code, sentence, headers)


async def _answer_unexpected(error: Exception) -> Response:
    _log.error("request.failed", exc_info=error)
    return problem(500, "internal", INTERNAL)


INTERNAL = "something went wrong here; the log has it under this request's X-Request-Id"
