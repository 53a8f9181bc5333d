"""Partial updates: what the operations on a field do to its value.

Arithmetic on a field without a value starts at 0, and ``modify`` of a tensor without a value does nothing unless
it creates cells: both derived, not observed on a live cluster.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.vespa.model import ArrayOf, Field, FieldType, Tensor, TensorType, Value, WeightedSetOf
from tests.vespa.tensors import (
    ValueProblem,
    describe,
    parse_address,
    parse_cells,
    parse_tensor,
    round_cell,
)
from tests.vespa.values import (
    INTEGER_BITS,
    fit_integer,
    parse_field,
    parse_key,
    parse_value,
    to_float,
    weight,
)

NUMERIC = frozenset({"byte", "int", "long", "float", "double"})
ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "increment": lambda old, by: old + by,
    "decrement": lambda old, by: old - by,
    "multiply": lambda old, by: old * by,
    "divide": lambda old, by: old / by,
}
_PATH = re.compile(r"(\w+)(?:\[(\d+)\]|\{(.*)\})\Z", re.DOTALL)
_MODIFY = {
    "replace": lambda old, new: new,
    "add": lambda old, new: old + new,
    "multiply": lambda old, new: old * new,
}


def apply_updates(
    document: str,
    type_name: str,
    fields: Mapping[str, Field],
    old: Mapping[str, Value],
    updates: Any,
) -> dict[str, Value]:
    """The fields of a document after the ``fields`` of an update.

    Raises:
        ValueProblem: with the message that the server sends.
    """
    if not isinstance(updates, dict):
        raise ValueProblem(f"Update of document {document} is missing a 'fields' map")
    new = dict(old)
    for path, operations in updates.items():
        match = _PATH.match(path)
        name = match[1] if match else path
        field = fields.get(name)
        if field is None:
            raise ValueProblem(f"Error in '{path}': No field named '{name}' in {type_name}")
        if not isinstance(operations, dict) or not operations:
            raise ValueProblem(
                f"Error in '{path}': Expected an object of operations, but got {describe(operations)}"
            )
        for operation, operand in operations.items():
            try:
                if match:
                    operand = {"element": match[2] or match[3], operation: operand}
                    value = _match(field.type, new.get(name), operand)
                else:
                    value = _apply(document, field, new.get(name), operation, operand)
            except ValueProblem as error:
                raise ValueProblem(f"Error in '{path}': {error}") from error
            if value is None:
                new.pop(name, None)
            else:
                new[name] = value
    return new


def is_allowed_when_full(fields: Mapping[str, Field], updates: Any) -> bool:
    """Whether an update only assigns to single numbers, which a full cluster still takes."""
    if not isinstance(updates, dict):
        return False
    return all(
        name in fields
        and fields[name].type in NUMERIC
        and isinstance(operations, dict)
        and set(operations) == {"assign"}
        for name, operations in updates.items()
    )


def _apply(
    document: str, field: Field, old: Value | None, operation: str, operand: Any
) -> Value | None:
    match operation:
        case "assign":
            return None if operand is None else parse_field(document, field, operand)
        case "add":
            return _add(field.type, old, operand)
        case "remove":
            return _remove(field.type, old, operand)
        case "match":
            return _match(field.type, old, operand)
        case "modify":
            return _modify(field.type, old, operand)
        case name if name in ARITHMETIC:
            if field.type not in NUMERIC:
                raise ValueProblem(f"Expected a numeric field, {field.name} is {field.type}")
            return _arithmetic(str(field.type), old, operation, operand)
        case _:
            raise ValueProblem(f"Unknown or unsupported update operation '{operation}'")


def _arithmetic(kind: str, old: Any, operation: str, operand: Any) -> float:
    if isinstance(operand, bool) or not isinstance(operand, int | float):
        raise ValueProblem(f"Expected a number, but got {describe(operand)}")
    if operation == "divide" and operand == 0:
        raise ValueProblem("Division by zero")
    value = ARITHMETIC[operation](0 if old is None else old, operand)
    if kind in INTEGER_BITS:
        return fit_integer(kind, int(value))
    return to_float(value) if kind == "float" else float(value)


def _add(field_type: FieldType, old: Any, operand: Any) -> Value:
    match field_type:
        case ArrayOf():
            added: Any = parse_value(field_type, operand)
            return [*(old or []), *added]
        case WeightedSetOf():
            added = parse_value(field_type, operand)
            return {**(old or {}), **added}
        case TensorType() if field_type.mapped:
            tensor = parse_tensor(field_type, operand)
            return Tensor(field_type, {**(old.cells if old else {}), **tensor.cells})
        case _:
            raise ValueProblem(f"'add' is not for fields of type {field_type}")


def _remove(field_type: FieldType, old: Any, operand: Any) -> Value | None:
    match field_type:
        case ArrayOf():
            removed: Any = parse_value(field_type, operand)
            return old and [each for each in old if each not in removed]
        case WeightedSetOf():
            removed = parse_value(field_type, operand)
            return old and {key: value for key, value in old.items() if key not in removed}
        case TensorType() if field_type.mapped:
            addresses = operand.get("addresses") if isinstance(operand, dict) else None
            if not isinstance(addresses, list) or not addresses:
                raise ValueProblem("Expected 'addresses'")
            gone = {parse_address(field_type, each, is_partial=True) for each in addresses}
            return old and Tensor(
                field_type, {key: block for key, block in old.cells.items() if key not in gone}
            )
        case _:
            raise ValueProblem(f"'remove' is not for fields of type {field_type}")


def _match(field_type: FieldType, old: Any, operand: Any) -> Value | None:
    if not isinstance(operand, dict) or "element" not in operand or len(operand) != 2:
        raise ValueProblem("Expected 'match' with 'element' and one operation")
    element = operand["element"]
    operation, value = next((key, each) for key, each in operand.items() if key != "element")
    match field_type:
        case ArrayOf(kind):
            if not str(element).isdigit():
                raise ValueProblem(f"Expected an index, but got {describe(element)}")
            at = int(element)
            changed = _changed(kind, old[at] if old and at < len(old) else None, operation, value)
            if not old or at >= len(old):
                return old
            return [*old[:at], changed, *old[at + 1 :]]
        case WeightedSetOf():
            key = parse_key(field_type, str(element))
            if operation == "assign":
                return {**(old or {}), key: weight(value)}
            if old is None or key not in old:
                return old
            return {**old, key: int(_changed("int", old[key], operation, value))}
        case _:
            raise ValueProblem(f"'match' is not for fields of type {field_type}")


def _changed(kind: str, old: Any, operation: str, operand: Any) -> Any:
    if operation == "assign":
        return parse_value(kind, operand)
    if operation not in ARITHMETIC or kind not in NUMERIC:
        raise ValueProblem(f"'{operation}' is not for elements of type {kind}")
    return _arithmetic(kind, old, operation, operand)


def _modify(field_type: FieldType, old: Any, operand: Any) -> Value | None:
    if not isinstance(field_type, TensorType):
        raise ValueProblem(f"'modify' is not for fields of type {field_type}")
    if not isinstance(operand, dict) or operand.get("operation") not in _MODIFY:
        raise ValueProblem(f"Expected 'operation', one of {', '.join(_MODIFY)}")
    creates = operand.get("create", False)
    if not isinstance(creates, bool) or (creates and not field_type.mapped):
        raise ValueProblem("'create' needs a mapped dimension")
    given = {key: value for key, value in operand.items() if key not in ("operation", "create")}
    changes = parse_cells(field_type, given)
    if old is None and not creates:
        return None
    change = _MODIFY[operand["operation"]]
    blocks: dict[tuple[str, ...], tuple[float, ...]] = dict(old.cells) if old else {}
    default = 1.0 if operand["operation"] == "multiply" else 0.0
    for address, cells in changes.items():
        block = blocks.get(address)
        if block is None and not creates:
            continue
        values = list(block or (default,) * field_type.block_size)
        for at, value in cells.items():
            values[at] = round_cell(change(values[at], value), field_type.cell)
        blocks[address] = tuple(values)
    return Tensor(field_type, blocks)
