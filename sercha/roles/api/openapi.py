"""Describes all operations as an OpenAPI 3.1 document, from what they declare themselves."""

from __future__ import annotations

import functools
import json
import re
from http import HTTPStatus
from typing import Any, Literal

import trio
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from quart import Response
from quart_trio import QuartTrio
from werkzeug.routing import Rule

from sercha.roles.api.operations import (
    EVENT_STREAM,
    KEY_CHARS_MAX,
    KEY_HEADER,
    UNSAFE_METHODS,
    Operation,
    declare,
    note_route,
    operation_of,
)
from sercha.roles.api.parsing import Nothing, RequestModel
from sercha.roles.api.problems import JSON
from sercha.roles.api.shapes import Problem

PATH = "/openapi.json"

_REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"<(\w+)>")
_Mode = Literal["validation", "serialization"]

_KEY_PARAMETER = {
    "name": KEY_HEADER,
    "in": "header",
    "required": False,
    "description": "A repeat with the same key and body within 24 hours has no second effect "
    "and gets the first answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX},
}

_POSITION_PARAMETER = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The last position that was read; the stream goes on after it.",
    "schema": {"type": "string"},
}


def add_document(app: QuartTrio, *, version: str) -> None:
    """Serve the document of *app* at `PATH`.

    It is made for the first who asks, in a thread: that takes a tenth of a second, which each start would pay.
    """

    @functools.cache
    def content() -> bytes:
        return json.dumps(openapi_document(app, version=version)).encode()

    @declare(Operation("Describe this API", dict[str, Any], 200, None, Nothing, Nothing, ()))
    async def document() -> Response:
        note_route()
        return Response(await trio.to_thread.run_sync(content), content_type=JSON)

    app.add_url_rule(PATH, "openapi", document, methods=["GET"])


def openapi_document(app: QuartTrio, *, version: str) -> dict[str, Any]:
    """Return the document."""
    operations = [
        (rule, method, declared)
        for rule in app.url_map.iter_rules()
        if (declared := operation_of(app.view_functions[rule.endpoint])) is not None
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]
    schemas, components = _schemas([declared for _, _, declared in operations])
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, declared in operations:
        path = _PARAMETER.sub(r"{\1}", rule.rule)
        paths.setdefault(path, {})[method.lower()] = _describe(rule, method, declared, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sercha", "version": version, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


_Key = tuple[int, _Mode]


def _schemas(operations: list[Operation]) -> tuple[dict[_Key, Any], dict[str, Any]]:
    """Return the schema of each type by identity, and the components that they refer to."""
    inputs: dict[_Key, tuple[_Key, _Mode, TypeAdapter[Any]]] = {}

    def add(kind: Any, mode: _Mode) -> None:
        inputs.setdefault((id(kind), mode), ((id(kind), mode), mode, TypeAdapter(kind)))

    add(Problem, "serialization")
    for declared in operations:
        add(declared.answer, "serialization")
        for model in (declared.body, declared.query):
            if model is not Nothing:
                add(model, "validation")
    keyed, definitions = TypeAdapter.json_schemas(
        list(inputs.values()), ref_template=_REF, schema_generator=GenerateJsonSchema
    )
    schemas = {key: schema for (key, _), schema in keyed.items()}
    return schemas, definitions.get("$defs", {})


def _describe(
    rule: Rule, method: str, declared: Operation, schemas: dict[_Key, Any]
) -> dict[str, Any]:
    takes_key = declared.takes_key and method in UNSAFE_METHODS
    described: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "summary": declared.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PARAMETER.findall(rule.rule)
        ]
        + _query_parameters(declared.query, schemas)
        + ([_KEY_PARAMETER] if takes_key else [])
        + ([_POSITION_PARAMETER] if declared.content_type == EVENT_STREAM else []),
        "responses": _responses(declared, schemas, takes_key=takes_key),
    }
    if declared.body is not Nothing:
        schema = schemas[id(declared.body), "validation"]
        described["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    if declared.role is not None:
        described["security"] = [{"bearer": []}]
        described["description"] = f"Needs the role {declared.role.value}."
    return described


def _responses(declared: Operation, schemas: dict[_Key, Any], *, takes_key: bool) -> dict[str, Any]:
    statuses = {*declared.errors, 500, 503}
    if takes_key:
        statuses |= {400, 409, 422}
    if declared.role is not None:
        statuses |= {401, 403}
    if declared.body is not Nothing:
        statuses |= {400, 413, 415}
    if declared.query is not Nothing:
        statuses.add(400)
    problem = schemas[id(Problem), "serialization"]
    answers = {
        declared.status: (declared.content_type, schemas[id(declared.answer), "serialization"])
    }
    answers |= dict.fromkeys(sorted(statuses), (JSON, problem))
    return {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "content": {content_type: {"schema": schema}},
        }
        for status, (content_type, schema) in answers.items()
    }


def _query_parameters(query: type[RequestModel], schemas: dict[_Key, Any]) -> list[dict[str, Any]]:
    if query is Nothing:
        return []
    schema = _model_schema(query)
    required = set(schema.get("required", ()))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": field}
        for name, field in schema["properties"].items()
    ]


def _model_schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(ref_template=_REF)
