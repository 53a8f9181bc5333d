"""From bytes and query strings to checked values; what is wrong is said in one sentence with the field's name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self, TypeVar, cast
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from quart import Request
from werkzeug.datastructures import MultiDict

from sercha.domain.document import DocumentId
from sercha.domain.filters import parse_instant
from sercha.errors import NotFound, Rejected

INT64_MAX = 2**63 - 1
PAGE_LIMIT_MAX = 100
PAGE_OFFSET_MAX = 1_000_000

_ModelT = TypeVar("_ModelT", bound=BaseModel)
_SECRET = {"api_key", "password", "refresh_token", "setup_token"}
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_VALUE_CHARS_SHOWN = 40


class RequestModel(BaseModel):
    """A body or query as we accept it: known fields, right types, text that PostgreSQL can keep."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="after")
    def _refuse_nul(self) -> Self:
        for name, value in self.__dict__.items():
            if _holds_nul(value):
                raise PydanticCustomError(
                    "nul_character", "{field}: holds a NUL character", {"field": name}
                )
        return self


class Nothing(RequestModel):
    """No body, or no query."""


def _absent_if_empty(value: object) -> object:
    # Clients of typed languages send their zero values for what the user did not give.
    return None if value == "" else value


def _instant_if_any(value: object) -> datetime | None:
    if value is None or value == "":
        return None
    try:
        return parse_instant(value if isinstance(value, str) else "")
    except ValueError:
        raise PydanticCustomError(
            "instant", "should be an instant such as 2026-11-01T09:30:00Z"
        ) from None


OptionalText = Annotated[str | None, BeforeValidator(_absent_if_empty)]
OptionalInstant = Annotated[datetime | None, BeforeValidator(_instant_if_any)]
"""As RFC 3339 writes it, with a time and a zone."""


class PageQuery(RequestModel):
    """Which part of a list."""

    limit: int = Field(default=20, ge=1, le=PAGE_LIMIT_MAX)
    offset: int = Field(default=0, ge=0, le=PAGE_OFFSET_MAX)


async def parse_body(request: Request, model: type[_ModelT]) -> _ModelT:
    """Read the body as *model*.

    Raises:
        Rejected: not JSON (``bad-json``, ``not-json``), or a field is wrong (``unknown-field``, ``bad-field``).
        RequestEntityTooLarge: longer than the application's limit.
    """
    body = await request.get_data()
    if not body:
        raise Rejected("the body is empty; a JSON object is expected", code="bad-json")
    # A page in a browser cannot send this type elsewhere without asking first (CORS), unlike text/plain.
    if not request.is_json:
        raise Rejected("send the body as Content-Type: application/json", code="not-json")
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise _rejected(error, model) from None


def parse_query(args: MultiDict[str, str], model: type[_ModelT]) -> _ModelT:
    """Read the query string as *model*; a repeated field counts as a list where one is expected.

    Raises:
        Rejected: a field is wrong (``unknown-field``, ``bad-field``).
    """
    given: dict[str, Any] = {}
    for name in args:
        field = model.model_fields.get(name)
        is_list = field is not None and "list" in str(field.annotation)
        values = args.getlist(name)
        if not is_list and len(values) > 1:
            raise Rejected(f"{_shown(name)}: is given {len(values)} times", code="bad-field")
        given[name] = values if is_list else values[0]
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _rejected(error, model) from None


def parse_uuid(raw: str, noun: str) -> UUID:
    """Read an id in a path; what is no id names nothing.

    Raises:
        NotFound: with the code ``<noun>-not-found``.
    """
    if not _UUID.fullmatch(raw):
        raise NotFound(f"{noun} {_shown(raw)}: there is none", code=f"{noun}-not-found")
    return UUID(raw)


def parse_document_id(raw: str) -> DocumentId:
    """Read a document's id in a path.

    Raises:
        NotFound: ``document-not-found``.
    """
    is_number = raw.isascii() and raw.isdigit() and len(raw) <= 19
    if not is_number or not 1 <= int(raw) <= INT64_MAX:
        raise NotFound(f"document {_shown(raw)}: there is none", code="document-not-found")
    return DocumentId(int(raw))


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        items = cast("dict[object, object]", value)
        return any(_holds_nul(key) or _holds_nul(each) for key, each in items.items())
    if isinstance(value, list):
        return any(_holds_nul(each) for each in cast("list[object]", value))
    return False


def _rejected(error: ValidationError, model: type[BaseModel]) -> Rejected:
    """Say the first thing that is wrong."""
    details = error.errors(include_url=False)[0]
    kind, context = details["type"], details.get("ctx", {})
    where = ".".join(str(part) for part in details["loc"])
    match kind:
        case "json_invalid":
            return Rejected(f"the body is not JSON: {context.get('error')}", code="bad-json")
        case "extra_forbidden":
            allowed = ", ".join(_fields_at(model, details["loc"])) or "none"
            return Rejected(
                f"{_shown(where)}: there is no such field; allowed: {allowed}", code="unknown-field"
            )
        case "missing":
            return Rejected(f"{where}: is required", code="bad-field")
        case "nul_character":
            return Rejected(details["msg"], code="bad-field")
        case _ if not details["loc"]:
            return Rejected("the body must be a JSON object", code="bad-json")
        case _:
            allowed = _range(model, details) or _sentence(details["msg"])
            return Rejected(f"{where}: {allowed}{_got(details)}", code="bad-field")


def _range(model: type[BaseModel], details: ErrorDetails) -> str:
    """Name both ends of a number's range."""
    if details["type"] not in {"greater_than_equal", "less_than_equal"}:
        return ""
    field = model.model_fields.get(str(details["loc"][0]))
    ends = {type(each).__name__: each for each in (field.metadata if field else ())}
    if {"Ge", "Le"} <= ends.keys():
        return f"should be {ends['Ge'].ge} to {ends['Le'].le}"
    return ""


def _sentence(message: str) -> str:
    return message.replace("Input should be", "should be", 1)


def _got(details: ErrorDetails) -> str:
    """Quote what was given where that helps and is no secret."""
    value = details["input"]
    if not isinstance(value, str | int | float | bool) or _SECRET & set(details["loc"]):
        return ""
    return f"; got {_shown(str(value))}"


def _shown(text: str) -> str:
    """Quote what somebody sent, short and printable."""
    short = text if len(text) <= _VALUE_CHARS_SHOWN else text[:_VALUE_CHARS_SHOWN] + "…"
    return ascii(short) if not short.isprintable() else repr(short)


def _fields_at(model: type[BaseModel], where: Sequence[int | str]) -> list[str]:
    """List the fields of the model in which the last part of *where* was looked for."""
    for part in where[:-1]:
        field = model.model_fields.get(str(part))
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            break
        model = inner
    return list(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    for each in candidates:
        if isinstance(each, type) and issubclass(each, BaseModel):
            return each
    return None
