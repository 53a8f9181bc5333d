"""How the fields of a schema can be searched, and how their values become the words of an index."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import Enum
from typing import Any

from tests.vespa.analysis import whole
from tests.vespa.model import ArrayOf, Field, FieldType, Schema, TensorType, WeightedSetOf

NUMBERS = frozenset({"int", "long", "byte", "float", "double"})


class Kind(Enum):
    """What a condition on a field looks at."""

    TEXT = "text"  # words of an index
    WHOLE = "whole"  # whole strings
    NUMBER = "number"
    BOOLEAN = "boolean"
    TENSOR = "tensor"


def element_of(field_type: FieldType) -> str | None:
    """The primitive type of a field or of its elements; None for a tensor."""
    if isinstance(field_type, ArrayOf | WeightedSetOf):
        return field_type.element
    return None if isinstance(field_type, TensorType) else field_type


def kind_of(field: Field) -> Kind | None:
    """How *field* can be searched; None when it is neither an attribute nor an index."""
    if isinstance(field.type, TensorType):
        return Kind.TENSOR
    if not (field.is_attribute or field.is_index):
        return None
    element = element_of(field.type)
    if element == "string":
        return Kind.TEXT if field.is_index and field.match == "text" else Kind.WHOLE
    if element == "bool":
        return Kind.BOOLEAN
    return Kind.NUMBER if element in NUMBERS else None


def fields_of(schema: Schema, name: str) -> tuple[Field, ...] | None:
    """The fields behind the name of a field or of a fieldset; None when it cannot be searched."""
    fieldset = schema.fieldsets.get(name)
    if fieldset is not None:
        return tuple(schema.fields[each] for each in fieldset.fields)
    field = schema.fields.get(name)
    if field is None or kind_of(field) is None:
        return None
    return (field,)


def elements(value: Any) -> Iterator[Any]:
    """The elements of a value: itself, or those of an array or a weighted set."""
    if isinstance(value, list | dict):
        yield from value
    elif value is not None:
        yield value


def key_of(field: Field, element: Any) -> str | int | float | bool:
    """The word under which an element that is not split is indexed."""
    if isinstance(element, str):
        return whole(element, is_cased=field.is_cased)
    if element_of(field.type) == "float":
        return single(element)
    return element


def single(value: float) -> float:
    """Round to a float of 32 bits."""
    try:
        return struct.unpack("f", struct.pack("f", value))[0]
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
