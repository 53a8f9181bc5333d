"""Field values in documents: JSON in and out, and which text is legal.

A string field takes only a JSON string; the real server would also take a number there. Whole numbers may be
given as text, as there.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Mapping
from typing import Any

from tests.vespa.model import ArrayOf, Field, FieldType, Tensor, TensorType, Value, WeightedSetOf
from tests.vespa.tensors import ValueProblem, describe, parse_tensor, render_tensor

INTEGER_BITS = {"byte": 8, "int": 32, "long": 64}
_ILLEGAL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufdd0-\ufddf"
    + "".join(chr(plane << 16 | 0xFFFE) + chr(plane << 16 | 0xFFFF) for plane in range(17))
    + "]"
)
_INTEGER = re.compile(r"[+-]?\d+\Z")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")


def illegal_code_point(text: str) -> int | None:
    """The first code point of *text* that a string field refuses."""
    match = _ILLEGAL.search(text)
    return ord(match[0]) if match else None


def parse_value(field_type: FieldType, given: Any) -> Value:
    """Read the value of a field; not for null.

    Raises:
        ValueProblem: it does not fit the type.
    """
    match field_type:
        case TensorType():
            return parse_tensor(field_type, given)
        case ArrayOf(element):
            if not isinstance(given, list):
                raise ValueProblem(f"Expected an array, but got {describe(given)}")
            return [_primitive(element, each) for each in given]
        case WeightedSetOf(element):
            if not isinstance(given, dict):
                raise ValueProblem(f"Expected an object of weights, but got {describe(given)}")
            return {_key(element, key): weight(value) for key, value in given.items()}
        case _:
            return _primitive(field_type, given)


def parse_key(field_type: WeightedSetOf, text: str) -> Any:
    """Read an element of a weighted set from the key of a JSON object.

    Raises:
        ValueProblem: it does not fit the type.
    """
    return _key(field_type.element, text)


def weight(given: Any) -> int:
    """Read the weight of an element.

    Raises:
        ValueProblem: it is no number of 32 bits.
    """
    return _integer("int", given)


def describe_type(field_type: FieldType) -> str:
    """The type as it stands in messages."""
    return str(field_type)


def parse_field(document: str, field: Field, given: Any) -> Value:
    """Read a field of the document whose id is given.

    Raises:
        ValueProblem: with the message that the server sends.
    """
    try:
        return parse_value(field.type, given)
    except ValueProblem as error:
        raise ValueProblem(
            f"In document '{document}': Could not parse field '{field.name}' "
            f"of type {describe_type(field.type)}: {error}"
        ) from error


def render_value(value: Value, tensors: str = "short") -> Any:
    """The JSON of a value; *tensors* is one of `tensors.FORMATS`."""
    if isinstance(value, Tensor):
        return render_tensor(value, tensors)
    if isinstance(value, dict):
        return {str(key): each for key, each in value.items()}
    return value


def render_fields(fields: Mapping[str, Value], tensors: str = "short") -> dict[str, Any]:
    """The ``fields`` of a document."""
    return {name: render_value(value, tensors) for name, value in fields.items()}


def to_float(value: float) -> float:
    """Round to 32 bits; what is too large is infinite.

    Raises:
        ValueProblem: it is infinite.
    """
    try:
        return struct.unpack(">f", struct.pack(">f", value))[0]
    except OverflowError as error:
        raise ValueProblem(f"{value} is out of range") from error


def fit_integer(kind: str, value: int) -> int:
    """Wrap around as the type does."""
    bits = INTEGER_BITS[kind]
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def _key(element: str, text: str) -> Any:
    return _primitive(element, text)


def _primitive(kind: str, given: Any) -> Any:
    if isinstance(given, list | dict) or given is None:
        raise ValueProblem(f"Expected a single value, but got {describe(given)}")
    match kind:
        case "string":
            if not isinstance(given, str):
                raise ValueProblem(f"Expected a string, but got {describe(given)}")
            illegal = illegal_code_point(given)
            if illegal is not None:
                raise ValueProblem(
                    f"The string field value contains illegal code point 0x{illegal:X}"
                )
            return given
        case "bool":
            if not isinstance(given, bool):
                raise ValueProblem(f"Expected 'true' or 'false', but got {describe(given)}")
            return given
        case "raw":
            return _raw(given)
        case "float" | "double":
            value = _decimal(given)
            return to_float(value) if kind == "float" else value
        case _:
            return _integer(kind, given)


def _integer(kind: str, given: Any) -> int:
    text = str(given).lower() if isinstance(given, bool) else str(given)
    bits = INTEGER_BITS[kind] - 1
    if _INTEGER.match(text) is None or not -(1 << bits) <= int(text) < 1 << bits:
        raise ValueProblem(f'For input string: "{text}"')
    return int(text)


def _decimal(given: Any) -> float:
    text = str(given).lower() if isinstance(given, bool) else str(given)
    if _DECIMAL.match(text) is None or not math.isfinite(float(text)):
        raise ValueProblem(f'For input string: "{text}"')
    return float(text)


def _raw(given: Any) -> str:
    if not isinstance(given, str):
        raise ValueProblem(f"Expected a string, but got {describe(given)}")
    try:
        return base64.b64encode(base64.b64decode(given, validate=True)).decode()
    except (binascii.Error, ValueError) as error:
        raise ValueProblem("Illegal base64 character") from error
