"""The delivered configuration of nginx, with a real nginx in front of scripted APIs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
import trio

from sercha.testing.cluster.balancer import find_nginx
from sercha.testing.cluster.plan import REPOSITORY
from tests.support.front import (
    Request,
    Script,
    answer,
    half_a_body,
    half_a_head,
    open_front,
    reset,
)

FINE = answer(b'{"fine":true}')
BUSY = answer(b'{"error":"stopping","code":"draining"}', "503 Service Unavailable")
POST = {"json": {"name": "a"}}


@pytest.mark.parametrize("fault", [reset, half_a_head, BUSY], ids=["reset", "half a head", "503"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_a_request_goes_to_the_other_api_with_the_same_key(
    fault: Script, method: str, tmp_path: Path
) -> None:
    async with open_front(tmp_path, fault, FINE) as front:
        seen = []
        for _ in range(4):
            reply = await front.client.request(method, "/api/v1/things")
            assert (reply.status_code, reply.json()) == (200, {"fine": True})
            seen.append(reply)
        faulty, fine = front.apis
        assert faulty.requests, "the faulty one was asked"
        assert len(fine.requests) == 4
        keys = [request.headers.get("idempotency-key") for request in fine.requests]
        if method == "GET":
            assert keys == [None] * 4
        else:
            assert len(set(keys)) == 4
            assert None not in keys
            assert {each.headers["idempotency-key"] for each in faulty.requests} <= set(keys)


async def test_a_clients_own_key_is_kept(tmp_path: Path) -> None:
    async with open_front(tmp_path, reset, FINE) as front:
        for _ in range(2):
            await front.client.post("/x", headers={"Idempotency-Key": "mine"}, **POST)
        for api in front.apis:
            assert {each.headers["idempotency-key"] for each in api.requests} == {"mine"}


async def test_when_all_say_503_the_apis_own_words_come_through(tmp_path: Path) -> None:
    async with open_front(tmp_path, BUSY, BUSY) as front:
        reply = await front.client.post("/x", **POST)
        assert (reply.status_code, reply.json()["code"]) == (503, "draining")
        assert [len(api.requests) for api in front.apis] == [1, 1]


async def test_without_any_api_there_is_a_clear_503_and_it_ends_at_once(tmp_path: Path) -> None:
    async with open_front(tmp_path, FINE, FINE) as front:
        for api in front.apis:
            front.stop(api)
        reply = await front.client.post("/x", **POST)
        assert (reply.status_code, reply.json()["code"]) == (503, "no-api")
        assert reply.headers["retry-after"] == "1"
        assert reply.headers["content-type"] == "application/json"
        await front.start(front.apis[1])
        assert (await front.client.post("/x", **POST)).status_code == 200


async def test_a_body_that_ends_in_the_middle_is_no_answer(tmp_path: Path) -> None:
    """Nothing can be hidden once the head has gone out: that is why small answers leave in one write."""
    async with open_front(tmp_path, half_a_body, half_a_body) as front:
        with pytest.raises(httpx.RemoteProtocolError):
            await front.client.get("/x")


async def test_an_address_that_changes_is_followed(tmp_path: Path) -> None:
    async with open_front(tmp_path, FINE, FINE) as front:
        first, second = front.apis
        front.stop(first)
        front.stop(second)
        second.address = second.address.rsplit(".", 1)[0] + ".77"
        await front.start(second)
        front.tell_names()
        with trio.fail_after(15):
            while (await front.client.get("/x")).status_code != 200:
                await trio.sleep(0.05)


async def test_events_arrive_as_they_happen(tmp_path: Path) -> None:
    seen = [trio.Event() for _ in range(3)]

    async def stream_some(request: Request, stream: trio.SocketStream) -> None:
        if "/events" not in request.line:
            await FINE(request, stream)
            return
        await stream.send_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for each in seen:
            await stream.send_all(b"9\r\ndata: a\n\n\r\n")
            await each.wait()
        await stream.send_all(b"0\r\n\r\n")

    async with open_front(tmp_path, stream_some) as front:
        with trio.fail_after(10):
            async with front.client.stream("GET", "/api/v1/events") as reply:
                received = b""
                async for part in reply.aiter_bytes():
                    received += part
                    seen[received.count(b"data") - 1].set()
        assert received == b"data: a\n\n" * 3


async def test_a_body_that_is_too_large_is_refused_in_json(tmp_path: Path) -> None:
    async with open_front(tmp_path, FINE) as front:
        reply = await front.client.post("/x", content=b"x" * (1024 * 1024 + 1))
        assert (reply.status_code, reply.json()["code"]) == (413, "body-too-large")
        assert front.apis[0].requests == []


async def test_guessing_passwords_is_slowed_down_in_json(tmp_path: Path) -> None:
    async with open_front(tmp_path, FINE) as front:
        replies = [await front.client.post("/api/v1/auth/login", **POST) for _ in range(30)]
        refused = [reply for reply in replies if reply.status_code == 429]
        assert 5 <= len(refused) <= 10
        assert refused[0].json()["code"] == "too-many-requests"
        assert refused[0].headers["retry-after"]
        assert (await front.client.get("/api/v1/sources")).status_code == 200


async def test_metrics_are_not_for_those_outside(tmp_path: Path) -> None:
    async with open_front(tmp_path, FINE) as front:
        reply = await front.client.get("/metrics")
        assert (reply.status_code, reply.json()["code"]) == (404, "not-found")
        assert front.apis[0].requests == []
        assert (await front.client.get("/nginx/health")).json() == {"status": "healthy"}


async def test_what_a_client_says_of_its_address_is_thrown_away(tmp_path: Path) -> None:
    async with open_front(tmp_path, FINE) as front:
        spoofed = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
        await front.client.get("/x", headers={**spoofed, "X-Request-Id": "mine-1"})
        await front.client.get("/x", headers={"X-Request-Id": "not sound!"})
        first, second = front.apis[0].requests
        assert "192.0.2.1" not in first.headers["x-forwarded-for"]
        assert first.headers["x-forwarded-proto"] == "http"
        assert first.headers["x-request-id"] == "mine-1"
        assert len(second.headers["x-request-id"]) == 32


async def test_connections_to_an_api_are_kept(tmp_path: Path) -> None:
    async with open_front(tmp_path, FINE) as front:
        for _ in range(10):
            await front.client.get("/x")
        assert front.apis[0].connections == 1
        assert len(front.apis[0].requests) == 10


def check(folder: Path, name: str) -> None:
    done = subprocess.run(
        [find_nginx(), "-t", "-p", f"{folder}/", "-c", folder / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    folder = tmp_path / "nginx"
    shutil.copytree(REPOSITORY / "nginx", folder)
    temporary = (folder / "place" / "temp.conf").read_text().replace("/tmp/", f"{tmp_path}/")
    (folder / "place" / "temp.conf").write_text(temporary)
    process = f"worker_processes 1;\npid {tmp_path}/pid;\nerror_log stderr;\n"
    (folder / "place" / "process.conf").write_text(process)
    return folder


@pytest.mark.parametrize("name", ["nginx.conf", "nginx-1.22.conf"])
def test_the_delivered_files_are_right(name: str, configuration: Path) -> None:
    check(configuration, name)


def test_the_example_with_tls_is_right(configuration: Path, tmp_path: Path) -> None:
    import trustme

    authority = trustme.CA()
    certificate = authority.issue_cert("search.example.org")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    servers = (configuration / "tls.example.conf").read_text()
    main = (configuration / "nginx.conf").read_text()
    begin = main.index("    server {\n        include place/listen.conf;")
    text = main[:begin] + servers.replace("/etc/nginx/tls", str(tmp_path)) + "}\n"
    (configuration / "tls.conf").write_text(text)
    check(configuration, "tls.conf")
