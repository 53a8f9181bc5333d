"""The annotations of YQL: which there are, their types, and how they are inherited.

The real server ignores an annotation it does not know. Here it is refused, because it is a typing error.
``@name`` is not looked up in annotations: only ``continuations`` of a grouping may hold one.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from tests.vespa.query_errors import YqlError
from tests.vespa.yql_tree import Annotations, Node, Parameter

KNOWN: Mapping[str, type | tuple[type, ...]] = {
    "accentDrop": bool, "allowEmpty": bool, "annotations": dict, "approximate": bool, "bounds": str,
    "connectivity": dict, "defaultIndex": str, "distance": int, "distanceThreshold": (int, float),
    "filter": bool, "grammar": str, "grammar.composite": str, "grammar.syntax": str,
    "grammar.tokenization": str, "hnsw.exploreAdditionalHits": int, "hnsw.approximateThreshold": (int, float),
    "hnsw.explorationSlack": (int, float), "hnsw.filterFirstExploration": (int, float),
    "hnsw.filterFirstThreshold": (int, float), "hnsw.postFilterThreshold": (int, float),
    "hnsw.targetHitsMaxAdjustmentFactor": (int, float), "id": int, "implicitTransforms": bool,
    "label": str, "language": str, "nfkc": bool, "normalizeCase": bool, "origin": dict, "prefix": bool,
    "ranked": bool, "significance": (int, float), "stem": bool, "substring": bool, "suffix": bool,
    "targetHits": int, "targetNumHits": int, "totalTargetHits": int, "usePositionData": bool, "weight": int,
}  # fmt: skip
"""Names and types."""

_JAVA: Mapping[Any, str] = {
    str: "java.lang.String",
    bool: "java.lang.Boolean",
    int: "java.lang.Integer",
    float: "java.lang.Double",
    dict: "java.util.Map",
    list: "java.util.List",
    Parameter: "com.yahoo.search.yql.OperatorNode",
    (int, float): "java.lang.Number",
}
_Value = TypeVar("_Value")


class Scope:
    """The annotations around the place that is being read; the innermost wins."""

    def __init__(self) -> None:
        self._stack: list[Annotations] = []

    @contextmanager
    def within(self, node: Node) -> Generator[None]:
        """Add the annotations of *node* for the block.

        Raises:
            YqlError: one is not known, or has the wrong type.
        """
        for name, value in node.annotations.items():
            _check(name, value)
        self._stack.append(node.annotations)
        try:
            yield
        finally:
            self._stack.pop()

    def get(self, name: str, default: _Value) -> _Value:
        """The value of an annotation, or *default*."""
        for each in reversed(self._stack):
            if name in each:
                found: Any = each[name]
                return found
        return default


def _check(name: str, value: object) -> None:
    expected = KNOWN.get(name)
    if expected is None:
        raise YqlError(f"Unknown annotation '{name}'.")
    is_right = isinstance(value, expected)
    if isinstance(value, bool) and expected is not bool:
        is_right = False
    if not is_right:
        wanted = _JAVA.get(expected, str(expected))
        got = _JAVA.get(type(value), type(value).__name__)
        raise YqlError(f"Expected {wanted} for annotation '{name}', got {got}.")
