"""The first administrator."""

from __future__ import annotations

from quart import Blueprint

from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing, OptionalText, RequestModel
from sercha.roles.api.serialising import full_user
from sercha.services.idempotency import KEPT

blueprint = Blueprint("setup", __name__)


class SetupRequest(RequestModel):
    """The first administrator; ``setup_token`` (or the header X-Setup-Token) where one is demanded."""

    name: str
    email: str
    password: str
    setup_token: OptionalText = None


@blueprint.post("/setup")
@operation(
    "Make the first administrator",
    shapes.SetupResponse,
    role=None,
    body=SetupRequest,
    status=201,
    errors=(403,),
    known_by_body=KEPT,
)
async def setup(call: Call[SetupRequest, Nothing]) -> shapes.SetupResponse:
    """Make the first administrator, once."""
    body = call.body
    user = await call.services.accounts.setup(
        body.name,
        body.email,
        body.password,
        setup_token=body.setup_token or call.headers.get("X-Setup-Token"),
    )
    return shapes.SetupResponse(user=full_user(user), message="Sercha is set up: log in now")
