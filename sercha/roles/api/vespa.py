"""Vespa's state and its application, for administrators."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import structlog
import trio
from pydantic import Field
from quart import Blueprint

from sercha.domain.account import Role
from sercha.errors import Conflict, Rejected, Unavailable
from sercha.roles.api import shapes, vespa_shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing, RequestModel
from sercha.services.ports.vespa_admin import VespaApplication

DEPLOY_SECONDS = 120.0
"""How long a request waits for Vespa's services to take an application over; they go on without it."""
LOOK_SECONDS = 5.0
"""How long a config server may take to show the application."""
RETRY_AFTER = 5.0
ENDPOINT_CHARS_MAX = 2_000

blueprint = Blueprint("vespa", __name__)

_log = structlog.get_logger()


class ConnectVespaRequest(RequestModel):
    """What the Go program's clients send."""

    endpoint: Annotated[str, Field(max_length=ENDPOINT_CHARS_MAX)] = ""
    """One of the addresses that Sercha is configured with, or empty."""
    dev_mode: bool = False
    """Without effect: an application that is there already is always kept, and added to."""


@blueprint.post("/admin/vespa/connect")
@operation(
    "Deploy what Sercha needs of Vespa",
    vespa_shapes.VespaStatus,
    role=Role.ADMIN,
    body=ConnectVespaRequest,
    request_time=DEPLOY_SECONDS + LOOK_SECONDS * 2,
    is_safe=True,
    errors=(409, 503),
)
async def connect_vespa(
    call: Call[ConnectVespaRequest, Nothing],
) -> vespa_shapes.VespaStatus:
    """Deploy, where it is not done yet, and wait until all of Vespa's services have it."""
    endpoints = call.services.vespa_endpoints
    if not endpoints:
        raise Conflict(
            "Vespa is not the search engine here: set VESPA_CONTAINER_URL", code="no-vespa"
        )
    if call.body.endpoint and call.body.endpoint.rstrip("/") not in endpoints:
        raise Rejected(
            f"endpoint: Sercha uses what VESPA_CONTAINER_URL says: {', '.join(endpoints)}",
            code="bad-field",
        )
    if call.services.vespa is not None:
        with trio.move_on_after(DEPLOY_SECONDS) as limit:
            await call.services.vespa.prepare()
        if limit.cancelled_caught:
            raise Unavailable(
                "Vespa has not taken the application over yet: ask again",
                code="vespa-away",
                retry_after=RETRY_AFTER,
            )
    return await _status(call)


@blueprint.get("/admin/vespa/status")
@operation("Show how Vespa is doing", vespa_shapes.VespaStatus, role=Role.ADMIN)
async def show_vespa(call: Call[Nothing, Nothing]) -> vespa_shapes.VespaStatus:
    """Return whether Vespa answers, what it can do, and what runs there."""
    return await _status(call)


@blueprint.get("/admin/vespa/health")
@operation("Ask whether Vespa answers", shapes.Status, role=Role.ADMIN, errors=(503,))
async def show_vespa_health(call: Call[Nothing, Nothing]) -> shapes.Status:
    """Answer 503 where Vespa is not the engine, too."""
    vectors = await call.services.vectors()
    if not vectors.is_vespa or not vectors.is_healthy:
        why = vectors.message if vectors.is_vespa else "Vespa is not the search engine here"
        raise Unavailable(
            why or "Vespa does not answer", code="vespa-away", retry_after=RETRY_AFTER
        )
    return shapes.Status()


async def _status(
    call: Call[ConnectVespaRequest, Nothing] | Call[Nothing, Nothing],
) -> vespa_shapes.VespaStatus:
    services = call.services
    vectors = await services.vectors()
    model = (await services.ai.status()).current if vectors.is_vespa else None
    is_connected = vectors.is_vespa and vectors.is_healthy
    application = await _application(call)
    return vespa_shapes.VespaStatus(
        connected=is_connected,
        healthy=is_connected,
        endpoint=", ".join(services.vespa_endpoints),
        dev_mode=False,
        schema_mode=("hybrid" if model else "bm25") if vectors.is_vespa else "",
        embeddings_enabled=model is not None,
        embedding_dim=None if model is None else model.model.dimensions,
        embedding_provider=None if model is None else model.provider,
        can_upgrade=vectors.is_vespa and vectors.is_usable and model is None,
        reindex_required=False,
        indexed_chunks=await _chunks(call) if is_connected else None,
        schema_version=None if application is None else application.our_schema,
        cluster_info=None if application is None else _shown(application),
    )


async def _chunks(call: Call[ConnectVespaRequest, Nothing] | Call[Nothing, Nothing]) -> int | None:
    """Count the chunks; None while Vespa does not have all of them."""
    if not call.services.health.is_caught_up():
        return None
    return (await call.services.documents.counts())[1]


async def _application(
    call: Call[ConnectVespaRequest, Nothing] | Call[Nothing, Nothing],
) -> VespaApplication | None:
    """Return what runs there; None: nothing, or there is no config server that tells."""
    if call.services.vespa is None:
        return None
    try:
        with trio.move_on_after(LOOK_SECONDS):
            return await call.services.vespa.application()
        why = f"no answer within {LOOK_SECONDS:g} s"
    except (Rejected, Unavailable) as error:
        why = error.message
    _log.warning("vespa.application_unknown", error=why)
    return None


def _shown(application: VespaApplication) -> vespa_shapes.VespaClusterInfo:
    return vespa_shapes.VespaClusterInfo(
        container_clusters=[
            vespa_shapes.VespaContainerCluster(**asdict(each)) for each in application.containers
        ],
        content_clusters=[
            vespa_shapes.VespaContentCluster(**asdict(each)) for each in application.contents
        ],
        hosts=[vespa_shapes.VespaHost(**asdict(each)) for each in application.hosts],
        schemas=list(application.schemas),
        our_schema_deployed=application.our_schema is not None,
        services_xml=application.services_xml,
        hosts_xml=application.hosts_xml,
    )
