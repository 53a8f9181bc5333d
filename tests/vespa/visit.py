"""Visits, and updates, removes and copies by selection: section 2.7 of the interface."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.vespa.bodies import read_body
from tests.vespa.document_types import field_set, schema_of
from tests.vespa.messages import JSON_TYPE, Problem, Request, Streamed, dump, json_answer
from tests.vespa.model import Answer, Application
from tests.vespa.paths import Place
from tests.vespa.state import State
from tests.vespa.store import StoredDocument, Tombstone
from tests.vespa.tensors import FORMATS, ValueProblem
from tests.vespa.updates import apply_updates
from tests.vespa.values import render_fields
from tests.vespa.visit_session import TIME_CHUNK_DEFAULT, Session, Stop, visit_seconds

JSONL_TYPE = "application/jsonl; charset=UTF-8"
CONCURRENCY_MAX = 100


def visit(
    state: State, application: Application, request: Request, place: Place
) -> Answer | Streamed:
    """Answer a GET of many documents.

    Raises:
        Problem: a parameter is wrong, or nothing could be visited.
    """
    properties = request.properties()
    properties.refuse(request.path, "dryRun")
    if place.type is None:
        properties.required("cluster", request.path)
    session = Session(state, application, request, place)
    is_stream = properties.flag("stream")
    properties.number("concurrency", 1, low=1, high=2**31 if is_stream else CONCURRENCY_MAX)
    wanted = properties.number("wantedDocumentCount", 1, low=1)
    renderer = _Renderer(application, session, request)
    seconds = visit_seconds(session.timeout)
    stop = session.stop(request, seconds, is_limited=not is_stream)
    if stop.buckets == 0 and not stop.message and not session.is_finished:
        raise session.nothing_visited(seconds)
    if not is_stream:
        return _page(request, session, renderer, stop, wanted)
    if _prefers_lines(request.headers.get("accept", "")):
        return Streamed(200, (("content-type", JSONL_TYPE),), _lines(session, renderer, stop))
    parts = _json_parts(request, session, renderer, stop)
    return Streamed(200, (("content-type", JSON_TYPE),), parts)


def mass_operation(
    state: State, application: Application, request: Request, place: Place
) -> Answer:
    """Answer a DELETE, PUT or POST of many documents.

    Raises:
        Problem: a parameter is wrong, or nothing could be visited.
    """
    properties = request.properties()
    if request.method == "POST":
        properties.required("cluster", request.path)
        destination = properties.required("destinationCluster", request.path)
        if destination not in [each.id for each in application.content]:
            raise Problem(400, f"Unknown destinationCluster '{destination}'")
    else:
        properties.required("selection", request.path)
        properties.required("cluster", request.path)
    refused = ["concurrency", "fieldSet", "route", "wantedDocumentCount", "dryRun"]
    properties.refuse(request.path, *refused)
    updates = _updates(request) if request.method == "PUT" else None
    session = Session(state, application, request, place)
    chunk = properties.seconds("timeChunk", TIME_CHUNK_DEFAULT)
    seconds = min(chunk, visit_seconds(session.timeout))
    stop = session.stop(request, seconds, is_limited=True)
    if stop.buckets == 0 and not stop.message and not session.is_finished:
        raise session.nothing_visited(seconds)
    count = visited = 0
    while not session.is_finished and visited != stop.buckets:
        visited += 1
        for item in session.visit_next():
            if isinstance(item, StoredDocument):
                _apply(state, application, request.method, item, updates)
                count += 1
    content: dict[str, Any] = {"pathId": request.path, "documentCount": count}
    if stop.message:
        return json_answer(500, {**content, "message": stop.message})
    if not session.is_finished:
        content["continuation"] = session.token
    return json_answer(200, content)


def _updates(request: Request) -> Any:
    updates = read_body(request).get("fields")
    if not isinstance(updates, dict):
        raise Problem(400, "Update is missing a 'fields' map")
    return updates


def _apply(
    state: State, application: Application, method: str, document: StoredDocument, updates: Any
) -> None:
    match method:
        case "DELETE":
            state.store.remove(document.id)
        case "PUT":
            schema = schema_of(application, document.id.type)
            try:
                fields = apply_updates(
                    str(document.id), schema.name, schema.fields, document.fields, updates
                )
            except ValueProblem as error:
                raise Problem(400, str(error)) from error
            state.store.put(document.id, fields)
        case _:
            state.store.put(document.id, document.fields)


class _Renderer:
    """Makes the JSON of what is visited."""

    def __init__(self, application: Application, session: Session, request: Request) -> None:
        properties = request.properties()
        self._tensors = properties.choice("format.tensors", "short", FORMATS)
        text = properties.text("fieldSet") or "[document]"
        self._names = {
            name: field_set(application.schemas[name], text, application) for name in session.types
        }

    def json(self, item: StoredDocument | Tombstone, key: str) -> dict[str, Any]:
        """A document under *key*, or a remove."""
        if isinstance(item, Tombstone):
            return {"remove": str(item.id)}
        names = self._names[item.id.type]
        fields = {name: value for name, value in item.fields.items() if name in names}
        return {key: str(item.id), "fields": render_fields(fields, self._tensors)}


def _prefers_lines(accept: str) -> bool:
    """Whether lines of JSON are asked for, at least as much as JSON."""
    weights = {"application/json": -1.0, "application/jsonl": -1.0}
    for part in accept.split(","):
        name, *parameters = (each.strip() for each in part.split(";"))
        weight = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        if name in weights:
            weights[name] = float(weight) if weight.replace(".", "", 1).isdigit() else 0.0
    lines = weights["application/jsonl"]
    return lines > 0 and lines >= weights["application/json"]


def _page(
    request: Request, session: Session, renderer: _Renderer, stop: Stop, wanted: int
) -> Answer:
    documents: list[dict[str, Any]] = []
    visited = 0
    while not session.is_finished and visited != stop.buckets and len(documents) < wanted:
        visited += 1
        documents += [renderer.json(each, "id") for each in session.visit_next()]
    content: dict[str, Any] = {
        "pathId": request.path,
        "documents": documents,
        "documentCount": len(documents),
    }
    if stop.message:
        return json_answer(500, {**content, "message": stop.message})
    if not session.is_finished:
        content["continuation"] = session.token
    return json_answer(200, content)


def _json_parts(
    request: Request, session: Session, renderer: _Renderer, stop: Stop
) -> Iterator[bytes]:
    yield b'{"pathId":' + dump(request.path) + b',"documents":['
    count = visited = 0
    while not session.is_finished and visited != stop.buckets:
        visited += 1
        items = session.visit_next()
        if items:
            comma = b"," if count else b""
            yield comma + b",".join(dump(renderer.json(each, "id")) for each in items)
        count += len(items)
    rest: dict[str, Any] = {"documentCount": count}
    if not session.is_finished:
        rest["continuation"] = session.token
    if stop.message:
        rest["message"] = stop.message
    yield b"]," + dump(rest)[1:]


def _lines(session: Session, renderer: _Renderer, stop: Stop) -> Iterator[bytes]:
    count = visited = 0
    while not session.is_finished and visited != stop.buckets:
        visited += 1
        items = session.visit_next()
        count += len(items)
        lines = [renderer.json(each, "put") for each in items]
        if not session.is_finished:
            lines.append(_continuation(session))
        if lines:
            yield b"".join(dump(line) + b"\n" for line in lines)
    last: list[dict[str, Any]] = [
        {"sessionStats": {"documentCount": count}},
        _continuation(session),
    ]
    if stop.message:
        last.insert(0, {"message": {"text": stop.message, "severity": "error"}})
    yield b"".join(dump(line) + b"\n" for line in last)


def _continuation(session: Session) -> dict[str, Any]:
    progress: dict[str, Any] = {"percentFinished": session.percent}
    if not session.is_finished:
        progress = {"token": session.token, **progress}
    return {"continuation": progress}
