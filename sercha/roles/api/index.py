"""The index of this process: how it is doing, and waiting until it has caught up."""

from __future__ import annotations

from dataclasses import asdict

from pydantic import Field
from quart import Blueprint

from sercha.domain.account import Role
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing, RequestModel

WAIT_MAX = 20.0
"""Seconds; less than a request may take."""

blueprint = Blueprint("index", __name__)


class IndexQuery(RequestModel):
    """How long to wait."""

    wait: float = Field(default=0.0, ge=0.0, le=WAIT_MAX)


@blueprint.get("/index")
@operation(
    "Show this process's index",
    shapes.IndexState,
    role=Role.VIEWER,
    query=IndexQuery,
    errors=(503,),
)
async def show_index(call: Call[Nothing, IndexQuery]) -> shapes.IndexState:
    """Return how this process's copy is doing, and make it look for changes at once.

    With ``wait`` (seconds) only when searches here see everything that was committed before the request; 503
    when that takes longer.
    """
    index = call.services.index
    if call.query.wait:
        await index.catch_up(call.query.wait)
    return shapes.IndexState(**asdict(index.state()))
