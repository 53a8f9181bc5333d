"""Requests and answers within the stand-in, and the reading of request properties."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote_plus

from tests.vespa.model import Answer

JSON_TYPE = "application/json; charset=UTF-8"
TIMEOUT_DEFAULT = 180.0
"""Seconds an operation on documents may take when the request does not say."""
_DURATION = re.compile(r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*(ks|s|ms|µs)?\Z")
_UNITS = {"ks": 1000.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6}
_Value = TypeVar("_Value")


class Problem(Exception):
    """A request is answered by an error; *has_id* says that the operation was known by then."""

    def __init__(self, status: int, message: str | None, *, has_id: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.has_id = has_id


@dataclass(frozen=True, slots=True)
class Request:
    """A request with its whole body, decompressed."""

    method: str
    path: str
    """As it came, without the query."""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """By the name in lower case."""
    body: bytes = b""
    body_size: int = 0
    """Bytes of the body, also of one that was too large to be kept."""
    container: int | None = None
    """The index of the container; None at the config server."""

    def properties(self) -> Properties:
        """The parameters of the query; of a name given twice the last one."""
        found: dict[str, str] = {}
        for part in self.query.split("&") if self.query else []:
            name, _, value = part.partition("=")
            found[unquote_plus(name)] = unquote_plus(value)
        return Properties(found)


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer that is sent in parts, each made when the one before has been sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    parts: Iterator[bytes]


class Properties:
    """The parameters of a request, read with the types they have."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        """The value, or None.

        Raises:
            Problem: it is empty.
        """
        value = self._values.get(name)
        if value == "":
            raise Problem(400, f"Expected non-empty value for request property '{name}'")
        return value

    def required(self, name: str, path: str) -> str:
        """The value.

        Raises:
            Problem: there is none.
        """
        value = self.text(name)
        if value is None:
            raise Problem(400, f"Must specify '{name}' at '{path}'")
        return value

    def refuse(self, path: str, *names: str) -> None:
        """Make sure that parameters are not given.

        Raises:
            Problem: one is.
        """
        for name in names:
            if name in self._values:
                raise Problem(400, f"May not specify '{name}' at '{path}'")

    def number(self, name: str, default: int, *, low: int = 0, high: int = 2**63 - 1) -> int:
        """A whole number.

        Raises:
            Problem: it is none, or out of bounds.
        """
        return self._parsed(name, default, lambda text: _whole(text, low, high))

    def flag(self, name: str, *, default: bool = False) -> bool:
        """``true`` or ``false``.

        Raises:
            Problem: it is something else.
        """
        return self._parsed(name, default, lambda text: {"true": True, "false": False}[text])

    def seconds(self, name: str, default: float) -> float:
        """A duration: a number of seconds, or with a unit of ks, s, ms or µs.

        Raises:
            Problem: it is none.
        """
        return self._parsed(name, default, _seconds)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """One of *choices*.

        Raises:
            Problem: it is something else.
        """
        return self._parsed(name, default, lambda text: {each: each for each in choices}[text])

    def _parsed(self, name: str, default: _Value, parse: Callable[[str], _Value]) -> _Value:
        text = self.text(name)
        if text is None:
            return default
        try:
            return parse(text)
        except (ValueError, KeyError) as error:
            raise Problem(400, f"Invalid value '{text}' for request property '{name}'") from error


def _whole(text: str, low: int, high: int) -> int:
    if re.fullmatch(r"-?\d+", text) is None or not low <= int(text) <= high:
        raise ValueError(text)
    return int(text)


def _seconds(text: str) -> float:
    match = _DURATION.match(text)
    if match is None:
        raise ValueError(text)
    return float(match[1]) * _UNITS[match[2] or "s"]


def json_answer(status: int, content: Any, *headers: tuple[str, str]) -> Answer:
    """An answer with JSON."""
    body = dump(content)
    return Answer(status, (("content-type", JSON_TYPE), *headers), body)


def dump(content: Any) -> bytes:
    """JSON without spaces."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(
        errors="surrogatepass"
    )


def load(body: bytes) -> Any:
    """Read strict JSON: NaN and infinities are none.

    Raises:
        ValueError: it is none; the message names the character.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"Invalid UTF-8 byte 0x{body[error.start]:x}") from error
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        if error.pos >= len(text):
            raise ValueError("Unexpected end-of-input") from error
        char = text[error.pos]
        raise ValueError(f"Unexpected character ('{char}' (code {ord(char)}))") from error
    except RecursionError as error:
        raise ValueError("Document nesting depth exceeds the maximum") from error


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"Unexpected character ('{text[0]}' (code {ord(text[0])}))")
