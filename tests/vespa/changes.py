"""What the change from one application to the next demands, allows and destroys."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import Any

from tests.vespa.model import Application, ContentCluster, Field, FieldType, Schema
from tests.vespa.package import PackageError
from tests.vespa.store import Store

_TO_ALLOW = (
    "To allow this add <allow until='yyyy-mm-dd'>{name}</allow> to validation-overrides.xml, "
    "see https://docs.vespa.ai/en/reference/applications/validation-overrides.html"
)


def change_actions(old: Application | None, new: Application) -> dict[str, list[dict[str, Any]]]:
    """The ``configChangeActions`` of a deployment."""
    actions: dict[str, list[dict[str, Any]]] = {"restart": [], "refeed": [], "reindex": []}
    if old is None:
        return actions
    for cluster, before, after in _kept(old, new):
        restart, refeed, reindex = _schema_changes(before, after)
        if restart:
            actions["restart"].append(
                {
                    "clusterName": cluster.id,
                    "clusterType": "search",
                    "serviceType": "searchnode",
                    "messages": restart,
                    "services": _services(cluster),
                }
            )
        for kind, name, messages in (
            ("refeed", "field-type-change", refeed),
            ("reindex", "indexing-change", reindex),
        ):
            if messages:
                actions[kind].append(
                    {
                        "name": name,
                        "documentType": after.name,
                        "clusterName": cluster.id,
                        "messages": messages,
                        "services": _services(cluster),
                    }
                )
    return actions


def check_change(old: Application | None, new: Application, today: date) -> None:
    """Refuse a change that needs a validation override it does not have.

    Raises:
        PackageError: with the message of the answer.
    """
    if old is None:
        return
    found: dict[str, list[str]] = defaultdict(list)
    for cluster in old.content:
        after = next((each for each in new.content if each.id == cluster.id), None)
        if after is None:
            found["content-cluster-removal"].append(
                f"Content cluster '{cluster.id}' is removed. This will cause loss of all data in this cluster"
            )
            continue
        for name in cluster.document_types:
            if name not in after.document_types:
                found["schema-removal"].append(
                    f"Document type '{name}' is removed from content cluster '{cluster.id}'. "
                    "This will cause loss of all documents of this type"
                )
            elif cluster.document_types[name] != after.document_types[name]:
                found["indexing-mode-change"].append(
                    f"Document type '{name}' in cluster '{cluster.id}' changed indexing mode from "
                    f"'{cluster.document_types[name]}' to '{after.document_types[name]}'"
                )
    for _, before, after in _kept(old, new):
        found["field-type-change"] += _schema_changes(before, after)[1]
    allowed = {each.validation_id for each in new.overrides if each.until >= today.isoformat()}
    texts = [
        "\n\t".join([f"{name}:", *messages]) + "\n" + _TO_ALLOW.format(name=name)
        for name, messages in found.items()
        if messages and name not in allowed
    ]
    if texts:
        raise PackageError("Invalid application: " + "\n".join(texts))


def drop_lost(store: Store, old: Application | None, new: Application | None) -> None:
    """Forget the documents and values that do not survive the activation of *new*."""
    if old is None:
        return
    for name, schema in old.schemas.items():
        if new is None or new.cluster_of(name) is None:
            store.drop_type(name)
            continue
        fields = new.schemas[name].fields
        for field in schema.fields.values():
            if field.name not in fields or fields[field.name].type != field.type:
                store.drop_field(name, field.name)


def _kept(old: Application, new: Application) -> list[tuple[ContentCluster, Schema, Schema]]:
    return [
        (cluster, old.schemas[name], new.schemas[name])
        for cluster in new.content
        for name in cluster.document_types
        if old.cluster_of(name) is not None
    ]


def _schema_changes(old: Schema, new: Schema) -> tuple[list[str], list[str], list[str]]:
    """The messages of changes that need a restart, new documents or new indexes."""
    restart: list[str] = []
    refeed: list[str] = []
    reindex: list[str] = []
    for name, field in new.fields.items():
        before = old.fields.get(name)
        if before is None:
            continue
        head = f"Document type '{new.name}': Field '{name}' changed: "
        if field.type != before.type:
            refeed.append(
                f"{head}data type: '{_described(before.type)}' -> '{_described(field.type)}'"
            )
            continue
        restart += [head + text for text in _attribute_changes(before, field)]
        reindex += [head + text for text in _index_changes(before, field)]
    return restart, refeed, reindex


def _described(field_type: FieldType) -> str:
    return str(field_type)


def _attribute_changes(old: Field, new: Field) -> list[str]:
    aspects = {
        "attribute": (old.is_attribute, new.is_attribute),
        "fast-search": (old.is_fast_search, new.is_fast_search),
        "rank: filter": (old.is_filter, new.is_filter),
        "hnsw index": (old.hnsw is not None, new.hnsw is not None),
    }
    texts = [
        f"{'add' if after else 'remove'} {name}"
        for name, (before, after) in aspects.items()
        if before != after
    ]
    if old.distance_metric != new.distance_metric:
        texts.append(f"distance-metric: '{old.distance_metric}' -> '{new.distance_metric}'")
    if old.hnsw and new.hnsw and old.hnsw.max_links_per_node != new.hnsw.max_links_per_node:
        texts.append(
            f"max-links-per-node: {old.hnsw.max_links_per_node} -> {new.hnsw.max_links_per_node}"
        )
    return texts


def _index_changes(old: Field, new: Field) -> list[str]:
    texts: list[str] = []
    is_text = old.hnsw is None and new.hnsw is None
    if is_text and old.is_index != new.is_index:
        texts.append(f"{'add' if new.is_index else 'remove'} index aspect")
    if old.is_index and new.is_index and old.stemming != new.stemming:
        texts.append(f"stemming: '{old.stemming}' -> '{new.stemming}'")
    if old.match != new.match:
        texts.append(f"matching: '{old.match}' -> '{new.match}'")
    if old.is_cased != new.is_cased:
        texts.append(f"casing: '{old.is_cased}' -> '{new.is_cased}'")
    return texts


def _services(cluster: ContentCluster) -> list[dict[str, str]]:
    return [
        {
            "serviceName": "searchnode",
            "serviceType": "searchnode",
            "configId": f"{cluster.id}/search/cluster.{cluster.id}/{node.distribution_key}",
            "hostName": node.host,
        }
        for node in cluster.nodes
    ]
