"""The delivered configuration of nginx in front of scripted APIs."""

from __future__ import annotations

import secrets
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import trio

from sercha.testing.cluster import dns
from sercha.testing.cluster.balancer import (
    ALL_APIS,
    API_PORT,
    NginxPlace,
    find_nginx,
    make_nginx,
    make_place,
)
from sercha.testing.cluster.member import Host
from sercha.testing.cluster.plan import REPOSITORY

Script = Callable[["Request", trio.SocketStream], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """What nginx has sent."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class ScriptedApi:
    """Answers each request by its script, and keeps all of them."""

    name: str
    address: str
    script: Script
    requests: list[Request] = field(default_factory=list[Request])
    connections: int = 0

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(API_PORT, host=self.address)
        await trio.serve_listeners(self._talk, listeners, task_status=task_status)

    async def _talk(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        # Closed by the script, or by nginx.
        with suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            await self._answer_all(stream)

    async def _answer_all(self, stream: trio.SocketStream) -> None:
        async with stream:
            with_more = b""
            while True:
                while b"\r\n\r\n" not in with_more:
                    part = await stream.receive_some()
                    if not part:
                        return
                    with_more += part
                head, _, body = with_more.partition(b"\r\n\r\n")
                line, *lines = head.decode().split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (x.partition(": ") for x in lines)
                }
                length = int(headers.get("content-length", "0"))
                while len(body) < length:
                    body += await stream.receive_some()
                request = Request(line, headers, body[:length])
                with_more = body[length:]
                self.requests.append(request)
                await self.script(request, stream)


async def say(
    body: bytes, request: Request, stream: trio.SocketStream, *, status: str = "200 OK"
) -> None:
    """Answer with JSON."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    await stream.send_all(head.encode() + body)


async def reset(request: Request, stream: trio.SocketStream) -> None:
    """Die without an answer."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


async def half_a_head(request: Request, stream: trio.SocketStream) -> None:
    """Die in the middle of the head."""
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Ty")
    await stream.aclose()


async def half_a_body(request: Request, stream: trio.SocketStream) -> None:
    """Die in the middle of the body."""
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    await stream.aclose()


def answer(body: bytes, status: str = "200 OK") -> Script:
    """Return a script that always says the same."""
    return partial(say, body, status=status)


@dataclass
class Front:
    """nginx, its scripted APIs, and a client."""

    place: NginxPlace
    apis: list[ScriptedApi]
    client: httpx.AsyncClient
    names: Path
    nursery: trio.Nursery
    _scopes: dict[str, trio.CancelScope] = field(default_factory=dict[str, trio.CancelScope])

    async def start(self, api: ScriptedApi) -> None:
        """Let an API listen at its address."""
        scope = self._scopes[api.name] = trio.CancelScope()

        async def run(*, task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await api.serve(task_status=task_status)

        await self.nursery.start(run)

    def stop(self, api: ScriptedApi) -> None:
        """End an API with its connections."""
        self._scopes[api.name].cancel()

    async def wait_reached(self) -> None:
        """Wait until nginx knows where the APIs are, and forget what that took."""
        with trio.fail_after(15):
            while not all(api.requests for api in self.apis):
                with suppress(httpx.RemoteProtocolError):
                    await self.client.get("/reached")
        for api in self.apis:
            api.requests.clear()

    def tell_names(self) -> None:
        """Write where the APIs are, each under a name of its own and all under one."""
        draft = self.names.with_suffix(".draft")
        draft.write_text("".join(f"{api.address} {api.name} {ALL_APIS}\n" for api in self.apis))
        draft.replace(self.names)


def fresh_prefix() -> str:
    """Return three numbers of the loopback that nobody else uses."""
    return f"127.{secrets.randbelow(250) + 2}.{secrets.randbelow(250) + 2}"


@asynccontextmanager
async def open_front(
    folder: Path, *scripts: Script, program: Path | None = None, main: str = "nginx.conf"
) -> AsyncGenerator[Front]:
    """Start nginx and an API for each script; all end with the block.

    Args:
        folder: where its files go.
        scripts: what each API does.
        program: another nginx than that of the package.
        main: the variant of the configuration.
    """
    prefix = fresh_prefix()
    apis = [
        ScriptedApi(f"api-{number}", f"{prefix}.{number}", script)
        for number, script in enumerate(scripts, start=1)
    ]
    host = Host("nginx", f"{prefix}.200")
    place = make_place(
        REPOSITORY / "nginx",
        folder / "nginx",
        listen=[f"{host.address}:8080"],
        resolver=f"{host.address}:5353",
        upstreams=[f"{api.name}:{API_PORT}" for api in apis],
    )
    nginx = make_nginx(program or find_nginx(), place, host, folder / "nginx.log", main=main)
    # Without TLS no certificates, whose reading takes longer than a test's requests.
    transport = httpx.AsyncHTTPTransport(uds=str(place.socket), verify=False)
    async with (
        trio.open_nursery() as nursery,
        httpx.AsyncClient(transport=transport, base_url="http://nginx", timeout=30) as client,
    ):
        front = Front(place, apis, client, folder / "names", nursery)
        front.tell_names()
        nursery.start_soon(dns.serve, host.address, 5353, front.names)
        for api in apis:
            await front.start(api)
        nginx.attach(nursery)
        await nginx.start()
        await front.wait_reached()
        try:
            yield front
        finally:
            with trio.CancelScope(shield=True):
                nginx.expect_end()
                await nginx.kill()
            nursery.cancel_scope.cancel()
