"""The HTTP API as a role: `create_app` makes the application, `run_api` serves it until it is drained."""

from sercha.roles.api.app import create_app
from sercha.roles.api.context import ApiOptions, ApiServices, ProbeServices
from sercha.roles.api.serve import run_api
from sercha.roles.api.traffic import Traffic

__all__ = ["ApiOptions", "ApiServices", "ProbeServices", "Traffic", "create_app", "run_api"]
