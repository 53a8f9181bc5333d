"""What the golden cases talk to: the stand-in, or a real Vespa."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import trio

from tests.vespa import Vespa, open_vespa
from tests.vespa.example import example_files, override, zipped

DEPLOY = "/application/v2/tenant/default/prepareandactivate"
INSTANCE = (
    "/application/v2/tenant/default/application/default/environment/prod/region/default"
    "/instance/default"
)
TIME_LIMIT = 300.0


@dataclass
class Endpoint:
    """A Vespa with the example deployed; *stand_in* is None for a real one."""

    config_url: str
    url: str
    client: httpx.AsyncClient
    stand_in: Vespa | None
    namespace: str = field(default_factory=lambda: "n" + uuid.uuid4().hex[:12])

    def path(self, user: str, kind: str = "doc") -> str:
        """The path of a document."""
        return f"/document/v1/{self.namespace}/{kind}/docid/{quote(user, safe='')}"

    def full_id(self, user: str, kind: str = "doc") -> str:
        """The id of a document."""
        return f"id:{self.namespace}:{kind}::{user}"

    async def ask(self, method: str, path: str, body: Any = None, **params: Any) -> httpx.Response:
        """Send a request to the container; dots in names of parameters are double underscores."""
        query = {key.replace("__", "."): value for key, value in params.items()}
        return await self.client.request(
            method, self.url + path, json=body, params=query or None, timeout=60
        )

    async def put(self, user: str, fields: Mapping[str, Any], **params: Any) -> httpx.Response:
        """Put a document."""
        return await self.ask("POST", self.path(user), {"fields": dict(fields)}, **params)

    async def update(self, user: str, fields: Mapping[str, Any], **params: Any) -> httpx.Response:
        """Update a document."""
        return await self.ask("PUT", self.path(user), {"fields": dict(fields)}, **params)

    async def fields(self, user: str) -> dict[str, Any] | None:
        """The fields of a document; None when it does not exist."""
        answer = await self.ask("GET", self.path(user))
        assert answer.status_code in (200, 404)
        return answer.json()["fields"] if answer.status_code == 200 else None

    async def deploy(self, files: Mapping[str, bytes]) -> httpx.Response:
        """Deploy a package."""
        return await self.client.post(
            self.config_url + DEPLOY,
            content=zipped(files),
            headers={"content-type": "application/zip"},
            timeout=TIME_LIMIT,
        )

    async def converge(self, generation: int) -> None:
        """Wait until all services run a generation, and the container is up."""
        with trio.fail_after(TIME_LIMIT):
            while True:
                answer = await self.client.get(f"{self.config_url}{INSTANCE}/serviceconverge")
                content = answer.json()
                if content["converged"] and content["currentGeneration"] >= generation:
                    break
                await trio.sleep(0.2)
            while (await self.client.get(self.url + "/status.html")).status_code != 200:
                await trio.sleep(0.2)


@asynccontextmanager
async def open_endpoint() -> AsyncGenerator[Endpoint]:
    """Give the example on a real Vespa if VESPA_URL is set, and on a new stand-in otherwise."""
    url = os.environ.get("VESPA_URL", "").rstrip("/")
    async with httpx.AsyncClient() as client:
        if url:
            config_url = os.environ.get("VESPA_CONFIG_URL", "http://127.0.0.1:19071").rstrip("/")
            endpoint = Endpoint(config_url, url, client, None)
            await deploy_example(endpoint)
            yield endpoint
            return
        async with open_vespa() as vespa:
            endpoint = Endpoint(vespa.config_url, vespa.container_urls[0], client, vespa)
            await deploy_example(endpoint)
            yield endpoint


async def deploy_example(endpoint: Endpoint) -> None:
    """Deploy the example, and wait for it; on a real Vespa that undoes what a case before has changed."""
    if endpoint.stand_in is None:
        undoing = override("field-type-change", "schema-removal", days=1)
        answer = await endpoint.deploy({**example_files(), **undoing})
        assert answer.status_code == 200, answer.text
    answer = await endpoint.deploy(example_files())
    assert answer.status_code == 200, answer.text
    await endpoint.converge(int(answer.json()["session-id"]))
