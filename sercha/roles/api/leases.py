"""Leases: who may act, and taking one away."""

from __future__ import annotations

from uuid import UUID

from quart import Blueprint

from lockd import Inspection
from sercha.domain.account import Role
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing
from sercha.roles.api.shapes import Shape

EVICT_TIME = 45.0
"""Seconds for taking a lease away: it waits for a transaction of the holder."""

blueprint = Blueprint("leases", __name__)


class Lease(Shape):
    """A lease, as its store has it."""

    name: str
    holder: UUID | None = None
    """Absent: nobody."""
    remaining: float | None = None
    """Seconds until it ends unless it is renewed."""
    token: int
    """The newest fencing token."""


class LeasesResponse(Shape):
    """The leases that were held at some time."""

    leases: list[Lease]


@blueprint.get("/leases")
@operation("List leases", LeasesResponse, role=Role.ADMIN)
async def list_leases(call: Call[Nothing, Nothing]) -> LeasesResponse:
    """Return the leases that were held at some time, and who holds them now."""
    return LeasesResponse(leases=[_lease(each) for each in await call.services.leases.list()])


@blueprint.post("/leases/<lease_name>/release")
@operation(
    "Take a lease away",
    shapes.Status,
    role=Role.ADMIN,
    errors=(404,),
    request_time=EVICT_TIME,
    is_safe=True,  # its effect may be in Redis, which no transaction of ours reaches
)
async def release_lease(call: Call[Nothing, Nothing]) -> shapes.Status:
    """Free a lease whoever holds it; that one can commit nothing any more."""
    await call.services.leases.release(call.path["lease_name"])
    return shapes.Status()


def _lease(found: Inspection) -> Lease:
    """Return a lease."""
    return Lease(name=found.name, holder=found.holder, remaining=found.remaining, token=found.token)
