"""The API on a real socket, for tests of the wire."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import trio

from sercha.adapters.postgres.pool import ConnectionPool
from sercha.domain.query import SearchQuery
from sercha.roles.api import ApiOptions, ApiServices, run_api
from sercha.services.ports import IndexPage
from tests.support.api import ADMIN, ListedIndex, open_services

LOGIN = {key: ADMIN[key] for key in ("email", "password")}


@dataclass
class Gate:
    """A search that waits until the test lets it go on."""

    entered: trio.Event = field(default_factory=trio.Event)
    opened: trio.Event = field(default_factory=trio.Event)
    cancelled: trio.Event = field(default_factory=trio.Event)

    async def __call__(self, query: SearchQuery, principals: frozenset[str]) -> IndexPage:
        self.entered.set()
        try:
            await self.opened.wait()
        except trio.Cancelled:
            self.cancelled.set()
            raise
        return IndexPage((), 0)


@dataclass
class Served:
    """A served API."""

    url: str
    services: ApiServices
    index: ListedIndex
    pool: ConnectionPool
    drain: trio.Event
    ended: trio.Event
    client: httpx.AsyncClient

    async def login(self) -> None:
        """Set up and log the client in."""
        await self.services.accounts.setup(**ADMIN)
        answer = await self.client.post("/api/v1/auth/login", json=LOGIN)
        self.client.headers["Authorization"] = f"Bearer {answer.json()['token']}"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        url = httpx.URL(self.url)
        assert url.port
        return url.host, url.port


@asynccontextmanager
async def serve(
    url: str, root: Path, *, grace: float = 10.0, options: ApiOptions | None = None
) -> AsyncGenerator[Served]:
    """Serve on a free port of the loopback until the block ends."""
    drain, ended = trio.Event(), trio.Event()
    async with open_services(url, root, options=options) as (services, pool, index):

        async def run(task_status: trio.TaskStatus[list[str]]) -> None:
            await run_api(
                services,
                host="127.0.0.1",
                port=0,
                drain=drain,
                grace=grace,
                task_status=task_status,
            )
            ended.set()

        async with trio.open_nursery() as nursery:
            [base] = await nursery.start(run)
            async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
                yield Served(base, services, index, pool, drain, ended, client)
            drain.set()
            with trio.fail_after(grace + 5):
                await ended.wait()


async def raw(address: tuple[str, int], request: bytes) -> bytes:
    """Send bytes and return all that comes back until the end."""
    stream = await trio.open_tcp_stream(*address)
    async with stream:
        await stream.send_all(request)
        answer = b""
        with trio.move_on_after(5):
            async for part in stream:
                answer += part
        return answer
