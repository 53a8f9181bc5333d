"""What the files of an application say about its clusters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from xml.etree import ElementTree

from sercha.adapters.vespa.names import DOCUMENT
from sercha.errors import Rejected
from sercha.services.ports.vespa_admin import (
    ContainerCluster,
    ContentCluster,
    VespaApplication,
    VespaHost,
)

SERVICES, HOSTS = "services.xml", "hosts.xml"
CONTAINER_PORT = 8080
"""Where a container listens unless it is told otherwise."""
VERSION_DIGITS = 8
_CONTAINERS = ("container", "jdisc")
_SCHEMA_FOLDERS = frozenset({"schemas", "searchdefinitions"})


def read_application(files: Mapping[str, bytes]) -> VespaApplication:
    """Return what *files*, by path, say; unknown elements are passed over.

    Raises:
        Rejected: ``services.xml`` is missing, or one of the XML files cannot be read (``vespa-application``).
    """
    if SERVICES not in files:
        raise Rejected("the application in Vespa has no services.xml", code="vespa-application")
    root = _parse(SERVICES, files[SERVICES])
    parts = [root] if root.tag in (*_CONTAINERS, "content") else list(root)
    hosts = _parse(HOSTS, files[HOSTS]) if HOSTS in files else ()
    contents = tuple(_content(part) for part in parts if part.tag == "content")
    return VespaApplication(
        containers=tuple(_container(part) for part in parts if part.tag in _CONTAINERS),
        contents=contents,
        hosts=tuple(_hosts(hosts)),
        schemas=tuple(sorted(_schemas(files))),
        our_schema=_version(files)
        if any(DOCUMENT in each.documents for each in contents)
        else None,
        services_xml=files[SERVICES].decode(errors="replace"),
        hosts_xml=files.get(HOSTS, b"").decode(errors="replace"),
    )


def _parse(name: str, content: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(content)  # noqa: S314  expat itself limits what entities grow to
    except ElementTree.ParseError as error:
        raise Rejected(
            f"{name} of the application in Vespa cannot be read: {error}",
            code="vespa-application",
        ) from error


def _container(part: ElementTree.Element) -> ContainerCluster:
    server = part.find("http/server")
    port = "" if server is None else server.get("port", "")
    return ContainerCluster(
        id=part.get("id", "default"),
        nodes=_nodes(part),
        port=int(port) if port.isdecimal() else CONTAINER_PORT,
        has_feed=part.find("document-api") is not None,
        has_query=part.find("search") is not None,
    )


def _content(part: ElementTree.Element) -> ContentCluster:
    documents = (each.get("type", "") for each in part.iterfind("documents/document"))
    copies = part.findtext("min-redundancy") or part.findtext("redundancy") or "1"
    return ContentCluster(
        id=part.get("id", "content"),
        nodes=_nodes(part),
        documents=tuple(documents),
        redundancy=int(copies) if copies.strip().isdecimal() else 1,
    )


def _nodes(part: ElementTree.Element) -> tuple[str, ...]:
    """Return the aliases of the hosts below *part*; of containers on content nodes there are none."""
    aliases = (node.get("hostalias") for node in part.iter("node"))
    return tuple(dict.fromkeys(alias for alias in aliases if alias is not None))


def _hosts(hosts: Iterable[ElementTree.Element]) -> Iterable[VespaHost]:
    for host in hosts:
        for alias in host.iterfind("alias"):
            yield VespaHost((alias.text or "").strip(), host.get("name", ""))


def _version(files: Mapping[str, bytes]) -> str | None:
    schema = files.get(f"schemas/{DOCUMENT}.sd")
    return None if schema is None else hashlib.sha256(schema).hexdigest()[:VERSION_DIGITS]


def _schemas(files: Mapping[str, bytes]) -> Iterable[str]:
    for path in map(PurePosixPath, files):
        if path.suffix == ".sd" and path.parent.name in _SCHEMA_FOLDERS:
            yield path.stem
