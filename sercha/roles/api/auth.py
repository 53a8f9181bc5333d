"""Log in, refresh, log out, and who am I."""

from __future__ import annotations

from quart import Blueprint

from sercha.domain.account import Role
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing, RequestModel
from sercha.roles.api.serialising import login_response, user_summary

REPEAT_TIME = 60.0
"""Seconds in which a used refresh token gives the same tokens again, for a client that lost the answer."""

blueprint = Blueprint("auth", __name__)


class LoginRequest(RequestModel):
    """Who wants to come in."""

    email: str
    password: str


class RefreshRequest(RequestModel):
    """A refresh token, used up by this."""

    refresh_token: str


@blueprint.post("/auth/login")
@operation("Log in", shapes.LoginResponse, role=None, body=LoginRequest, errors=(401, 429))
async def login(call: Call[LoginRequest, Nothing]) -> shapes.LoginResponse:
    """Start a session."""
    return login_response(await call.services.accounts.login(call.body.email, call.body.password))


@blueprint.post("/auth/refresh")
@operation(
    "Get new tokens",
    shapes.LoginResponse,
    role=None,
    body=RefreshRequest,
    errors=(401,),
    known_by_body=REPEAT_TIME,
)
async def refresh(call: Call[RefreshRequest, Nothing]) -> shapes.LoginResponse:
    """Give new tokens for a refresh token."""
    return login_response(await call.services.accounts.refresh(call.body.refresh_token))


@blueprint.post("/auth/logout")
@operation("Log out", shapes.Status, role=Role.VIEWER)
async def logout(call: Call[Nothing, Nothing]) -> shapes.Status:
    """End the caller's session."""
    await call.services.accounts.logout(call.caller)
    return shapes.Status()


@blueprint.get("/me")
@operation("Who am I", shapes.UserSummary, role=Role.VIEWER)
async def me(call: Call[Nothing, Nothing]) -> shapes.UserSummary:
    """Return the caller."""
    return user_summary(call.user)
