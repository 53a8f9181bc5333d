"""Errors of a query: their codes, their summaries, and the status of the answer."""

from __future__ import annotations

from collections.abc import Iterable

NO_BACKENDS, NULL_QUERY, ILLEGAL_QUERY, INVALID_PARAMETER, UNSPECIFIED = 0, 1, 3, 4, 5
MISCONFIGURED, BACKEND_COMMUNICATION, TIMED_OUT, EMPTY_SUMMARIES = 9, 10, 12, 13
BAD_REQUEST = 17

_CODES: dict[int, tuple[str, int]] = {
    0: ("No backends in service. Try later", 503),
    1: ("Null query", 500),
    2: ("Request too large", 500),
    3: ("Illegal query", 400),
    4: ("Invalid query parameter", 400),
    5: ("Unspecified error", 500),
    6: ("Error in plugin Searcher", 500),
    7: ("Invalid query transformation", 500),
    8: ("Error in search reply.", 500),
    9: ("Service is misconfigured", 500),
    10: ("Backend communication error", 503),
    11: ("No answer when pinging node", 500),
    12: ("Timed out", 504),
    13: ("Empty document summaries", 500),
    14: ("Unauthorized", 401),
    15: ("Forbidden.", 403),
    16: ("Resource not found.", 404),
    17: ("Bad request.", 400),
    18: ("Internal server error.", 500),
    19: ("insufficient storage", 507),
}
_ALWAYS = range(14, 20)


class QueryError(Exception):
    """An entry of ``root.errors``; a search that raises it has no hits."""

    def __init__(self, code: int, message: str, source: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.source = source

    @property
    def entry(self) -> dict[str, object]:
        """The error as it is rendered."""
        found: dict[str, object] = {"code": self.code, "summary": summary_of(self.code)}
        if self.source is not None:
            found["source"] = self.source
        return found | {"message": self.message}


class YqlError(QueryError):
    """The query cannot be made from the YQL."""

    def __init__(self, message: str) -> None:
        super().__init__(INVALID_PARAMETER, f"Could not create query from YQL: {message}")


def summary_of(code: int) -> str:
    """The short text of a code."""
    return _CODES.get(code, ("Unspecified error", 500))[0]


def status_of(errors: Iterable[QueryError], *, has_filled_hits: bool) -> int:
    """The status of an answer with these errors.

    With filled hits the result counts as a success, unless a code stands for a status of HTTP; without
    them the first error decides.
    """
    codes = [error.code for error in errors]
    if not codes:
        return 200
    for code in codes:
        if code in _ALWAYS:
            return _CODES[code][1]
        if 400 <= code < 600:
            return code
    if has_filled_hits:
        return 200
    return _CODES.get(codes[0], ("", 500))[1]
