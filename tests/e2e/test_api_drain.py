"""Answers in one write, and what clients see of an API that drains, is full, or is not read from."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import trio
from hypercorn.config import Config

from sercha.roles.api import ApiOptions, Traffic, connections, create_app
from sercha.roles.api.serve import bind
from sercha.services.ports import IndexHit
from tests.support.api import ADMIN, Api, open_services
from tests.support.serving import Gate, Served, raw, serve


class Recording(trio.abc.HalfCloseableStream):
    """A connection that notes each write."""

    def __init__(self, stream: trio.SocketStream, writes: list[bytes]) -> None:
        self._stream = stream
        self._writes = writes

    @property
    def socket(self) -> Any:
        return self._stream.socket

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._writes.append(bytes(data))
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the server wrote, one item for each write."""
    noted: list[bytes] = []

    class Recorded(connections.WholeStream):
        def __init__(self, stream: trio.SocketStream) -> None:
            recording: Any = Recording(stream, noted)
            super().__init__(recording)

    monkeypatch.setattr(connections, "WholeStream", Recorded)
    return noted


@pytest.fixture
async def served(writes: list[bytes], postgres_url: str, tmp_path: Path) -> AsyncGenerator[Served]:
    async with serve(postgres_url, tmp_path) as served:
        await served.login()
        writes.clear()
        yield served


def assert_whole(write: bytes, answer: httpx.Response) -> None:
    head, _, body = write.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % answer.status_code)
    assert body == answer.content


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/version", 200),
        ("HEAD", "/version", 200),
        ("GET", "/health", 200),
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/me", 200),
        ("POST", "/version", 405),
    ],
)
async def test_an_answer_leaves_in_one_write(
    served: Served, writes: list[bytes], method: str, path: str, status: int
) -> None:
    answers = [await served.client.request(method, path) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [status] * 3
    assert len(writes) == 3
    for write, answer in zip(writes, answers, strict=True):
        assert_whole(write, answer)


async def test_refusals_leave_in_one_write(served: Served, writes: list[bytes]) -> None:
    refused = await served.client.get("/api/v1/me", headers={"Authorization": "Bearer x"})
    served.drain.set()
    draining = await served.client.head("/api/v1/me")

    assert (refused.status_code, draining.status_code) == (401, 503)
    assert int(draining.headers["content-length"]) > 0
    for write, answer in zip(writes, (refused, draining), strict=True):
        assert_whole(write, answer)


async def test_a_page_of_60_kb_leaves_in_one_write(
    served: Served, writes: list[bytes], tmp_path: Path
) -> None:
    source = {"name": "n", "provider_type": "localfs", "config": {"paths": [str(tmp_path)]}}
    added = (await served.client.post("/api/v1/sources", json=source)).json()
    api = Api(None, served.client, served.services, served.pool, served.index, tmp_path)  # type: ignore[arg-type]
    document = await api.document(UUID(added["id"]), "needle " * 8_600)
    served.index.hits = (IndexHit(document, 0, 1.0),)
    writes.clear()
    answer = await served.client.post("/api/v1/search", json={"query": "needle"})

    assert len(answer.content) > 60_000
    [write] = writes
    assert_whole(write, answer)


async def test_pipelined_answers_that_are_read_late_are_whole_and_in_order(served: Served) -> None:
    paths = [b"/openapi.json", b"/version", b"/nothing"] * 20
    requests = [b"GET %b HTTP/1.1\r\nHost: a\r\n" % path for path in paths]
    asked = b"\r\n".join(requests) + b"Connection: close\r\n\r\n"
    whole = (await served.client.get("/openapi.json")).content
    late = await trio.open_tcp_stream(*served.address)
    async with late:
        await late.send_all(asked)
        await served.client.get("/version")
        answer = b""
        with trio.fail_after(20):
            async for part in late:
                answer += part

    assert answer.count(whole) == 20
    statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"404"] * 20


