"""Operations on single documents: section 2 of the interface.

A document type that is not defined gives 400 for a get and a remove, too: what a live cluster answers is open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.vespa.bodies import read_body
from tests.vespa.document_types import check_cluster, field_set, schema_of
from tests.vespa.messages import (
    TIMEOUT_DEFAULT,
    Problem,
    Request,
    Streamed,
    json_answer,
)
from tests.vespa.model import Answer, Application, DocumentId, Schema, Value
from tests.vespa.paths import PREFIX, Place, parse_path
from tests.vespa.selection import parse_selection
from tests.vespa.selection_text import SelectionError
from tests.vespa.state import State
from tests.vespa.tensors import FORMATS, ValueProblem
from tests.vespa.updates import apply_updates, is_allowed_when_full
from tests.vespa.values import parse_field, render_fields
from tests.vespa.visit import mass_operation, visit

NO_SPACE = (
    "[UNKNOWN(251009) @ tcp/{host}:19112/default]: ReturnCode(NO_SPACE, External feed is blocked due to "
    "resource exhaustion: in content cluster '{cluster}': disk on node 0 [{host}] is 81.7% full (the configured "
    "limit is 80.0%, effective limit lowered to 79.0% until feed unblocked)) "
)
_NOT_MET = (
    "[UNKNOWN(251013) @ tcp/{host}:19112/default]: ReturnCode(TEST_AND_SET_CONDITION_FAILED, "
    "Condition did not match document nodeIndex=0 bucket={bucket:x} ) "
)


def answer_document(state: State, request: Request) -> Answer | Streamed:
    """Answer a request to ``/document/v1``."""
    document: DocumentId | None = None
    try:
        place = parse_path(request.path)
        document = place.document
        if request.method == "OPTIONS":
            return Answer(204, (("allow", ",".join(place.methods)),), b"")
        if request.method not in place.methods:
            allowed = ", ".join(place.methods)
            raise Problem(
                405,
                f"'{request.method}' not allowed at '{request.path}'. Allowed methods are: {allowed}",
            )
        if state.application is None:
            return Answer(503, (), b"")
        if request.method in ("POST", "PUT") and request.body_size > state.limits.body_bytes:
            raise Problem(
                413,
                f"Document operation request size {request.body_size} bytes exceeds maximum size of "
                f"{state.limits.body_bytes} bytes. See https://docs.vespa.ai/en/reference/document-v1-api-reference.html",
            )
        operation = _Operation(state, state.application, request, place)
        if document is not None:
            return operation.single(document)
        if request.method == "GET":
            return visit(state, state.application, request, place)
        return mass_operation(state, state.application, request, place)
    except Problem as problem:
        return problem_answer(request.path, problem, document)


def problem_answer(path: str, problem: Problem, document: DocumentId | None) -> Answer:
    """The answer that tells of a problem."""
    content: dict[str, Any] = {"pathId": path}
    if document is not None and problem.has_id:
        content["id"] = str(document)
    if problem.message is not None:
        content["message"] = problem.message
    return json_answer(problem.status, content)


def is_document_path(path: str) -> bool:
    """Whether a raw path belongs to the document API."""
    return path == PREFIX or path.startswith(PREFIX + "/")


class _Operation:
    """One operation on one document; it is one step, so nothing comes between its test and its write."""

    def __init__(
        self, state: State, application: Application, request: Request, place: Place
    ) -> None:
        self._state = state
        self._store = state.store
        self._application = application
        self._request = request
        self._place = place
        self._properties = request.properties()

    def single(self, document_id: DocumentId) -> Answer:
        properties = self._properties
        properties.seconds("timeout", TIMEOUT_DEFAULT)
        trace_level = properties.number("tracelevel", 0, high=9)
        extra: dict[str, Any] = {}
        if trace_level:
            extra["trace"] = [{"message": f"{self._request.method} {document_id}"}]
        if self._request.method == "GET":
            return self._get(document_id, extra)
        properties.text("route")
        if properties.flag("dryRun"):
            return self._done(document_id, extra)
        schema = self._schema(document_id.type)
        match self._request.method:
            case "POST":
                return self._put(document_id, schema, extra)
            case "PUT":
                return self._update(document_id, schema, extra)
            case _:
                self._check_condition(document_id, properties.text("condition"), creates=False)
                self._store.remove(document_id)
                return self._done(document_id, extra)

    def _get(self, document_id: DocumentId, extra: dict[str, Any]) -> Answer:
        properties = self._properties
        properties.refuse(self._request.path, "dryRun")
        schema = self._schema(document_id.type)
        check_cluster(self._application, properties.text("cluster"))
        names = field_set(schema, properties.text("fieldSet") or "[document]", self._application)
        tensors = properties.choice("format.tensors", "short", FORMATS)
        content: dict[str, Any] = {"pathId": self._request.path, "id": str(document_id), **extra}
        document = self._store.get(document_id)
        if document is None:
            return json_answer(404, content)
        fields = {key: value for key, value in document.fields.items() if key in names}
        return json_answer(200, {**content, "fields": render_fields(fields, tensors)})

    def _put(self, document_id: DocumentId, schema: Schema, extra: dict[str, Any]) -> Answer:
        content = read_body(self._request)
        given = content.get("fields")
        if not isinstance(given, dict):
            raise Problem(400, f"put of document {document_id} is missing a 'fields' map")
        fields: dict[str, Value] = {}
        ignored = False
        for name, value in given.items():
            if name not in schema.fields:
                if not self._ignores_undefined():
                    raise Problem(
                        400, f"Field '{name}' is not defined in document type '{schema.name}'"
                    )
                ignored = True
            elif value is not None:
                try:
                    fields[name] = parse_field(str(document_id), schema.fields[name], value)
                except ValueProblem as error:
                    raise Problem(400, str(error)) from error
        self._refuse_when_full()
        condition, creates = self._condition(content)
        self._check_condition(document_id, condition, creates=creates)
        self._store.put(document_id, fields)
        headers = (("x-vespa-ignored-fields", "true"),) if ignored else ()
        return self._done(document_id, extra, *headers)

    def _update(self, document_id: DocumentId, schema: Schema, extra: dict[str, Any]) -> Answer:
        content = read_body(self._request)
        updates = content.get("fields")
        old = self._store.get(document_id)
        try:
            fields = apply_updates(
                str(document_id), schema.name, schema.fields, old.fields if old else {}, updates
            )
        except ValueProblem as error:
            raise Problem(400, str(error)) from error
        condition, creates = self._condition(content)
        if not is_allowed_when_full(schema.fields, updates):
            self._refuse_when_full()
        self._check_condition(document_id, condition, creates=creates)
        if old is not None or creates:
            self._store.put(document_id, fields)
        return self._done(document_id, extra)

    def _condition(self, content: Mapping[str, Any]) -> tuple[str | None, bool]:
        """The condition and whether to create; the address is stronger than the body."""
        condition, creates = content.get("condition"), content.get("create", False)
        if not isinstance(condition, str | None) or not isinstance(creates, bool):
            raise Problem(400, "'condition' must be a string and 'create' a boolean")
        given = self._properties.text("condition")
        return given or condition, self._properties.flag("create", default=creates)

    def _check_condition(
        self, document_id: DocumentId, condition: str | None, *, creates: bool
    ) -> None:
        if condition is None:
            return
        try:
            selection = parse_selection(condition, self._application.schemas)
        except SelectionError as error:
            raise Problem(400, str(error), has_id=True) from error
        document = self._store.get(document_id)
        if document is None and creates:
            return
        if document is None or not selection.selects(document.id, document.fields):
            bucket = 0x2000000000000000 | self._store.bucket_of(document_id)
            message = _NOT_MET.format(host=self._host(document_id.type), bucket=bucket)
            raise Problem(412, message, has_id=True)

    def _refuse_when_full(self) -> None:
        request = self._request
        fault = self._state.faults.take({"full"}, request.method, request.path, request.container)
        if fault is not None:
            assert self._place.type is not None
            cluster = self._application.cluster_of(self._place.type)
            message = NO_SPACE.format(
                host=self._host(self._place.type), cluster=cluster.id if cluster else ""
            )
            raise Problem(507, fault.message or message, has_id=True)

    def _host(self, document_type: str) -> str:
        cluster = self._application.cluster_of(document_type)
        return cluster.nodes[0].host if cluster else "localhost"

    def _ignores_undefined(self) -> bool:
        return any(each.ignores_undefined_fields for each in self._application.containers)

    def _schema(self, name: str) -> Schema:
        return schema_of(self._application, name)

    def _done(
        self, document_id: DocumentId, extra: dict[str, Any], *headers: tuple[str, str]
    ) -> Answer:
        content = {"pathId": self._request.path, "id": str(document_id), **extra}
        return json_answer(200, content, *headers)
