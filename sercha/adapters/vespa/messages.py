"""Requests to Vespa, and its answers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

GZIP_BYTES_MIN = 1_024


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked, as often as needed; so only what may be repeated."""

    method: str
    target: str
    """Path and query, percent-encoded."""
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    content: bytes

    def read(self) -> dict[str, Any]:
        """Return the answer's JSON object; an empty one where it is none, as at 503."""
        try:
            return as_object(json.loads(self.content))
        except ValueError:
            return {}

    @property
    def message(self) -> str:
        """What the server says of it, for people."""
        said = self.read().get("message")
        return str(said) if said else f"status {self.status}"


def as_object(value: object) -> dict[str, Any]:
    """Return a JSON object; an empty one in the place of anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def json_request(method: str, target: str, content: object) -> Request:
    """Make a request with a JSON body, compressed where that pays."""
    body = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if len(body) >= GZIP_BYTES_MIN:
        body = gzip.compress(body, compresslevel=1, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Request(method, target, body, headers)
