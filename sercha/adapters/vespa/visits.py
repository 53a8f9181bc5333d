"""Going through all documents of a generation, and removing many at once: a page at a time, until no page is left.

A page may hold nothing and be followed by another; only an answer without a continuation is the end.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import trio

from sercha.adapters.vespa.connections import ConnectionFailed
from sercha.adapters.vespa.containers import Containers
from sercha.adapters.vespa.messages import Reply, Request
from sercha.errors import Unavailable
from sercha.services.backoff import Backoff

SERVER_TIME = 60.0
CLIENT_TIME = 1.1 * SERVER_TIME + 1.0
PAGE_DOCUMENTS = 1_000
CONCURRENCY = 4
TRIES_MAX = 10


@dataclass(slots=True)
class _Walk:
    """One walk over the pages."""

    containers: Containers
    method: str
    path: str
    parameters: dict[str, str]
    continuation: str | None = None
    delays: Backoff = field(default_factory=lambda: Backoff(base=0.2, cap=10.0))
    is_done: bool = False

    async def step(self) -> dict[str, Any]:
        """Return the next page.

        Raises:
            Unavailable: Vespa does not answer (``vespa-away``).
        """
        while True:
            reply = await self._try()
            if reply is not None:
                self.delays.reset()
                page = reply.read()
                self.continuation = page.get("continuation")
                self.is_done = self.continuation is None
                return page
            await trio.sleep(self.delays.next())

    async def _try(self) -> Reply | None:
        parameters = {**self.parameters, "timeout": f"{SERVER_TIME:g}"}
        if self.continuation is not None:
            parameters["continuation"] = self.continuation
        request = Request(self.method, f"{self.path}?{urlencode(parameters)}")
        try:
            reply = await self.containers.send(request, seconds=CLIENT_TIME)
        except ConnectionFailed as error:
            why = str(error)
        else:
            if reply.status == HTTPStatus.OK:
                return reply
            why = reply.message
            if reply.status < HTTPStatus.INTERNAL_SERVER_ERROR and not _is_passing(reply.status):
                raise Unavailable(
                    f"Vespa refuses {self.method} {self.path}: {why}", code="vespa-refused"
                )
        if self.delays.failures >= TRIES_MAX - 1:
            raise Unavailable(f"Vespa is away: {why}", code="vespa-away")
        return None


def _is_passing(status: int) -> bool:
    return status == HTTPStatus.TOO_MANY_REQUESTS


async def visit(
    containers: Containers, generation: str, document_type: str, cluster: str, field_set: str
) -> AsyncGenerator[list[dict[str, Any]]]:
    """Give all documents of a type in a generation, in no order; each as ``{"id", "fields"}``.

    A document that is written meanwhile may come in its old or its new state.

    Raises:
        Unavailable: Vespa does not answer (``vespa-away``).
    """
    walk = _Walk(
        containers,
        "GET",
        f"/document/v1/{generation}/{document_type}/docid/",
        {
            "cluster": cluster,
            "wantedDocumentCount": str(PAGE_DOCUMENTS),
            "concurrency": str(CONCURRENCY),
            "fieldSet": field_set,
        },
    )
    while not walk.is_done:
        page = await walk.step()
        yield page.get("documents") or []


async def remove_all(
    containers: Containers, generation: str, document_type: str, cluster: str, selection: str
) -> int:
    """Remove the documents that meet *selection*, which no user's text is ever part of; how many there were.

    Raises:
        Unavailable: Vespa does not answer (``vespa-away``); what was removed until then stays removed.
    """
    walk = _Walk(
        containers,
        "DELETE",
        f"/document/v1/{generation}/{document_type}/docid/",
        {"cluster": cluster, "selection": selection},
    )
    removed = 0
    while not walk.is_done:
        removed += int((await walk.step()).get("documentCount", 0))
    return removed