async def test_a_client_that_does_not_read_is_cut_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SEND_TIME", 0.3)
    size = len((await served.client.get("/openapi.json")).content)
    number = 20_000_000 // size
    stream = await trio.open_tcp_stream(*served.address)
    received = 0
    async with stream:
        with trio.fail_after(20):
            await stream.send_all(b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n" * number)
            while served.pool.statistics().in_use:
                await trio.sleep(0.01)
            await trio.sleep(2)
            try:
                async for part in stream:
                    received += len(part)
            except trio.BrokenResourceError:
                pass

    assert received < number * size
    assert (await served.client.get("/version")).status_code == 200


async def test_a_cancelled_answer_closes_the_connection() -> None:
    ours, theirs = socket.socketpair()
    stream = connections.WholeStream(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
    client = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    async with client:
        with trio.CancelScope() as scope:
            async with stream.held():
                await stream.send_all(b"half an answer")
                scope.cancel()
                await trio.lowlevel.checkpoint()
        with trio.fail_after(5):
            assert await client.receive_some() == b""


async def test_what_is_sent_while_an_answer_leaves_follows_it() -> None:
    ours, theirs = socket.socketpair()
    stream = connections.WholeStream(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
    client = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    sizes = {b"a": 5_000_000, b"b": 3, b"c": 5_000_000}

    async def answer(letter: bytes) -> None:
        async with stream.held():
            await stream.send_all(letter * sizes[letter])

    async with client, trio.open_nursery() as nursery:
        nursery.start_soon(answer, b"a")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(stream.send_all, b"b" * sizes[b"b"])
        nursery.start_soon(answer, b"c")
        await trio.testing.wait_all_tasks_blocked()
        received = b""
        with trio.fail_after(20):
            while len(received) < sum(sizes.values()):
                received += await client.receive_some()
        await stream.aclose()

    assert received == b"".join(letter * size for letter, size in sizes.items())


async def test_requests_that_wait_to_be_accepted_are_answered(
    postgres_url: str, tmp_path: Path
) -> None:
    drain = trio.Event()
    drain.set()
    waiting: list[socket.socket] = []
    async with open_services(postgres_url, tmp_path) as (services, _, _):
        app = create_app(services, traffic=Traffic(drain))
        sockets = await bind("127.0.0.1", 0)
        address = sockets[0].getsockname()

        async def until() -> None:
            await trio.lowlevel.checkpoint()
            for _ in range(20):  # nobody else runs meanwhile
                client = socket.create_connection(address)
                client.sendall(b"GET /api/v1/me HTTP/1.1\r\nHost: a\r\n\r\n")
                waiting.append(client)

        config = Config()
        config.errorlog = None
        config.graceful_timeout = 1.0
        with trio.fail_after(10):
            await connections.serve(app, config, sockets, until=until)

    answers = [client.recv(65_536) for client in waiting]
    for client in waiting:
        client.close()
    for answer in answers:
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in head.lower()
        assert json.loads(body)["code"] == "draining"


async def test_what_is_under_way_ends_whole_and_closes_its_connection(served: Served) -> None:
    gate = Gate()
    served.index.search = gate
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await served.client.post("/api/v1/search", json={"query": "a"}))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await gate.entered.wait()
        served.drain.set()
        gate.opened.set()

    assert answers[0].status_code == 200
    assert answers[0].headers["connection"] == "close"


async def test_idle_connections_are_closed_at_the_end_of_a_drain(served: Served) -> None:
    silent = await trio.open_tcp_stream(*served.address)
    used = await trio.open_tcp_stream(*served.address)
    async with silent, used:
        await used.send_all(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await used.receive_some()).startswith(b"HTTP/1.1 200 ")
        served.drain.set()
        with trio.fail_after(10):
            assert await used.receive_some() == b""
            assert await silent.receive_some() == b""


async def test_a_full_process_says_so_and_answers_probes(postgres_url: str, tmp_path: Path) -> None:
    gate = Gate()
    async with serve(postgres_url, tmp_path, options=ApiOptions(requests_max=1)) as served:
        await served.login()
        served.index.search = gate
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(served.client.post, "/api/v1/search", json={"query": "a"}))
            await gate.entered.wait()
            full = await served.client.get("/api/v1/me")
            probes = [
                await served.client.get(f"/{name}") for name in ("health", "ready", "metrics")
            ]
            gate.opened.set()
        after = await served.client.get("/api/v1/me")

    assert (full.status_code, full.json()["code"]) == (503, "overloaded")
    assert full.headers["retry-after"] == "1"
    assert 503 not in [probe.status_code for probe in (probes[0], probes[2])]
    assert after.json()["email"] == ADMIN["email"]


async def test_streams_of_events_are_bounded(postgres_url: str, tmp_path: Path) -> None:
    async with (
        serve(postgres_url, tmp_path, options=ApiOptions(streams_max=1)) as served,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(served.services.events.run)
        await served.login()
        async with served.client.stream("GET", "/api/v1/events", timeout=20) as first:
            parts = first.aiter_bytes()
            await anext(parts)
            second = await served.client.get("/api/v1/events")
            served.drain.set()
            rest = b"".join([part async for part in parts])
        nursery.cancel_scope.cancel()

    assert (second.status_code, second.json()["code"]) == (503, "too-many-streams")
    assert b"event: reconnect" in rest


async def test_http_2_is_answered_and_cannot_end_the_process(served: Served) -> None:
    answer = await raw(
        served.address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\4\0\0\0\0\0\7late"
    )
    async with httpx.AsyncClient(
        base_url=served.url, http1=False, http2=True, trust_env=False
    ) as client:
        other = await client.get("/version")

    assert answer is not None
    assert (other.http_version, other.status_code) == ("HTTP/2", 200)
    assert (await served.client.get("/version")).status_code == 200
