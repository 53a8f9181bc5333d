"""For balancers, monitors and people: is it well, should requests come here, which version, how much of what."""

from __future__ import annotations

from quart import Blueprint, Response

from sercha.roles.api import shapes
from sercha.roles.api.context import current_state
from sercha.roles.api.operations import Call, Operation, declare, note_route, operation
from sercha.roles.api.parsing import Nothing
from sercha.telemetry.health import Phase

blueprint = Blueprint("health", __name__)
"""Stands at the root and beside the rest."""
metrics_blueprint = Blueprint("metrics", __name__)


def _health_status(answer: shapes.HealthResponse) -> int:
    return 503 if answer.status == "unhealthy" else 200


def _ready_status(answer: shapes.Status) -> int:
    return 200 if answer.status == Phase.READY else 503


@blueprint.get("/health")
@operation("How is it doing", shapes.HealthResponse, role=None, status_of=_health_status)
async def health(call: Call[Nothing, Nothing]) -> shapes.HealthResponse:
    """Return how each component is doing; 503 when the process can answer nothing."""
    report = await call.services.health.check()
    return shapes.HealthResponse(
        status=report.status,
        components={
            name: shapes.ComponentHealth(
                status="healthy" if component.is_healthy else "unhealthy",
                message=component.message or None,
            )
            for name, component in report.components.items()
        },
    )


@blueprint.get("/ready")
@operation("Should requests come here", shapes.Status, role=None, status_of=_ready_status)
async def ready(call: Call[Nothing, Nothing]) -> shapes.Status:
    """Return the phase of the process; 503 unless it is ready."""
    if current_state().traffic.is_draining:
        return shapes.Status(status=Phase.DRAINING)
    return shapes.Status(status=await call.services.health.phase())


@blueprint.get("/version")
@operation("Which version runs", shapes.VersionResponse, role=None)
async def version(call: Call[Nothing, Nothing]) -> shapes.VersionResponse:
    """Return the version."""
    return shapes.VersionResponse(version=call.services.version)


@metrics_blueprint.get("/metrics")
@declare(Operation("Counters for Prometheus", str, 200, None, Nothing, Nothing, (), "text/plain"))
async def metrics() -> Response:
    """Return the metrics page."""
    note_route()
    content, content_type = await current_state().services.metrics()
    return Response(content, content_type=content_type)
