"""Which documents a search sees, and what the answer says about it.

A query goes to one group of each content cluster: the first that has lost no node, else the one with the most
nodes left. Without faults each search sees all documents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.vespa.model import DEGRADED_FLAGS, ContentCluster, Degradation
from tests.vespa.postings import Index
from tests.vespa.query_errors import BACKEND_COMMUNICATION, QueryError
from tests.vespa.store import Store


@dataclass(frozen=True, slots=True)
class View:
    """What one schema's search sees; *node_of* is None when one node has all documents."""

    visible: set[int]
    nodes: int
    node_of: Callable[[int], int] | None
    active: int


def view_of(store: Store, index: Index, cluster: ContentCluster, degradation: Degradation) -> View:
    """Find the documents that are searched.

    Raises:
        QueryError: no node of the cluster answers.
    """
    group = _group(cluster, degradation.lost_nodes)
    left = [node for node in group if node not in degradation.lost_nodes]
    if not left:
        keys = ", ".join(str(node) for node in sorted(group))
        raise QueryError(
            BACKEND_COMMUNICATION,
            f"Connection failure on nodes with distribution-keys: {keys}",
            cluster.id,
        )

    def node_of(number: int) -> int:
        return store.node_of(index.document(number).id, group)

    visible = set(index.live)
    if len(left) < len(group):
        visible = {number for number in visible if node_of(number) in left}
    elif degradation.coverage is not None:
        kept = round(len(visible) * degradation.coverage / 100)
        visible = set(sorted(visible, key=lambda number: index.gids[number])[:kept])
    several = node_of if len(left) > 1 else None
    return View(visible, len(left), several, len(index.live))


def _group(cluster: ContentCluster, lost: frozenset[int]) -> tuple[int, ...]:
    groups = cluster.groups or (tuple(node.distribution_key for node in cluster.nodes),)
    return min(groups, key=lambda group: sum(node in lost for node in group) / max(1, len(group)))


def render_coverage(views: dict[str, list[View]], degradation: Degradation) -> dict[str, Any]:
    """The ``coverage`` of an answer; *views* holds those of each cluster."""
    every = [view for each in views.values() for view in each]
    documents = sum(len(view.visible) for view in every)
    active = sum(view.active for view in every)
    percent = round(100 * documents / active) if active else 100
    if degradation.coverage is not None:
        percent = degradation.coverage
    is_missing = documents < active
    if degradation.reports_full:
        percent, is_missing = 100, False
    flags = set(degradation.flags)
    if not flags and (is_missing or percent < 100):
        flags = {"non-ideal-state" if degradation.lost_nodes else "timeout"}
    is_full = percent == 100 and not is_missing and "anntimeout" not in flags
    found: dict[str, Any] = {"coverage": percent, "documents": documents}
    if flags:
        found["degraded"] = {name: name in flags for name in DEGRADED_FLAGS}
    return found | {
        "full": is_full,
        "nodes": sum(max(view.nodes for view in each) for each in views.values()),
        "results": len(every),
        "resultsFull": len(every) if is_full else 0,
    }
