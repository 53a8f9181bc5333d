"""Deploying the application: what is there is kept, and it is over when every service has the new one.

A config server may answer 200 without having activated anything, and has always answered before the containers follow;
so the activation is asked for again, and then the generation of each service is looked at.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import httpx
import structlog
import trio

from sercha.adapters.vespa.connections import CONNECT_TIME
from sercha.adapters.vespa.merge import merge
from sercha.adapters.vespa.messages import Reply, as_object
from sercha.adapters.vespa.names import DOCUMENT
from sercha.adapters.vespa.package import VectorField, vector_fields_of
from sercha.errors import Rejected, Unavailable
from sercha.services.backoff import Backoff

DEPLOY_SECONDS = 300.0
"""For one request: a config server prepares the whole application within it."""
READ_SECONDS = 30.0
CONVERGE_SECONDS = 600.0
POLL_SECONDS = 0.5
TRIES_MAX = 8

_TENANT = "/application/v2/tenant/default"
_APPLICATION = f"{_TENANT}/application/default/environment/prod/region/default/instance/default"
_PASSING = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.INTERNAL_SERVER_ERROR,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deployment did."""

    session: int
    """The generation that is active now; 0: nothing had to be deployed."""
    actions: Mapping[str, Any]
    """What the operator must do for the change to take effect: ``restart``, ``refeed``, ``reindex``."""


class Deployer:
    """Talks to one of several config servers, the next one when it does not answer."""

    def __init__(self, config_urls: Sequence[str], container_urls: Sequence[str]) -> None:
        self._config_urls = [url.rstrip("/") for url in config_urls]
        self._container_urls = [url.rstrip("/") for url in container_urls]

    async def deploy(self, package: Mapping[str, bytes], *, cluster: str) -> Deployment:
        """Make what Vespa runs contain *package*, and wait until all its services have it.

        Cancelled, the deployment may go on in Vespa; deploying again is safe.

        Raises:
            Rejected: Vespa refuses the application, or has one that ours cannot be put into (``vespa-application``).
            Unavailable: no config server answers, or the services do not follow in time (``vespa-away``).
        """
        async with _client() as client:
            existing = await self._fetch(client)
            files = merge(existing, package, cluster) if existing else dict(package)
            if files == existing:
                return Deployment(0, {})
            deployment = await self._activate(client, zip_of(files))
            await self._converge(client, deployment.session)
            await self._wait_for_containers(client)
        _log.info("vespa.deployed", session=deployment.session)
        return deployment

    async def vector_fields(self) -> list[VectorField]:
        """Return the fields of vectors that Vespa has now: a deployment without them would throw their vectors away.

        Raises:
            Rejected: as in `deploy`.
            Unavailable: no config server answers (``vespa-away``).
        """
        async with _client() as client:
            path = f"{_APPLICATION}/content/schemas/{DOCUMENT}.sd"
            reply = await self._ask(client, "GET", path)
        if reply.status == HTTPStatus.NOT_FOUND:
            return []
        self._expect(reply)
        return vector_fields_of(reply.content.decode("utf-8", "replace"))

    async def files(self) -> dict[str, bytes]:
        """Return every file of the active application by its path; empty: there is none.

        Raises:
            Rejected: as in `deploy`.
            Unavailable: no config server answers (``vespa-away``).
        """
        async with _client() as client:
            return await self._fetch(client)

    async def _fetch(self, client: httpx.AsyncClient) -> dict[str, bytes]:
        """Return every file of the active application; empty: there is none."""
        reply = await self._ask(client, "GET", f"{_APPLICATION}/content/?recursive=true")
        if reply.status == HTTPStatus.NOT_FOUND:
            return {}
        self._expect(reply)
        urls: list[str] = httpx.Response(HTTPStatus.OK, content=reply.content).json()
        files: dict[str, bytes] = {}
        for url in urls:
            path = url.partition("/content/")[2]
            if not path.endswith("/"):
                content = await self._ask(client, "GET", f"{_APPLICATION}/content/{path}")
                self._expect(content)
                files[unquote(path)] = content.content
        return files

    async def _activate(self, client: httpx.AsyncClient, archive: bytes) -> Deployment:
        headers = {"Content-Type": "application/zip"}
        path = f"{_TENANT}/prepareandactivate"
        reply = await self._ask(client, "POST", path, archive, headers, DEPLOY_SECONDS)
        self._expect(reply)
        said = reply.read()
        session = int(said["session-id"])
        delays = Backoff(base=0.5, cap=10.0)
        while not said.get("activated", "and activated" in str(said.get("message"))):
            why = str(said.get("message"))
            if delays.failures >= TRIES_MAX:
                raise Unavailable(
                    f"Vespa did not activate the application: {why}", code="vespa-away"
                )
            _log.warning("vespa.activation_failed", session=session, reason=why)
            await trio.sleep(delays.next())
            reply = await self._ask(client, "PUT", f"{path}/{session}", seconds=DEPLOY_SECONDS)
            self._expect(reply)
            said = {"activated": True, **reply.read()}
        return Deployment(session, as_object(said.get("configChangeActions")))

    async def _converge(self, client: httpx.AsyncClient, session: int) -> None:
        with trio.move_on_after(CONVERGE_SECONDS):
            while True:
                reply = await self._ask(client, "GET", f"{_APPLICATION}/serviceconverge")
                said = reply.read()
                if said.get("converged") and int(said.get("currentGeneration", -1)) >= session:
                    return
                await trio.sleep(POLL_SECONDS)
        raise Unavailable(
            f"Vespa's services did not take over application generation {session}",
            code="vespa-away",
        )

    async def _wait_for_containers(self, client: httpx.AsyncClient) -> None:
        for url in self._container_urls:
            with trio.move_on_after(CONVERGE_SECONDS) as scope:
                while True:
                    # 404: it has started, and is not to be asked yet.
                    if (await _once(client, "GET", f"{url}/status.html")).status == HTTPStatus.OK:
                        break
                    await trio.sleep(POLL_SECONDS)
            if scope.cancelled_caught:
                raise Unavailable(f"Vespa's container {url} does not come up", code="vespa-away")

    async def _ask(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        seconds: float = READ_SECONDS,
    ) -> Reply:
        """Ask one config server after the other, until one has a lasting answer."""
        delays = Backoff(base=0.2, cap=10.0)
        reply = Reply(0, {}, b"")
        for attempt in range(TRIES_MAX):
            url = self._config_urls[attempt % len(self._config_urls)]
            with trio.move_on_after(seconds):
                reply = await _once(client, method, url + path, content, headers)
            if reply.status and reply.status not in _PASSING:
                return reply
            await trio.sleep(delays.next())
        raise Unavailable(
            f"Vespa's config servers do not answer: {reply.message}", code="vespa-away"
        )

    def _expect(self, reply: Reply) -> None:
        if reply.status != HTTPStatus.OK:
            raise Rejected(
                f"Vespa refuses the application: {reply.message}", code="vespa-application"
            )


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=httpx.Timeout(None, connect=CONNECT_TIME))


async def _once(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    content: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Ask once; status 0: there was no answer."""
    try:
        answer = await client.request(method, url, content=content or None, headers=headers)
    except httpx.TransportError:
        return Reply(0, {}, b"")
    return Reply(answer.status_code, {}, answer.content)


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """Pack an application; the same files give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            archive.writestr(zipfile.ZipInfo(path), files[path])
    return buffer.getvalue()
