"""What nginx says by itself, to requests that no API sees: always JSON, always with the headers of an API."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from tests.support.front import Front, Request, answer, open_front, reset

FINE = answer(b'{"fine":true}')
SECURITY = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}
LONG = b"a" * (140 * 1024)
END = b"Host: a\r\nConnection: close\r\n\r\n"
REFUSED = {
    "no request": (b"NONSENSE\r\n\r\n", 400, "bad-request"),
    "a bad escape": (b"GET /%zz HTTP/1.1\r\n" + END, 400, "bad-request"),
    "no host": (b"GET /x HTTP/1.1\r\nConnection: close\r\n\r\n", 400, "bad-request"),
    "a long address": (b"GET /" + LONG + b" HTTP/1.1\r\n" + END, 414, "bad-request"),
    "a long header": (b"GET /x HTTP/1.1\r\nX-A: " + LONG + b"\r\n" + END, 400, "bad-request"),
    "TRACE": (b"TRACE /x HTTP/1.1\r\n" + END, 405, "method-not-allowed"),
    "an unknown coding": (
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: odd\r\n" + END,
        400,
        "bad-request",
    ),
    "a later HTTP": (b"GET /x HTTP/3.0\r\n" + END, 400, "bad-request"),
}


async def ask(front: Front, request: bytes) -> tuple[int, dict[str, list[str]], bytes]:
    """Send these bytes; return status, headers and body of the answer."""
    with trio.fail_after(20):
        stream = await trio.open_unix_socket(str(front.place.socket))
        async with stream:
            await stream.send_all(request)
            received = b""
            while b"\r\n\r\n" not in received or b"}" not in received:
                part = await stream.receive_some()
                if not part:
                    break
                received += part
    head, _, body = received.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers: dict[str, list[str]] = {}
    for each in lines:
        name, _, value = each.partition(": ")
        headers.setdefault(name.lower(), []).append(value)
    return int(line.split()[1]), headers, body


@pytest.mark.parametrize("name", REFUSED)
async def test_a_request_that_nginx_refuses_is_answered_in_json(name: str, tmp_path: Path) -> None:
    request, status, code = REFUSED[name]
    async with open_front(tmp_path, FINE) as front:
        got, headers, body = await ask(front, request)
        assert (got, json.loads(body)["code"]) == (status, code)
        assert headers["content-type"] == ["application/json"]
        assert {key: headers.get(key) for key in SECURITY} == {k: [v] for k, v in SECURITY.items()}
        assert len(headers["x-request-id"]) == 1
        assert front.apis[0].requests == []


async def test_every_answer_of_its_own_has_the_headers_of_an_api_once(tmp_path: Path) -> None:
    async with open_front(tmp_path, FINE) as front:
        front.stop(front.apis[0])
        replies = [
            await front.client.get("/nginx/health"),
            await front.client.get("/metrics"),
            await front.client.post("/x", content=b"x" * (1024 * 1024 + 1)),
            await front.client.post("/x", headers={"X-Request-Id": "mine-2"}),
        ]
        assert [reply.status_code for reply in replies] == [200, 404, 413, 503]
        for reply in replies:
            for name, value in SECURITY.items():
                assert reply.headers.get_list(name) == [value], (reply, name)
            assert "strict-transport-security" not in reply.headers, "only over TLS"
        assert replies[3].headers.get_list("x-request-id") == ["mine-2"]


async def test_an_answer_of_an_api_is_passed_on_as_it_is(tmp_path: Path) -> None:
    async def plain(request: Request, stream: trio.SocketStream) -> None:
        await stream.send_all(
            b"HTTP/1.1 418 Odd\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 2\r\n\r\nhi"
        )

    async with open_front(tmp_path, plain) as front:
        reply = await front.client.get("/x")
        assert (reply.status_code, reply.text) == (418, "hi")
        assert reply.headers.get_list("x-content-type-options") == ["nosniff"]
        assert "cache-control" not in reply.headers


async def test_a_client_of_http_1_0_needs_no_host(tmp_path: Path) -> None:
    async with open_front(tmp_path, FINE) as front:
        status, _, body = await ask(front, b"GET /x HTTP/1.0\r\n\r\n")
        assert (status, body) == (200, b'{"fine":true}')
        assert front.apis[0].requests[0].headers["host"], "HTTP/1.1 towards the APIs needs one"


@pytest.mark.parametrize("address", ["/metrics", "/%6detrics", "//metrics", "/x/../metrics"])
async def test_metrics_have_no_other_way_in(address: str, tmp_path: Path) -> None:
    async with open_front(tmp_path, FINE) as front:
        request = f"GET {address} HTTP/1.1\r\n".encode() + END
        status, _, body = await ask(front, request)
        assert (status, json.loads(body)["code"]) == (404, "not-found")
        assert front.apis[0].requests == []


async def test_the_log_is_json_and_says_no_query(tmp_path: Path) -> None:
    async with open_front(tmp_path, FINE) as front:
        await front.client.get("/api/v1/search", params={"q": "secret"})
        await ask(front, b"NONSENSE\r\n\r\n")
        await ask(front, b"TRACE /asked?secret HTTP/1.1\r\n" + END)
        file = front.place.folder / "access.log"
        with trio.fail_after(10):
            # Written after the answer.
            while "TRACE" not in file.read_text():
                await trio.sleep(0.02)
        log = file.read_text()
        lines = [json.loads(line) for line in log.splitlines()]
        assert "secret" not in log
        assert "/api/v1/search" in {line["path"] for line in lines}
        assert lines[-1]["path"] == "/asked"


async def change(front: Front, file: str, old: str, new: str) -> None:
    """Change the configuration of the running nginx, and wait until new workers have it."""
    place, log = front.place.folder / "snippets" / file, front.place.folder.with_name("nginx.log")
    text = place.read_text()
    assert old in text
    place.write_text(text.replace(old, new))
    begun = log.read_text().count("start worker process ")
    ended = log.read_text().count("gracefully shutting down")
    os.kill(int((front.place.folder / "nginx.pid").read_text()), signal.SIGHUP)
    with trio.fail_after(15):
        while (
            log.read_text().count("start worker process ") == begun
            or log.read_text().count("gracefully shutting down") == ended
        ):
            await trio.sleep(0.02)


async def test_what_takes_long_is_waited_for_in_the_second_round_too(tmp_path: Path) -> None:
    seen: list[str] = []

    async def fail_then_take_long(request: Request, stream: trio.SocketStream) -> None:
        if request.line.startswith("POST"):
            seen.append(request.headers["idempotency-key"])
            # On the kept connection, which nginx does not count as a try, and on a new one.
            if len(seen) <= 2:
                await reset(request, stream)
                return
            await trio.sleep(1.0)
        await FINE(request, stream)

    async with open_front(tmp_path, fail_then_take_long) as front:
        await change(front, "proxy.conf", "proxy_read_timeout 35s", "proxy_read_timeout 200ms")
        await front.wait_reached()
        reply = await front.client.post("/api/v1/admin/index/verify")
        assert (reply.status_code, len(seen), len(set(seen))) == (200, 3, 1)


async def test_a_body_that_stops_coming_gets_no_answer(tmp_path: Path) -> None:
    """nginx closes without a word then, so there is no code for it."""
    async with open_front(tmp_path, FINE) as front:
        await change(front, "http.conf", "client_body_timeout 15s", "client_body_timeout 200ms")
        stream = await trio.open_unix_socket(str(front.place.socket))
        async with stream:
            await stream.send_all(b"POST /x HTTP/1.1\r\nContent-Length: 9\r\n" + END + b"some")
            with trio.fail_after(10), suppress(trio.BrokenResourceError):
                assert await stream.receive_some() == b""
        assert front.apis[0].requests == []


async def test_a_killed_nginx_leaves_no_worker_behind(tmp_path: Path) -> None:
    async with open_front(tmp_path, FINE) as front:
        place = front.place
    # A worker that lives on would take connections for good.
    with trio.fail_after(5), suppress(ConnectionRefusedError):
        while True:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(place.socket))
            await trio.sleep(0.02)
