"""What an endpoint answers: vectors, or why there are none."""

from __future__ import annotations

import json
from http.client import responses
from typing import Any, cast

from sercha.domain.embedding import DIMENSIONS_MAX, Refused, Vector

MESSAGE_CHARS_MAX = 300


class WrongAnswer(Exception):
    """The answer is none to what was asked, whichever texts were sent."""


def read_vectors(content: bytes, number: int, dimensions: int | None) -> list[Vector | Refused]:
    """Return *number* vectors in the order of the texts that were sent.

    Raises:
        WrongAnswer: there are not so many, or they have not *dimensions* numbers each.
    """
    try:
        rows = sorted(
            (int(each["index"]), each["embedding"]) for each in json.loads(content)["data"]
        )
    except (ValueError, TypeError, KeyError) as error:
        raise WrongAnswer(f"its answer has no vectors in the form of OpenAI's: {error}") from None
    if [index for index, _ in rows] != list(range(number)):
        raise WrongAnswer(f"it answered {number} texts with {len(rows)} vectors")
    return [_vector(row, dimensions) for _, row in rows]


def _vector(values: object, dimensions: int | None) -> Vector | Refused:
    if not isinstance(values, list) or not values:
        raise WrongAnswer("its answer has no vectors in the form of OpenAI's")
    numbers = cast("list[Any]", values)
    if len(numbers) != (dimensions or len(numbers)) or len(numbers) > DIMENSIONS_MAX:
        raise WrongAnswer(
            f"its vectors have {len(numbers)} dimensions; wanted: {dimensions or f'at most {DIMENSIONS_MAX}'}"
        )
    try:
        return Vector.unit(numbers)
    except (TypeError, ValueError, OverflowError):
        return Refused("the endpoint gives no vector that has a direction")


def error_message(status: int, content: bytes) -> str:
    """Return what an error says: in OpenAI's form, or in the plain one of others."""
    try:
        said: Any = json.loads(content)
    except ValueError:
        text = content.decode("utf-8", "replace").strip()
    else:
        text = _said(said)
    return f"{status} {text[:MESSAGE_CHARS_MAX] or responses.get(status, 'unknown')}"


def _said(said: Any) -> str:
    for key in ("error", "message", "detail"):
        if isinstance(said, dict) and key in said:
            return _said(cast("dict[str, Any]", said)[key])
    return said if isinstance(said, str) else json.dumps(said)
