"""Names of files as text: reversible, valid UTF-8, and safe to print.

A name on disk is bytes. Bytes that are no UTF-8, and characters that would move a terminal's cursor or
reorder text, become ``\\xHH`` per byte; a backslash becomes two. All other names stay as they are.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    r"[\\\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\udc80-\udcff]"
)
_ESCAPE = re.compile(rb"\\(?:\\|x([0-9a-f]{2}))")


def encode_name(name: bytes) -> str:
    """Encode one component of a path."""
    return _UNSAFE.sub(_escaped, name.decode("utf-8", "surrogateescape"))


def encode_path(path: bytes) -> str:
    """Encode a whole path; slashes stay."""
    return "/".join(encode_name(name) for name in path.split(b"/"))


def decode_path(encoded: str) -> bytes:
    """Give back the path that `encode_path` encoded.

    Raises:
        ValueError: *encoded* is not what `encode_path` makes of any absolute path without ``.`` and ``..``.
    """
    path = _ESCAPE.sub(_unescaped, encoded.encode("utf-8"))
    names = path.split(b"/")
    if names[0] or b"" in names[1:] or encode_path(path) != encoded or path == b"":
        raise ValueError(f"not an encoded path: {encoded!r}")
    if b"." in names or b".." in names or b"\0" in path:
        raise ValueError(f"not a path to a file: {encoded!r}")
    return path


def _escaped(match: re.Match[str]) -> str:
    char = match.group()
    if char == "\\":
        return "\\\\"
    return "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[1].decode()) if match[1] else b"\\"
