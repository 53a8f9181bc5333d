"""What a fault answers in place of the server, in the words of the part of the server it stands before."""

from __future__ import annotations

from tests.vespa.deploy_errors import error_answer
from tests.vespa.documents import is_document_path, problem_answer
from tests.vespa.faults import Fault
from tests.vespa.messages import TIMEOUT_DEFAULT, Problem, Request, json_answer
from tests.vespa.model import Answer
from tests.vespa.paths import parse_path

OVERLOAD_TEXTS = {
    "": "256 requests already enqueued",
    "operations": "256 requests already enqueued",
    "age": "3.0 seconds worth of work enqueued",
    "bytes": "estimated size of operation is 1048576 bytes, exceeding the limit of 0 free bytes",
}
_CONFIG_CODES = {408: "REQUEST_TIMEOUT", 500: "INTERNAL_SERVER_ERROR"}
_SEARCH_ERRORS = {500: (5, "Unspecified error"), 504: (12, "Timed out")}


def fault_answer(fault: Fault, request: Request) -> Answer:
    """The answer of a fault that answers for itself: overload, unavailable, internal, timeout."""
    match fault.kind:
        case "overload":
            text = "Rejecting execution due to overload: " + OVERLOAD_TEXTS[fault.variant]
            return _answer(request, 429, fault.message or text, has_id=False)
        case "unavailable":
            return Answer(503, (), b"")
        case "internal":
            text = "[FATAL_ERROR @ localhost]: FATAL_ERROR"
            return _answer(request, 500, fault.message or text, has_id=True)
        case _:
            text = f"Timeout after {_milliseconds(request)}ms"
            return _answer(request, 504, fault.message or text, has_id=True)


def _answer(request: Request, status: int, message: str, *, has_id: bool) -> Answer:
    if request.container is None:
        code = _CONFIG_CODES.get(status, "INTERNAL_SERVER_ERROR")
        return error_answer(status, code, message)
    if request.path.startswith("/search/") and status in _SEARCH_ERRORS:
        code, summary = _SEARCH_ERRORS[status]
        root = {"id": "toplevel", "relevance": 1.0, "fields": {"totalCount": 0}}
        errors = [{"code": code, "summary": summary, "message": message}]
        return json_answer(status, {"root": {**root, "errors": errors}})
    document = None
    if is_document_path(request.path):
        try:
            document = parse_path(request.path).document
        except Problem:
            has_id = False
    return problem_answer(request.path, Problem(status, message, has_id=has_id), document)


def _milliseconds(request: Request) -> int:
    try:
        return int(request.properties().seconds("timeout", TIMEOUT_DEFAULT) * 1000)
    except Problem:
        return int(TIMEOUT_DEFAULT * 1000)
