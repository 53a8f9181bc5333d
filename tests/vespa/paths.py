"""The paths of ``/document/v1``."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_plus

from tests.vespa.messages import Problem
from tests.vespa.model import DocumentId
from tests.vespa.values import illegal_code_point

PREFIX = "/document/v1"
ID_LENGTH_MAX = 65_536
_AVAILABLE = (
    "/document/v1/",
    "/document/v1/{namespace}/{documentType}/docid/",
    "/document/v1/{namespace}/{documentType}/docid/{*}",
    "/document/v1/{namespace}/{documentType}/group/{group}/",
    "/document/v1/{namespace}/{documentType}/group/{group}/{*}",
    "/document/v1/{namespace}/{documentType}/number/{number}/",
    "/document/v1/{namespace}/{documentType}/number/{number}/{*}",
)


@dataclass(frozen=True, slots=True)
class Place:
    """What a path names: everything, a type, a location within it or, with *document*, one document."""

    namespace: str | None = None
    type: str | None = None
    group: str | None = None
    number: int | None = None
    document: DocumentId | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are allowed there."""
        return ("GET", "POST", "DELETE") if self.type is None else ("GET", "POST", "PUT", "DELETE")


def parse_path(raw_path: str) -> Place:
    """Read a raw path: each segment is decoded as a form is, so ``+`` is a space.

    Raises:
        Problem: 404 for a path that names nothing, 400 for an empty segment or one of dots, or a wrong id.
    """
    rest = raw_path[len(PREFIX) :].removeprefix("/")
    segments = [unquote_plus(each, errors="surrogateescape") for each in rest.split("/")]
    if segments[-1] == "":
        segments.pop()
    if any(each in ("", ".", "..") for each in segments):
        raise Problem(400, 'path segments cannot be "", ".", or ".."')
    match segments:
        case []:
            return Place()
        case [namespace, kind, "docid"]:
            return Place(namespace, kind)
        case [namespace, kind, "docid", *tail]:
            return _document(Place(namespace, kind), tail)
        case [namespace, kind, "group", group, *tail]:
            return _document(Place(namespace, kind, group=group), tail)
        case [namespace, kind, "number", number, *tail]:
            if not (number.isascii() and number.isdigit()) or int(number) >= 2**63:
                raise Problem(400, f"Failed to parse numeric part of selection '{number}'")
            return _document(Place(namespace, kind, number=int(number)), tail)
        case _:
            listed = "\n".join(_AVAILABLE)
            raise Problem(404, f"Nothing at '{raw_path}'. Available paths are:\n{listed}")


def _document(place: Place, tail: list[str]) -> Place:
    if not tail:
        return place
    assert place.namespace is not None
    assert place.type is not None
    document_id = DocumentId(place.namespace, place.type, "/".join(tail), place.group, place.number)
    text = str(document_id)
    if len(text) > ID_LENGTH_MAX:
        raise Problem(400, f"Document id length {len(text)} exceeds the limit {ID_LENGTH_MAX}")
    illegal = illegal_code_point(text)
    if illegal is not None or ":" in place.namespace:
        raise Problem(
            400, f"Unparseable id '{text}': it contains illegal code point 0x{illegal or 58:X}"
        )
    return Place(place.namespace, place.type, place.group, place.number, document_id)
