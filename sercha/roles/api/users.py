"""The team's users."""

from __future__ import annotations

from quart import Blueprint

from sercha.domain.account import Role
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing, RequestModel
from sercha.roles.api.serialising import user_summary

blueprint = Blueprint("users", __name__)


class CreateUserRequest(RequestModel):
    """A new user."""

    name: str
    email: str
    password: str
    role: Role = Role.MEMBER


@blueprint.get("/users")
@operation("List users", list[shapes.UserSummary], role=Role.ADMIN)
async def list_users(call: Call[Nothing, Nothing]) -> list[shapes.UserSummary]:
    """Return all users by email."""
    return [user_summary(user) for user in await call.services.accounts.users()]


@blueprint.post("/users")
@operation(
    "Add a user",
    shapes.UserSummary,
    role=Role.ADMIN,
    body=CreateUserRequest,
    status=201,
    errors=(409,),
)
async def create_user(call: Call[CreateUserRequest, Nothing]) -> shapes.UserSummary:
    """Add a user."""
    body = call.body
    accounts = call.services.accounts
    return user_summary(await accounts.create_user(body.name, body.email, body.password, body.role))


@blueprint.delete("/users/<user_id>")
@operation("Remove a user", shapes.Status, role=Role.ADMIN, errors=(404, 409))
async def remove_user(call: Call[Nothing, Nothing]) -> shapes.Status:
    """Remove a user with all sessions; the last administrator stays."""
    await call.services.accounts.remove_user(call.uuid("user"))
    return shapes.Status()
