"""What was asked, in order: the tests' view of the clients."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any
from urllib.parse import unquote_plus

REQUESTS_MAX = 100_000
"""Requests that are kept; the oldest go first."""


@dataclass(slots=True)
class RecordedRequest:
    """A request; *started* and *ended* are numbers of one sequence of events, *ended* is None until then."""

    port: str
    """``config`` or ``container-<index>``."""
    method: str
    path: str
    """The raw path, without the query."""
    query: str
    headers: dict[str, str]
    http_version: str
    started: int
    concurrency: int
    """Requests that were under way on this port with this one, itself included."""
    body_sha256: str = ""
    body_size: int = 0
    status: int | None = None
    """None when no answer was begun."""
    ended: int | None = None

    def as_json(self) -> dict[str, Any]:
        """For other processes."""
        return asdict(self)


class Requests:
    """The recorded requests; set *is_on* to False to keep none."""

    def __init__(self, *, maximum: int = REQUESTS_MAX) -> None:
        self.is_on = True
        self._all: deque[RecordedRequest] = deque(maxlen=maximum)
        self._events = 0
        self._under_way: Counter[str] = Counter()

    def __iter__(self) -> Iterator[RecordedRequest]:
        return iter(list(self._all))

    def __len__(self) -> int:
        return len(self._all)

    def clear(self) -> None:
        """Forget those kept so far."""
        self._all.clear()

    def select(
        self, method: str | None = None, path: str = "", port: str | None = None
    ) -> list[RecordedRequest]:
        """Those whose raw path begins with *path*, in the order of their start."""
        return [
            each
            for each in self._all
            if method in (None, each.method)
            and port in (None, each.port)
            and each.path.startswith(path)
        ]

    def of_document(self, namespace: str, document_type: str, user: str) -> list[RecordedRequest]:
        """The operations on one document, in the order of their start."""
        wanted = ["document", "v1", namespace, document_type, "docid", user]
        return [
            each
            for each in self._all
            if [unquote_plus(part) for part in each.path.strip("/").split("/", 5)] == wanted
        ]

    def are_in_turn(self, requests: list[RecordedRequest]) -> bool:
        """Whether each of *requests* began after the one before had ended."""
        return all(
            first.ended is not None and first.ended < second.started
            for first, second in pairwise(requests)
        )

    def concurrency_max(self, port: str | None = None) -> int:
        """The most requests that were under way at once on a port."""
        return max((each.concurrency for each in self._all if port in (None, each.port)), default=0)

    def begin(
        self, port: str, method: str, path: str, query: str, headers: dict[str, str], version: str
    ) -> RecordedRequest:
        """Record the start of a request."""
        self._under_way[port] += 1
        request = RecordedRequest(
            port, method, path, query, headers, version, self._tick(), self._under_way[port]
        )
        if self.is_on:
            self._all.append(request)
        return request

    def read(self, request: RecordedRequest, body: bytes, size: int) -> None:
        """Record the body, as it came over the wire."""
        request.body_sha256 = hashlib.sha256(body).hexdigest()
        request.body_size = size

    def end(self, request: RecordedRequest, status: int | None) -> None:
        """Record the end of a request."""
        self._under_way[request.port] -= 1
        request.status = status
        request.ended = self._tick()

    def _tick(self) -> int:
        self._events += 1
        return self._events
