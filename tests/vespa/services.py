"""Reads services.xml: elements and attributes that are not known here are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from tests.vespa.model import ContainerCluster, ContentCluster, ContentNode

MODES = frozenset({"index", "streaming", "store-only"})
_CHILDREN = {
    "services": {"admin", "container", "content"},
    "container": {"document-api", "document-processing", "search", "nodes", "http", "config"},
    "content": {
        "min-redundancy", "redundancy", "documents", "nodes", "group", "engine", "tuning",
        "search", "config",
    },
    "search": {"query-timeout", "coverage", "visibility-delay"},
    "document-api": {"ignore-undefined-fields"},
    "documents": {"document", "document-processing"},
    "group": {"distribution", "group", "node"},
    "nodes": {"node", "jvm"},
}  # fmt: skip
_ADMIN = {
    "configservers": "configserver",
    "cluster-controllers": "cluster-controller",
    "slobroks": "slobrok",
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)?\Z")


@dataclass(frozen=True, slots=True)
class Services:
    """The clusters of a package."""

    containers: tuple[ContainerCluster, ...]
    content: tuple[ContentCluster, ...]


def read_services(root: Element, hosts: Mapping[str, str]) -> Services:
    """Read the root element of services.xml.

    Raises:
        ValueError: something is missing, wrong or not known.
    """
    if root.tag != "services":
        raise ValueError("services.xml has no 'services'")
    _check(root)
    for admin in root.findall("admin"):
        _check_admin(admin, hosts)
    containers = tuple(_container(each, hosts) for each in root.findall("container"))
    content = tuple(_content(each, hosts) for each in root.findall("content"))
    ids = [each.id for each in (*containers, *content)]
    if len(set(ids)) != len(ids):
        raise ValueError(f"Multiple clusters have the same id: {ids}")
    if not containers:
        raise ValueError("services.xml has no container cluster")
    return Services(containers, content)


def _check(element: Element) -> None:
    allowed = _CHILDREN[element.tag]
    for child in element:
        if child.tag not in allowed:
            raise ValueError(
                f"element '{child.tag}' not allowed in '{element.tag}' of services.xml"
            )


def _host(element: Element, hosts: Mapping[str, str]) -> str:
    alias = element.get("hostalias")
    if not alias:
        raise ValueError(f"element '{element.tag}' of services.xml needs a hostalias")
    if not hosts:
        return "localhost"
    if alias not in hosts:
        raise ValueError(f"Alias '{alias}' is not found in hosts.xml")
    return hosts[alias]


def _check_admin(admin: Element, hosts: Mapping[str, str]) -> None:
    for child in admin:
        if child.tag in _ADMIN:
            for each in child:
                if each.tag != _ADMIN[child.tag]:
                    raise ValueError(f"element '{each.tag}' not allowed in '{child.tag}'")
                _host(each, hosts)
        elif child.tag in ("adminserver", "logserver"):
            _host(child, hosts)
        else:
            raise ValueError(f"element '{child.tag}' not allowed in 'admin' of services.xml")


def _container(element: Element, hosts: Mapping[str, str]) -> ContainerCluster:
    _check(element)
    search, api = element.find("search"), element.find("document-api")
    timeout = None
    if search is not None:
        _check(search)
        text = (search.findtext("query-timeout") or "").strip()
        if text:
            match = _DURATION.match(text)
            if match is None:
                raise ValueError(f"query-timeout '{text}' is no duration")
            timeout = float(match[1]) / (1000 if match[2] == "ms" else 1)
    ignores = False
    if api is not None:
        _check(api)
        ignores = (api.findtext("ignore-undefined-fields") or "").strip() == "true"
    nodes = element.find("nodes")
    found = ["localhost"]
    if nodes is not None:
        _check(nodes)
        if nodes.get("count"):
            raise ValueError("nodes with a 'count' need a hosted system")
        found = [_host(each, hosts) for each in nodes.findall("node")]
    cluster_id = element.get("id", "container")
    return ContainerCluster(
        cluster_id, tuple(found), search is not None, api is not None, timeout, ignores
    )


def _content(element: Element, hosts: Mapping[str, str]) -> ContentCluster:
    _check(element)
    cluster_id = element.get("id", "content")
    redundancy = (
        element.findtext("min-redundancy") or element.findtext("redundancy") or ""
    ).strip()
    if not redundancy.isdigit() or int(redundancy) < 1:
        raise ValueError(f"content cluster '{cluster_id}' needs a redundancy")
    groups = _groups(element, hosts, cluster_id)
    nodes = [node for group in groups for node in group]
    keys = [node.distribution_key for node in nodes]
    if not keys or len(set(keys)) != len(keys):
        raise ValueError(f"content cluster '{cluster_id}': distribution keys {keys} are not unique")
    return ContentCluster(
        cluster_id,
        _document_types(element, cluster_id),
        tuple(nodes),
        tuple(tuple(node.distribution_key for node in group) for group in groups),
        int(redundancy),
    )


def _document_types(element: Element, cluster_id: str) -> dict[str, str]:
    documents = element.find("documents")
    if documents is None:
        raise ValueError(f"content cluster '{cluster_id}' has no documents")
    _check(documents)
    types: dict[str, str] = {}
    for document in documents.findall("document"):
        name, mode = document.get("type", ""), document.get("mode", "")
        if not name or mode not in MODES or not set(document.attrib) <= {"type", "mode"}:
            raise ValueError(f"content cluster '{cluster_id}': document {document.attrib} is wrong")
        types[name] = mode
    if documents.get("selection"):
        raise ValueError("a selection of documents is not supported")
    return types


def _groups(element: Element, hosts: Mapping[str, str], cluster_id: str) -> list[list[ContentNode]]:
    nodes, group = element.find("nodes"), element.find("group")
    if (nodes is None) == (group is None):
        raise ValueError(f"content cluster '{cluster_id}' needs either nodes or a group")
    if nodes is not None:
        _check(nodes)
        if nodes.get("count"):
            raise ValueError("nodes with a 'count' need a hosted system")
        return [[_node(each, hosts) for each in nodes.findall("node")]]
    assert group is not None
    _check(group)
    children = group.findall("group")
    if not children:
        return [[_node(each, hosts) for each in group.findall("node")]]
    distribution = group.find("distribution")
    if distribution is None or not distribution.get("partitions") or group.findall("node"):
        raise ValueError(f"content cluster '{cluster_id}': groups need a distribution")
    for child in children:
        _check(child)
        if not child.get("distribution-key", "").isdigit() or not child.get("name"):
            raise ValueError(f"content cluster '{cluster_id}': a group needs a name and key")
    return [[_node(each, hosts) for each in child.findall("node")] for child in children]


def _node(element: Element, hosts: Mapping[str, str]) -> ContentNode:
    key = element.get("distribution-key", "")
    if not key.isdigit():
        raise ValueError("a content node needs a distribution-key")
    return ContentNode(_host(element, hosts), int(key))
