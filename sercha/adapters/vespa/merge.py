"""Putting Sercha's document types into an application that is there already; nothing else of it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

from sercha.adapters.vespa.names import DOCUMENT, POSITION
from sercha.errors import Rejected

SERVICES = "services.xml"
_HAS_SERCHA = frozenset({SERVICES, "hosts.xml"})
"""Files of ours that only a new application gets."""


@dataclass(slots=True)
class _Documents:
    """The element ``documents`` of one content cluster."""

    start: int = -1
    """Where it begins, in bytes; -1: there is none."""
    end: int = -1
    """Where its end tag begins; -1: it is an empty-element tag."""
    types: set[str] = field(default_factory=set[str])


def merge(
    existing: Mapping[str, bytes], ours: Mapping[str, bytes], cluster: str
) -> dict[str, bytes]:
    """Return *existing* with our schemas, and our document types in the content cluster *cluster*.

    Raises:
        Rejected: it has no such cluster, or no readable ``services.xml`` (``vespa-application``).
    """
    if SERVICES not in existing:
        raise Rejected("the application in Vespa has no services.xml", code="vespa-application")
    files = dict(existing)
    files.update({path: content for path, content in ours.items() if path not in _HAS_SERCHA})
    files[SERVICES] = _with_types(existing[SERVICES], cluster, (DOCUMENT, POSITION))
    return files


def _with_types(services: bytes, cluster: str, types: Sequence[str]) -> bytes:
    clusters = _content_clusters(services)
    if cluster not in clusters:
        names = ", ".join(sorted(clusters)) or "none"
        raise Rejected(
            f"the application in Vespa has no content cluster {cluster!r}; it has: {names}",
            code="vespa-application",
        )
    documents = clusters[cluster]
    if documents.start < 0:
        raise Rejected(
            f"content cluster {cluster!r} of the application in Vespa has no element documents",
            code="vespa-application",
        )
    missing = [name for name in types if name not in documents.types]
    lines = "".join(
        f'<document type={quoteattr(name)} mode="index"/>\n' for name in missing
    ).encode()
    if not missing:
        return services
    if documents.end >= 0:
        return services[: documents.end] + lines + services[documents.end :]
    tag, _, rest = services[documents.start :].partition(b"/>")
    return services[: documents.start] + tag + b">\n" + lines + b"</documents>" + rest


def _content_clusters(services: bytes) -> dict[str, _Documents]:
    """Return the content clusters by id, with where their ``documents`` end."""
    found: dict[str, _Documents] = {}
    path: list[tuple[str, str]] = []
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        path.append((name, attributes.get("id", "")))
        names = [each for each, _ in path]
        if names[1:] == ["content"]:
            found[attributes.get("id", "content")] = _Documents()
        elif names[1:] == ["content", "documents"]:
            found[path[1][1] or "content"].start = parser.CurrentByteIndex
        elif names[1:] == ["content", "documents", "document"]:
            found[path[1][1] or "content"].types.add(attributes.get("type", ""))

    def end(name: str) -> None:
        if [each for each, _ in path][1:] == ["content", "documents"]:
            at = parser.CurrentByteIndex
            if services[at : at + 2] == b"</":
                found[path[1][1] or "content"].end = at
        path.pop()

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    try:
        parser.Parse(services, True)
    except expat.ExpatError as error:
        raise Rejected(
            f"services.xml of the application in Vespa cannot be read: {error}",
            code="vespa-application",
        ) from error
    return found
