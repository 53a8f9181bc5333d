"""Health, status and metrics of containers and of the config server."""

from __future__ import annotations

import time
from typing import Any

from tests.vespa.messages import Request, json_answer
from tests.vespa.model import Answer
from tests.vespa.state import VERSION, State

_DOCUMENT_HANDLER = "com.yahoo.document.restapi.resource.DocumentV1ApiHandler"
_SEARCH_HANDLER = "com.yahoo.search.handler.SearchHandler"


def answer_health(state: State, request: Request) -> Answer | None:
    """Answer what is not the application's; None for other paths."""
    generation = state.deployed.generation if state.deployed else 0
    match request.path:
        case "/state/v1/health":
            return _health(state, request)
        case "/state/v1/metrics":
            return _health(state, request)
        case "/state/v1/version":
            return json_answer(200, {"version": VERSION})
        case "/state/v1/config":
            current = state.application.generation if state.application else 0
            return json_answer(
                200, {"config": {"generation": current, "container": {"generation": current}}}
            )
        case "/ApplicationStatus":
            return json_answer(200, _application_status(generation))
        case "/status.html":
            return _status(state, request)
        case "/metrics/v2/values" if request.container is not None:
            return json_answer(200, _metrics())
        case "/" if request.container is not None:
            return json_answer(200, {"handlers": _handlers()})
        case _:
            return None


def _health(state: State, request: Request) -> Answer:
    fault = state.faults.take({"initializing"}, request.method, request.path, request.container)
    code = "initializing" if fault else "up"
    now = int(time.time() * 1000)
    snapshot = {"from": now / 1000 - 60, "to": now / 1000}
    latency = dict.fromkeys(("average", "sum", "count", "last", "max", "min", "rate"), 0)
    values = [
        {"name": "requestsPerSecond", "values": {"count": 0, "rate": 0.0}},
        {"name": "latencySeconds", "values": latency},
    ]
    return json_answer(
        200,
        {
            "time": now,
            "status": {"code": code},
            "metrics": {"snapshot": snapshot, "values": values},
        },
    )


def _status(state: State, request: Request) -> Answer:
    fault = state.faults.take({"out-of-rotation"}, request.method, request.path, request.container)
    is_container = request.container is not None
    if fault is not None or (is_container and state.application is None):
        return Answer(
            404,
            (("content-type", "text/plain"),),
            b"No search backends available, VIP status disabled.",
        )
    return Answer(200, (("content-type", "text/html"),), b"<title>OK</title>\n")


def _handlers() -> list[dict[str, Any]]:
    bindings = {
        _DOCUMENT_HANDLER: ["http://*/document/v1/*", "http://*/document/v1/*/"],
        _SEARCH_HANDLER: ["http://*/search/*"],
    }
    return [
        {
            "id": f"{name}@default",
            "class": name,
            "bundle": "stand-in",
            "serverBindings": each,
        }
        for name, each in bindings.items()
    ]


def _application_status(generation: int) -> dict[str, Any]:
    return {
        "application": {
            "vespa": {"version": VERSION},
            "meta": {
                "name": "default",
                "user": "stand-in",
                "path": "",
                "generation": generation,
                "timestamp": 0,
                "date": "",
                "checksum": "",
            },
            "user": {"version": ""},
        },
        "abstractComponents": [],
        "handlers": _handlers(),
        "clients": [],
        "servers": [],
        "httpRequestFilters": [],
        "httpResponseFilters": [],
        "processingChains": {},
    }


def _metrics() -> dict[str, Any]:
    service = {
        "name": "vespa.container",
        "timestamp": int(time.time()),
        "status": {"code": "up", "description": "Data collected successfully"},
        "metrics": [{"values": {"queries.rate": 0.0}, "dimensions": {"clusterId": "default"}}],
    }
    return {"nodes": [{"hostname": "localhost", "role": "hosts/localhost", "services": [service]}]}
