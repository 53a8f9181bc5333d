"""A bounded load through nginx: searches, and writes that are counted afterwards.

Nothing is tried again here: what fails is a failed request. Each client keeps its connection; that nginx closes
one while nobody uses it is no failure of a request, and httpx notices it before it sends.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import httpx
import trio

SAMPLES_MAX = 20


class Target(Protocol):
    """What is asked: a `Cluster`, or a deployment of another kind."""

    def client(self, *, connections: int) -> httpx.AsyncClient:
        """Return a client of the balancer, logged in as an administrator."""
        ...

    async def query(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Ask its PostgreSQL, whatever is done to it meanwhile."""
        ...


@dataclass
class LoadReport:
    """What came of the requests."""

    sent: int = 0
    succeeded: int = 0
    failed: Counter[str] = field(default_factory=Counter[str])
    """By status and code of the answer, or by the error of the client."""
    samples: list[str] = field(default_factory=list[str])
    """The first failures, with the time since the load began."""
    cut: int = 0
    """Answers that ended in the middle; not among the failed."""
    written: list[str] = field(default_factory=list[str])
    """Names whose write was acknowledged."""
    unknown: list[str] = field(default_factory=list[str])
    """Names whose write failed: it may have taken place."""
    seconds: list[float] = field(default_factory=list[float])
    """How long each request took that succeeded."""
    gaps: list[float] = field(default_factory=list[float])
    """Times in a row without any success, in seconds."""

    def describe(self) -> str:
        """Return one line for the log of a test."""
        times = sorted(self.seconds) or [0.0]
        return (
            f"{self.sent} sent, {self.succeeded} succeeded, {sum(self.failed.values())} failed "
            f"{dict(self.failed)}, {self.cut} cut, {len(self.written)} written, "
            f"p50 {times[len(times) // 2] * 1000:.0f} ms, max {times[-1] * 1000:.0f} ms"
        )


@dataclass
class Load:
    """Readers and writers that ask through nginx until they are stopped, or have sent enough."""

    target: Target
    readers: int = 6
    writers: int = 3
    queries: tuple[str, ...] = ("search",)
    requests_max: int = 1_000_000
    pause: float = 0.002
    """Seconds between an answer and the client's next request."""
    report: LoadReport = field(default_factory=LoadReport)
    _prefix: str = field(default_factory=lambda: secrets.token_hex(4))
    _began: float = 0.0
    _last_success: float = 0.0
    _is_over: trio.Event = field(default_factory=trio.Event)
    _progress: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)

    def stop(self) -> None:
        """Let each reader and writer finish its request and end."""
        self._is_over.set()
        self._progress.unpark_all()

    async def run(
        self, *, task_status: trio.TaskStatus[LoadReport] = trio.TASK_STATUS_IGNORED
    ) -> LoadReport:
        """Ask until `stop`, or until ``requests_max`` were sent. ``started()`` after the first success."""
        self._began = self._last_success = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(self.readers):
                nursery.start_soon(self._read, number)
            for number in range(self.writers):
                nursery.start_soon(self._write, number)
            while not self.report.succeeded and not self._is_over.is_set():
                await self._progress.park()
            task_status.started(self.report)
        self._note_gap()
        return self.report

    async def wait_sent(self, count: int) -> None:
        """Wait until this many requests were sent."""
        while self.report.sent < count and not self._is_over.is_set():
            await self._progress.park()

    async def lost_and_doubled(self) -> tuple[list[str], list[str]]:
        """Return the acknowledged writes that are not there, and all that are there twice."""
        rows = await self.target.query(
            "SELECT name, count(*) FROM schedule WHERE name LIKE %s GROUP BY name",
            f"{self._prefix}-%",
        )
        found = {str(name): int(str(count)) for name, count in rows}
        lost = [name for name in self.report.written if name not in found]
        return lost, [name for name, count in found.items() if count > 1]

    async def _read(self, number: int) -> None:
        async with self.target.client(connections=1) as client:
            turn = number
            while self._goes_on():
                query = self.queries[turn % len(self.queries)]
                turn += 1
                await self._ask(client, "/api/v1/search", {"query": query, "limit": 20}, 200)
                await trio.sleep(self.pause)

    async def _write(self, number: int) -> None:
        async with self.target.client(connections=1) as client:
            turn = 0
            while self._goes_on():
                turn += 1
                name = f"{self._prefix}-{number}-{turn}"
                body = {
                    "name": name,
                    "kind": "interval",
                    "spec": "1d",
                    "task_kind": "prune",
                    "enabled": False,
                }
                is_written = await self._ask(client, "/api/v1/schedules", body, 201)
                (self.report.written if is_written else self.report.unknown).append(name)
                await trio.sleep(self.pause)

    def _goes_on(self) -> bool:
        return not self._is_over.is_set() and self.report.sent < self.requests_max

    async def _ask(
        self, client: httpx.AsyncClient, path: str, body: Mapping[str, object], expected: int
    ) -> bool:
        report = self.report
        report.sent += 1
        self._progress.unpark_all()
        began = trio.current_time()
        try:
            answer = await client.post(path, json=body)
        except httpx.RemoteProtocolError as error:
            # Also a connection that ended without an answer: httpx tells both by their words.
            if "complete message body" in str(error):
                report.cut += 1
            else:
                self._fail(type(error).__name__, str(error))
            return False
        except httpx.TransportError as error:
            self._fail(type(error).__name__, str(error))
            return False
        if answer.status_code != expected:
            code = _code(answer)
            self._fail(f"{answer.status_code} {code}", answer.text[:200])
            return False
        self._note_gap()
        report.succeeded += 1
        self._progress.unpark_all()
        report.seconds.append(trio.current_time() - began)
        return True

    def _note_gap(self) -> None:
        now = trio.current_time()
        self.report.gaps.append(now - self._last_success)
        self._last_success = now

    def _fail(self, kind: str, words: str) -> None:
        self.report.failed[kind] += 1
        if len(self.report.samples) < SAMPLES_MAX:
            at = trio.current_time() - self._began
            self.report.samples.append(f"{at:.2f} s: {kind}: {words}")


def _code(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("code"))
    except ValueError:
        return "not-json"
