"""The parameters of a query: JSON body and address merged, aliases, limits, units."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qsl

from tests.vespa.model import QueryProfile, SearchRequest
from tests.vespa.query_errors import ILLEGAL_QUERY, INVALID_PARAMETER, QueryError
from tests.vespa.tensors import FORMATS

HITS_DEFAULT = 10
TIMEOUT_DEFAULT = 0.5
ALIASES: Mapping[str, str] = {
    "bolding": "presentation.bolding", "count": "hits", "default-index": "model.defaultIndex",
    "defaultIndex": "model.defaultIndex", "filter": "model.filter", "format": "presentation.format",
    "format.tensors": "presentation.format.tensors", "lang": "model.language", "language": "model.language",
    "locale": "model.locale", "query": "model.queryString", "ranking": "ranking.profile",
    "restrict": "model.restrict", "sorting": "ranking.sorting", "sources": "model.sources",
    "search": "model.sources", "start": "offset", "summary": "presentation.summary", "timing": "presentation.timing",
    "traceLevel": "trace.level", "tracelevel": "trace.level", "type": "model.type",
}  # fmt: skip
"""Other names of parameters."""
_FEATURES = ("input.", "rankfeature.")
_TIMEOUT = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(ks|s|ms|µs|μs|us)?\s*\Z")
_UNITS = {None: 1.0, "ks": 1e3, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "μs": 1e-6, "us": 1e-6}
_SEE = "See https://docs.vespa.ai/en/reference/api/query.html#native-execution-parameters"


class Parameters:
    """The parameters of one request."""

    def __init__(self, given: Mapping[str, Any], profile: QueryProfile) -> None:
        self._given = dict(given)
        self.profile = profile
        self.texts = {name: _text(value) for name, value in given.items()}
        """All parameters as texts, by all their names: what ``@name`` gives."""
        for alias, name in ALIASES.items():
            if name in self.texts:
                self.texts.setdefault(alias, self.texts[name])

    def text(self, name: str) -> str | None:
        """A parameter, or None."""
        return self.texts.get(name)

    def flag(self, name: str, *, default: bool) -> bool:
        """A parameter that is ``true`` or not."""
        text = self.texts.get(name)
        return default if text is None else text.lower() in ("true", "1")

    def names(self, name: str) -> list[str]:
        """A list of names, separated by commas."""
        text = self.texts.get(name) or ""
        return [each.strip() for each in text.split(",") if each.strip()]

    def count(self, name: str, default: int) -> int:
        """A whole number that is not negative.

        Raises:
            QueryError: it is not.
        """
        text = self.texts.get(name)
        if text is None:
            return default
        try:
            value = int(text)
        except ValueError as error:
            raise QueryError(
                ILLEGAL_QUERY,
                f"Could not set '{name}' to '{text}': '{text}' is not a valid integer",
            ) from error
        if value < 0:
            raise QueryError(
                ILLEGAL_QUERY,
                f"Could not set '{name}': '{name}' must be a positive number, not {value}",
            )
        return value

    def optional_count(self, name: str) -> int | None:
        """The same, None when it is not given."""
        return None if self.texts.get(name) is None else self.count(name, 0)

    def hits(self) -> int:
        """How many hits are asked for, within the limit."""
        hits = self.count("hits", HITS_DEFAULT)
        if hits > self.profile.hits_max:
            raise QueryError(
                ILLEGAL_QUERY,
                f"{hits} hits requested, configured limit: {self.profile.hits_max}. {_SEE}",
            )
        return hits

    def offset(self) -> int:
        """Where the hits start, within the limit."""
        offset = self.count("offset", 0)
        if offset > self.profile.offset_max:
            raise QueryError(
                ILLEGAL_QUERY,
                f"Offset of {offset} requested, configured limit: {self.profile.offset_max}. {_SEE}",
            )
        return offset

    def timeout(self, cluster_timeout: float | None) -> float:
        """The time for the query in seconds; the cluster's is the most it gets."""
        text = self.texts.get("timeout")
        if text is None:
            return TIMEOUT_DEFAULT if cluster_timeout is None else cluster_timeout
        match = _TIMEOUT.match(text)
        if match is None:
            raise QueryError(
                ILLEGAL_QUERY,
                f"Could not set 'timeout' to '{text}': Error parsing '{text}': Invalid number or unit",
            )
        seconds = float(match[1]) * _UNITS[match[2]]
        return seconds if cluster_timeout is None else min(seconds, cluster_timeout)

    def inputs(self) -> dict[str, Any]:
        """The values of the inputs, by feature."""
        start = "ranking.features."
        return {
            name.removeprefix(start): value
            for name, value in self._given.items()
            if name.startswith(start)
        }

    def tensor_format(self) -> str:
        """How tensors are rendered."""
        form = self.texts.get("presentation.format.tensors", "short")
        if form not in FORMATS:
            raise QueryError(
                INVALID_PARAMETER,
                f"Could not set 'presentation.format.tensors' to '{form}': Value must be one of {FORMATS}",
            )
        return form


