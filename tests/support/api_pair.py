"""Two APIs on one database, for requests that are repeated."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.api import Api, open_api
from tests.support.connections import connected, value_of

KEY = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
USER = {"name": "Bea", "email": "bea@example.org", "password": "correct horse", "role": "viewer"}


@dataclass
class Pair:
    """Two APIs, an administrator, and a connection that looks on."""

    one: Api
    two: Api
    admin: dict[str, str]
    url: str

    async def value(self, query: str, *params: object) -> Any:
        async with connected(self.url) as watcher:
            return await value_of(watcher, query, *params)

    async def users(self) -> int:
        return await self.value("SELECT count(*) FROM account")

    async def add(self, api: Api, key: str, **changes: str) -> httpx.Response:
        headers = {**self.admin, KEY: key}
        return await api.client.post("/api/v1/users", headers=headers, json={**USER, **changes})

    @asynccontextmanager
    async def held(self, table: str) -> AsyncIterator[None]:
        """Make every change of *table* wait until the end of the block."""
        async with connected(self.url) as blocker, blocker.transaction():
            await blocker.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE".encode())
            yield

    async def is_blocked(self, count: int = 1) -> bool:
        """Whether *count* sessions wait for a table."""
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'relation'"
        return await self.value(query) >= count


@asynccontextmanager
async def open_pair(url: str, root: Path, **options: Any) -> AsyncGenerator[Pair]:
    """Open both, and set them up."""
    async with open_api(url, root, **options) as one, open_api(url, root, **options) as two:
        yield Pair(one, two, await one.setup(), url)


def told(answer: httpx.Response) -> tuple[int, bytes, bool]:
    """Return status, body, and whether it is a replay."""
    return answer.status_code, answer.content, REPLAYED in answer.headers


def code(answer: httpx.Response) -> tuple[int, str]:
    """Return status and error code."""
    return answer.status_code, answer.json()["code"]
