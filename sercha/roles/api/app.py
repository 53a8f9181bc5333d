"""Makes the application: blueprints, errors as JSON, and the edge around them."""

from __future__ import annotations

from quart_trio import QuartTrio

from sercha.roles.api import (
    admin,
    ai_settings,
    auth,
    documents,
    events,
    health,
    index,
    leases,
    problems,
    schedules,
    search,
    settings,
    setup,
    sources,
    sync,
    tasks,
    users,
    vespa,
)
from sercha.roles.api.context import ApiServices, ApiState, ProbeServices, bind_state
from sercha.roles.api.edge import Edge
from sercha.roles.api.openapi import add_document
from sercha.roles.api.traffic import Traffic

PREFIX = "/api/v1"

_ROOMS = (
    admin,
    ai_settings,
    auth,
    documents,
    events,
    index,
    leases,
    schedules,
    search,
    settings,
    setup,
    sources,
    sync,
    tasks,
    users,
    vespa,
)


def create_app(services: ProbeServices, *, traffic: Traffic | None = None) -> QuartTrio:
    """Return the application on *services*: an ASGI application for Trio, to be served by anybody.

    *traffic* tells it when to refuse new requests and counts those under way. On mere `ProbeServices` it
    answers health, readiness, version and metrics.
    """
    traffic = traffic or Traffic()
    app = _bare(services, traffic)
    app.register_blueprint(health.blueprint, name="root")
    app.register_blueprint(health.blueprint, name="versioned", url_prefix=PREFIX)
    app.register_blueprint(health.metrics_blueprint)
    if isinstance(services, ApiServices):
        for room in _ROOMS:
            app.register_blueprint(room.blueprint, url_prefix=PREFIX)
    add_document(app, version=services.version)
    app.asgi_app = Edge(app.asgi_app, traffic, services.options)
    return app


def _bare(services: ProbeServices, traffic: Traffic) -> QuartTrio:
    app = QuartTrio("sercha.roles.api", static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = services.options.body_bytes_max
    # The edge limits the whole request.
    app.config["BODY_TIMEOUT"] = None
    app.config["RESPONSE_TIMEOUT"] = None
    app.url_map.merge_slashes = False
    bind_state(app, ApiState(services, traffic))
    problems.register(app)
    return app
