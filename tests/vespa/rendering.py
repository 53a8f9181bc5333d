"""The JSON of an answer, with its keys in the server's order."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tests.vespa.model import Answer
from tests.vespa.query_errors import QueryError

HEADERS = (("Content-Type", "application/json;charset=utf-8"),)


def render(
    status: int,
    total: int,
    *,
    coverage: Mapping[str, Any] | None = None,
    errors: Sequence[QueryError] = (),
    children: Sequence[Mapping[str, Any]] = (),
    timing: Mapping[str, float] | None = None,
    trace: Sequence[str] = (),
) -> Answer:
    """Render a whole answer."""
    root: dict[str, Any] = {"id": "toplevel", "relevance": 1.0, "fields": {"totalCount": total}}
    if coverage is not None:
        root["coverage"] = coverage
    if errors:
        root["errors"] = [error.entry for error in errors]
    if children:
        root["children"] = children
    whole: dict[str, Any] = {}
    if trace:
        whole["trace"] = {"children": [{"message": each} for each in trace]}
    if timing is not None:
        whole["timing"] = timing
    whole["root"] = root
    body = json.dumps(finite(whole), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Answer(status, HEADERS, body.encode(errors="replace"))


def render_hit(
    hit_id: str, relevance: float, source: str, fields: Mapping[str, Any]
) -> dict[str, Any]:
    """One hit; without fields it is not filled."""
    found: dict[str, Any] = {"id": hit_id, "relevance": relevance, "source": source}
    return found | ({"fields": fields} if fields else {})


def finite(value: Any, key: str = "") -> Any:
    """Write numbers that JSON does not have: as texts in ``relevance``, elsewhere as null."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        if key != "relevance":
            return None
        if math.isnan(value):
            return "NaN"
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value)
        return {name: finite(each, name) for name, each in items.items()}
    if isinstance(value, list | tuple):
        elements = cast("Sequence[Any]", value)
        return [finite(each) for each in elements]
    return value
