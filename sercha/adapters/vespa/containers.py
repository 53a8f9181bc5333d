"""The containers of a Vespa cluster, each with connections of its own; a request goes to one that is there.

Choice: the container with the fewest requests under way, of those that did not fail just now. One that refused a
connection, broke one or said 503 is left out for one to ten seconds, longer each time; where all are left out, the one
that comes back first is asked.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast

import httpx
import trio

from sercha.services.backoff import Backoff

CONNECT_TIME = 1.0
GZIP_BYTES_MIN = 1_024
KEPT_FOR = 25.0
"""Seconds that an idle connection is kept; the server gives it 180."""
AWAY_MIN, AWAY_MAX = 1.0, 10.0
"""Seconds for which a container that failed is left out."""


class ConnectionFailed(Exception):
    """No answer came. What was asked may have been carried out all the same."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, as often as needed."""

    method: str
    target: str
    """Path and query, percent-encoded."""
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    content: bytes

    def read(self) -> dict[str, Any]:
        """Return the answer's JSON object; an empty one where it is none, as at 503."""
        try:
            return as_object(json.loads(self.content))
        except ValueError:
            return {}

    @property
    def message(self) -> str:
        """What the server says of it, for people."""
        said = self.read().get("message")
        return str(said) if said else f"status {self.status}"


def as_object(value: object) -> dict[str, Any]:
    """Return a JSON object; an empty one in the place of anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def json_request(method: str, target: str, content: object, *, accept: str = "") -> Request:
    """Make a request with a JSON body, compressed where that pays."""
    body = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    headers = {"Content-Type": "application/json", "Accept": accept or "application/json"}
    if len(body) >= GZIP_BYTES_MIN:
        body = gzip.compress(body, compresslevel=1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Request(method, target, body, headers)


@dataclass(slots=True)
class _Container:
    url: str
    client: httpx.AsyncClient
    in_flight: int = 0
    away_until: float = float("-inf")
    backoff: Backoff = field(default_factory=lambda: Backoff(base=2 * AWAY_MIN, cap=AWAY_MAX))

    def leave_out(self) -> None:
        """Not twice for requests that failed together."""
        now = trio.current_time()
        if self.away_until <= now:
            self.away_until = now + self.backoff.next()

    def take_back(self) -> None:
        self.away_until = float("-inf")
        self.backoff.reset()


class Containers:
    """Sends requests to one of several containers; made by `open_containers`."""

    def __init__(self, containers: Sequence[_Container]) -> None:
        self._containers = tuple(containers)

    @property
    def count(self) -> int:
        """How many there are, here or not."""
        return len(self._containers)

    def away(self) -> list[str]:
        """Addresses of those that are left out at the moment."""
        now = trio.current_time()
        return [each.url for each in self._containers if each.away_until > now]

    async def send(self, request: Request, *, seconds: float) -> Reply:
        """Ask one container, once.

        Cancelled, it closes the connection; the server may carry the request out all the same.

        Raises:
            ConnectionFailed: no whole answer within *seconds*.
        """
        container = self._choose()
        container.in_flight += 1
        try:
            with trio.fail_after(seconds):
                answer = await container.client.request(
                    request.method,
                    container.url + request.target,
                    content=request.content or None,
                    headers=dict(request.headers),
                )
        except (httpx.TransportError, httpx.DecodingError, trio.TooSlowError) as error:
            container.leave_out()
            what = "no answer in time" if isinstance(error, trio.TooSlowError) else str(error)
            raise ConnectionFailed(f"{container.url}: {what or type(error).__name__}") from error
        finally:
            container.in_flight -= 1
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            container.leave_out()
        else:
            container.take_back()
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return Reply(answer.status_code, headers, answer.content)

    def _choose(self) -> _Container:
        now = trio.current_time()
        here = [each for each in self._containers if each.away_until <= now]
        if here:
            return min(here, key=lambda each: each.in_flight)
        return min(self._containers, key=lambda each: each.away_until)


@asynccontextmanager
async def open_containers(
    urls: Sequence[str], *, connections: int, http2: bool = False
) -> AsyncGenerator[Containers]:
    """Open *connections* at most to each of *urls*, as they are needed; all are closed when the block ends."""
    async with AsyncExitStack() as stack:
        containers: list[_Container] = []
        for url in urls:
            client = httpx.AsyncClient(
                http1=not http2,
                http2=http2,
                trust_env=False,
                timeout=httpx.Timeout(None, connect=CONNECT_TIME),
                limits=httpx.Limits(
                    max_connections=connections,
                    max_keepalive_connections=connections,
                    keepalive_expiry=KEPT_FOR,
                ),
            )
            containers.append(_Container(url.rstrip("/"), await stack.enter_async_context(client)))
        yield Containers(containers)