def read_parameters(request: SearchRequest, profiles: Mapping[str, QueryProfile]) -> Parameters:
    """Merge the parameters of body and address; those of the address win.

    Raises:
        QueryError: the body is no JSON object, or what is asked for is not supported.
    """
    given: dict[str, Any] = {}
    media_type = request.content_type.partition(";")[0].strip().lower()
    if request.method == "POST" and media_type == "application/json":
        _flatten(_json(request.body), "", given)
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        given[_canonical(name)] = value
    _refuse(given)
    name = given.get("queryProfile", "default")
    if name not in profiles:
        raise QueryError(ILLEGAL_QUERY, f"Could not resolve query profile '{name}'")
    return Parameters(given, profiles[name])


def _json(body: bytes) -> dict[str, Any]:
    try:
        found: Any = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise QueryError(ILLEGAL_QUERY, f"Error parsing request body: {error}") from error
    if not isinstance(found, dict):
        raise QueryError(ILLEGAL_QUERY, f"Expected start of object, got {json.dumps(found)[:20]}")
    return cast("dict[str, Any]", found)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"Non-standard token '{name}'")


def _flatten(values: Mapping[str, Any], prefix: str, given: dict[str, Any]) -> None:
    for key, value in values.items():
        name = prefix + key
        is_structure = name.startswith("input.") or name in ("select.where", "select.grouping")
        if isinstance(value, dict) and not is_structure:
            _flatten(cast("dict[str, Any]", value), f"{name}.", given)
        else:
            given[_canonical(name)] = value


def _canonical(name: str) -> str:
    for start in _FEATURES:
        if name.startswith(start):
            return f"ranking.features.{name.removeprefix(start)}"
    return ALIASES.get(name, name)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _refuse(given: Mapping[str, Any]) -> None:
    for name in ("maxHits", "maxOffset"):
        if name in given:
            raise QueryError(ILLEGAL_QUERY, f"{name} must be specified in a query profile.")
    if "select.where" in given:
        if "yql" in given or "model.queryString" in given:
            raise QueryError(ILLEGAL_QUERY, "Both a query and select.where are given")
        raise QueryError(INVALID_PARAMETER, "select.where is not supported by this server")
    for name in ("select.grouping", "select", "model.filter"):
        if name in given:
            raise QueryError(INVALID_PARAMETER, f"{name} is not supported by this server")
    chain = given.get("searchChain", "default")
    if chain not in ("default", "vespa", "native"):
        raise QueryError(INVALID_PARAMETER, f"No search chain named '{chain}' was found")
    form = given.get("presentation.format", "json")
    if form not in ("json", "default", ""):
        raise QueryError(INVALID_PARAMETER, f"No renderer with id '{form}' was found")
