"""Reads the bodies of writes."""

from __future__ import annotations

import zlib
from typing import Any

from tests.vespa.messages import Problem, Request, load

_MAY_BE_GIVEN = frozenset({"fields", "condition", "create", "put", "update", "id"})


def read_body(request: Request) -> dict[str, Any]:
    """The object in the body of a write.

    Raises:
        Problem: there is none.
    """
    body = request.body
    if request.headers.get("content-encoding", "") == "gzip":
        body = unzip(body)
    if not body.strip():
        raise Problem(400, "expected start of root object, got null")
    try:
        content = load(body)
    except ValueError as error:
        raise Problem(400, f"failed parsing document: {error}") from error
    if not isinstance(content, dict):
        kind = "START_ARRAY" if isinstance(content, list) else type(content).__name__
        raise Problem(400, f"expected start of root object, got {kind}")
    for name in content:
        if name not in _MAY_BE_GIVEN:
            raise Problem(400, f"Unexpected field '{name}' of the root object")
    return content


def unzip(body: bytes, maximum: int = 1024 * 1024 * 1024) -> bytes:
    """Decompress a body.

    Raises:
        Problem: it is no gzip, not whole or too large.
    """
    decompressor = zlib.decompressobj(wbits=31)
    try:
        content = decompressor.decompress(body, maximum)
    except zlib.error as error:
        raise Problem(400, f"Not in GZIP format: {error}") from error
    if not decompressor.eof or decompressor.unused_data:
        raise Problem(400, "Unexpected end of ZLIB input stream")
    return content
