"""The team's settings."""

from __future__ import annotations

from quart import Blueprint

from sercha.domain.account import Role
from sercha.domain.query import SearchMode
from sercha.roles.api import shapes
from sercha.roles.api.operations import Call, operation
from sercha.roles.api.parsing import Nothing, RequestModel
from sercha.roles.api.serialising import team_settings
from sercha.services.accounts import SettingsChange

blueprint = Blueprint("settings", __name__)


class UpdateSettingsRequest(RequestModel):
    """What to change; the rest stays."""

    default_search_mode: SearchMode | None = None
    results_per_page: int | None = None
    sync_enabled: bool | None = None
    sync_interval_minutes: int | None = None
    semantic_search_enabled: bool | None = None
    auto_suggest_enabled: bool | None = None


@blueprint.get("/settings")
@operation("Show the team's settings", shapes.Settings, role=Role.ADMIN)
async def show_settings(call: Call[Nothing, Nothing]) -> shapes.Settings:
    """Return the team's settings."""
    return team_settings(await call.services.accounts.settings())


@blueprint.put("/settings")
@operation(
    "Change the team's settings", shapes.Settings, role=Role.ADMIN, body=UpdateSettingsRequest
)
async def change_settings(call: Call[UpdateSettingsRequest, Nothing]) -> shapes.Settings:
    """Change what is given."""
    change = SettingsChange(**dict(call.body))
    return team_settings(
        await call.services.accounts.change_settings(change, changed_by=call.user.id)
    )
