"""The API on a real socket: start, drain, limits, clients that go away."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncGenerator, Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest
import trio

from sercha.errors import SettingsError
from sercha.roles.api import run_api
from sercha.roles.api.serve import CLOSE_GRACE, LINGER
from tests.support.api import ADMIN, open_services
from tests.support.postgres import PostgresServer
from tests.support.serving import LOGIN, Gate, raw, serve


async def test_nothing_is_printed_and_the_server_is_not_named(
    postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serve(postgres_url, tmp_path) as served:
        answer = await served.client.get("/version")

        assert served.url.startswith("http://127.0.0.1:")
        assert answer.json() == {"version": "1.2.3"}
        assert "server" not in answer.headers

    assert "hypercorn" not in capsys.readouterr().err.lower()


async def test_port_in_use_is_one_clear_error(postgres_url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with open_services(postgres_url, tmp_path) as (services, _, _):
            with pytest.raises(SettingsError) as caught:
                await run_api(services, host="127.0.0.1", port=port, drain=trio.Event(), grace=1.0)

    assert caught.value.error_code == "port-in-use"
    assert str(port) in caught.value.message
    assert "--port" in caught.value.message


@pytest.mark.parametrize(
    ("host", "port"), [("nowhere.invalid", 8080), ("192.0.2.1", 8080), ("127.0.0.1", 70_000)]
)
async def test_address_that_is_not_ours_is_one_clear_error(
    postgres_url: str, tmp_path: Path, host: str, port: int
) -> None:
    async with open_services(postgres_url, tmp_path) as (services, _, _):
        with pytest.raises(SettingsError, match=f"{host}.*{port}"):
            await run_api(services, host=host, port=port, drain=trio.Event(), grace=1.0)


async def test_port_can_be_taken_again_at_once(postgres_url: str, tmp_path: Path) -> None:
    async with serve(postgres_url, tmp_path) as served:
        await served.client.get("/version")
        port = served.address[1]
    async with (
        open_services(postgres_url, tmp_path) as (services, _, _),
        trio.open_nursery() as nursery,
    ):
        drain = trio.Event()
        run = partial(run_api, services, host="127.0.0.1", port=port, drain=drain, grace=1.0)
        assert await nursery.start(run) == [f"http://127.0.0.1:{port}"]
        drain.set()


async def test_drain_refuses_new_requests_and_finishes_old_ones(
    postgres_url: str, tmp_path: Path
) -> None:
    gate = Gate()
    async with serve(postgres_url, tmp_path) as served:
        await served.login()
        served.index.search = gate
        answers: dict[str, httpx.Response] = {}

        async def old_request() -> None:
            answers["old"] = await served.client.post("/api/v1/search", json={"query": "a"})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(old_request)
            await gate.entered.wait()
            await served.client.get("/version")  # leaves an idle connection behind
            served.drain.set()
            answers["write"] = await served.client.post(
                "/api/v1/users",
                json={"name": "Bob", "email": "bob@example.org", "password": "correct horse"},
            )
            answers["ready"] = await served.client.get("/ready")
            answers["health"] = await served.client.get("/health")
            # Longer than a drain lasts that has nothing to wait for.
            until = trio.current_time() + LINGER + CLOSE_GRACE + 0.5
            while trio.current_time() < until:
                assert (await served.client.get("/api/v1/me")).json()["code"] == "draining"
                await trio.sleep(0.2)
            assert not served.ended.is_set()
            users = await served.services.accounts.users()
            gate.opened.set()
        with trio.fail_after(5):
            await served.ended.wait()

    write = answers["write"]
    assert (write.status_code, write.json()["code"]) == (503, "draining")
    assert write.headers["retry-after"] == "1"
    assert write.headers["connection"] == "close"
    assert [user.email for user in users] == [ADMIN["email"]]
    assert (answers["ready"].status_code, answers["ready"].json()) == (503, {"status": "draining"})
    assert answers["health"].status_code == 200
    assert answers["old"].status_code == 200


async def test_grace_cuts_off_what_does_not_end(postgres_url: str, tmp_path: Path) -> None:
    gate = Gate()
    async with serve(postgres_url, tmp_path, grace=1.0) as served:
        await served.login()
        served.index.search = gate
        failed = trio.Event()

        async def request() -> None:
            with pytest.raises(httpx.TransportError):
                await served.client.post("/api/v1/search", json={"query": "a"})
            failed.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(request)
            await gate.entered.wait()
            started = trio.current_time()
            served.drain.set()
            with trio.fail_after(5):
                await gate.cancelled.wait()
                await served.ended.wait()
                await failed.wait()

    assert 0.9 < trio.current_time() - started < 4.0


async def test_client_that_goes_away_cancels_its_request(postgres_url: str, tmp_path: Path) -> None:
    gate = Gate()
    async with serve(postgres_url, tmp_path) as served:
        await served.login()
        served.index.search = gate
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(served.client.post, "/api/v1/search", json={"query": "a"}))
            await gate.entered.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(5):
            await gate.cancelled.wait()

        gate.opened.set()
        again = await served.client.post("/api/v1/search", json={"query": "a"})

    assert again.status_code == 200


async def test_clients_that_go_away_at_random_moments_leave_nothing_behind(
    postgres_url: str, tmp_path: Path, seed: int
) -> None:
    random = Random(seed)
    async with serve(postgres_url, tmp_path) as served:
        await served.login()
        token = b"Authorization: " + served.client.headers["Authorization"].encode()
        confirmed: set[str] = set()

        async def write(number: int, seconds: float = 30.0) -> None:
            email = f"user{number}@example.org"
            body = {"name": "N", "email": email, "password": "correct horse"}
            content = json.dumps(body).encode()
            head = b"POST /api/v1/users HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            sizes = b"Content-Length: %d\r\nConnection: close\r\n" % len(content)
            with trio.move_on_after(seconds):
                answer = await raw(served.address, head + sizes + token + b"\r\n\r\n" + content)
                assert answer.startswith(b"HTTP/1.1 201 ")
                confirmed.add(email)

        begun = trio.current_time()
        await write(80)
        alone = trio.current_time() - begun
        for first in range(0, 80, 8):
            async with trio.open_nursery() as nursery:
                for number in range(first, first + 8):
                    nursery.start_soon(write, number, random.uniform(0.0, 8 * alone))
        with trio.fail_after(5):
            while served.pool.statistics().in_use:
                await trio.sleep(0.01)
        users = {user["email"] for user in (await served.client.get("/api/v1/users")).json()}

    print(f"{len(confirmed)} of 81 were confirmed, {len(users) - 1} are there")
    assert confirmed <= users
    assert 1 < len(confirmed) < 81


async def test_cancelled_server_ends_at_once(postgres_url: str, tmp_path: Path) -> None:
    gate = Gate()
    async with open_services(postgres_url, tmp_path) as (services, _, index):
        index.search = gate
        await services.accounts.setup(**ADMIN)
        session = await services.accounts.login(**LOGIN)
        run = partial(run_api, services, host="127.0.0.1", port=0, drain=trio.Event(), grace=30.0)

        async def ask(url: str) -> None:
            headers = {"Authorization": f"Bearer {session.token}"}
            async with httpx.AsyncClient(base_url=url, trust_env=False, headers=headers) as client:
                with pytest.raises(httpx.TransportError):
                    await client.post("/api/v1/search", json={"query": "a"})

        async with trio.open_nursery() as clients:
            with trio.fail_after(10):
                async with trio.open_nursery() as servers:
                    [url] = await servers.start(run)
                    clients.start_soon(ask, url)
                    await gate.entered.wait()
                    servers.cancel_scope.cancel()
                    cancelled_at = trio.current_time()
            assert trio.current_time() - cancelled_at < 2


async def test_answered_connection_is_closed_where_the_client_asks_for_it(
    postgres_url: str, tmp_path: Path
) -> None:
    async with serve(postgres_url, tmp_path) as served:
        started = trio.current_time()
        for path in (b"/version", b"/nothing", b"/api/v1/me"):
            request = b"GET " + path + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            assert (await raw(served.address, request)).startswith(b"HTTP/1.1 ")

    assert trio.current_time() - started < 5


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_body_over_the_limit_is_refused_on_the_wire(
    postgres_url: str, tmp_path: Path, is_chunked: bool
) -> None:
    async def chunks() -> AsyncGenerator[bytes]:
        for _ in range(30):
            yield b" " * 100_000

    async with serve(postgres_url, tmp_path) as served:
        content: Any = chunks() if is_chunked else b" " * 3_000_000
        answer = await served.client.post(
            "/api/v1/auth/login", content=content, headers={"Content-Type": "application/json"}
        )
        after = await served.client.get("/version")

    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")
    assert after.status_code == 200


async def test_query_of_100_kb_in_an_address_gets_words(postgres_url: str, tmp_path: Path) -> None:
    async with serve(postgres_url, tmp_path) as served:
        await served.login()
        token = served.client.headers["Authorization"].encode()
        request = (
            b"GET /api/v1/search?q="
            + b"x" * 100_000
            + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        )
        answer = await raw(served.address, request + b"Authorization: " + token + b"\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["code"] == "query-too-long"


ODD_REQUESTS = [
    (b"GET /version HTTP/1.0", b"200"),
    (b"OPTIONS * HTTP/1.1", b"404"),
    (b"GET http://a/version HTTP/1.1", b"200"),
    (b"GET version HTTP/1.1", b"200"),
    (b"GET /%e2%28%a1 HTTP/1.1", b"404"),
    (b"HEAD /version HTTP/1.1", b"200"),
    (b"TRACE /version HTTP/1.1", b"405"),
    (b"nonsense", b"400"),
    (b"GET /" + b"x" * 200_000 + b" HTTP/1.1", b"431"),
]


async def test_odd_requests_break_nothing(postgres_url: str, tmp_path: Path) -> None:
    async with serve(postgres_url, tmp_path) as served:
        for request_line, status in ODD_REQUESTS:
            answer = await raw(
                served.address, request_line + b"\r\nHost: a\r\nConnection: close\r\n\r\n"
            )
            assert answer.split(b" ", 2)[1] == status, (request_line[:50], answer[:300])
            assert b"<" not in answer
        assert (await served.client.get("/version")).status_code == 200


WEBSOCKET = (
    b"GET /api/v1/me HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def test_web_sockets_are_refused(postgres_url: str, tmp_path: Path) -> None:
    async with serve(postgres_url, tmp_path) as served:
        answer = await raw(served.address, WEBSOCKET)

    assert answer.startswith(b"HTTP/1.1 403 ")


async def test_pipelined_requests_are_all_answered(postgres_url: str, tmp_path: Path) -> None:
    one = b"GET /version HTTP/1.1\r\nHost: a\r\n"
    body = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
    last = one + b"Connection: close\r\n\r\n"

    async with serve(postgres_url, tmp_path) as served:
        answer = await raw(served.address, one + b"\r\n" + body + one + b"\r\n" + last)

    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert answer.count(b"HTTP/1.1 415 ") == 1


async def test_database_that_is_away_is_a_503_and_comes_back(
    postgres_factory: Callable[..., PostgresServer], tmp_path: Path
) -> None:
    server = postgres_factory()
    url = server.url_for(server.create_database())
    async with serve(url, tmp_path) as served:
        await served.login()
        await trio.to_thread.run_sync(server.stop, "immediate")

        me = await served.client.get("/api/v1/me")
        health = await served.client.get("/health")
        ready = await served.client.get("/ready")
        await trio.to_thread.run_sync(server.start)
        again = await served.client.get("/api/v1/me")

    assert (me.status_code, me.json()["code"]) == (503, "database-unavailable")
    assert me.headers["retry-after"]
    assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
    assert (ready.status_code, ready.json()) == (503, {"status": "unavailable"})
    assert again.status_code == 200
