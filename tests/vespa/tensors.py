"""Tensors in documents: every form of JSON that is taken and given."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from tests.vespa.model import Tensor, TensorType

FORMATS = ("short", "long", "short-value", "long-value", "hex", "hex-value")
"""The values of ``format.tensors``."""
_HEX_DIGITS = {"double": 16, "float": 8, "bfloat16": 4, "int8": 2}
Address = tuple[str, ...]


class ValueProblem(ValueError):
    """A value does not fit the type of its field."""


def round_cell(value: float, cell: str) -> float:
    """Round to what a cell of this type holds.

    Raises:
        ValueProblem: the number is out of range.
    """
    try:
        if cell == "float":
            return struct.unpack(">f", struct.pack(">f", value))[0]
        if cell == "bfloat16":
            return struct.unpack(">f", struct.pack(">f", value)[:2] + b"\0\0")[0]
    except OverflowError as error:
        raise ValueProblem(f"{value} is out of range for {cell}") from error
    if cell == "int8" and not (value == int(value) and -128 <= value <= 127):
        raise ValueProblem(f"{value} is no int8")
    return float(value)


def parse_tensor(tensor_type: TensorType, given: Any) -> Tensor:
    """Read a tensor.

    Raises:
        ValueProblem: it does not fit the type.
    """
    if not tensor_type.mapped:
        if isinstance(given, dict) and "cells" in given:
            blocks = _from_cells(tensor_type, given["cells"], is_complete=True)
        else:
            values = given["values"] if isinstance(given, dict) and "values" in given else given
            blocks = {(): _block(tensor_type, values)}
    elif not isinstance(given, dict):
        raise ValueProblem(f"Expected an object, but got {describe(given)}")
    elif tensor_type.indexed:
        blocks = _mixed(tensor_type, given)
    else:
        blocks = _from_cells(tensor_type, given.get("cells", _plain(given)), is_complete=True)
    return Tensor(tensor_type, blocks)


def parse_cells(tensor_type: TensorType, given: Any) -> dict[Address, dict[int, float]]:
    """Read the cells of a ``modify``: by block, then by the place in the block.

    Raises:
        ValueProblem: they do not fit the type.
    """
    if not isinstance(given, dict):
        raise ValueProblem(f"Expected an object, but got {describe(given)}")
    if "cells" not in given:
        tensor = parse_tensor(tensor_type, given)
        return {address: dict(enumerate(block)) for address, block in tensor.cells.items()}
    return _cells(tensor_type, given["cells"])


def parse_address(tensor_type: TensorType, given: Any, *, is_partial: bool = False) -> Address:
    """Read the labels of the mapped dimensions; *is_partial* leaves out others than mapped ones.

    Raises:
        ValueProblem: the dimensions are not those of the type.
    """
    if not isinstance(given, dict) or not all(isinstance(each, str) for each in given.values()):
        raise ValueProblem("Expected an address of dimensions and labels")
    if is_partial and set(given) != set(tensor_type.mapped):
        raise ValueProblem(f"{tensor_type} has no address {sorted(given)}")
    return tuple(given[name] for name in tensor_type.mapped)


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if key != "type"}


def _mixed(tensor_type: TensorType, given: Mapping[str, Any]) -> dict[Address, tuple[float, ...]]:
    if "cells" in given:
        return _from_cells(tensor_type, given["cells"], is_complete=True)
    blocks = given.get("blocks", _plain(given))
    found: dict[Address, tuple[float, ...]] = {}
    if isinstance(blocks, dict):
        if len(tensor_type.mapped) != 1:
            raise ValueProblem(f"{tensor_type} needs blocks with addresses")
        return {(label,): _block(tensor_type, block) for label, block in blocks.items()}
    if not isinstance(blocks, list):
        raise ValueProblem(f"Expected blocks, but got {describe(blocks)}")
    for each in blocks:
        if not isinstance(each, dict) or set(each) != {"address", "values"}:
            raise ValueProblem("Expected a block with 'address' and 'values'")
        address = parse_address(tensor_type, each["address"], is_partial=True)
        found[address] = _block(tensor_type, each["values"])
    return found


def _from_cells(
    tensor_type: TensorType, given: Any, *, is_complete: bool
) -> dict[Address, tuple[float, ...]]:
    blocks: dict[Address, tuple[float, ...]] = {}
    size = tensor_type.block_size
    for address, cells in _cells(tensor_type, given).items():
        if is_complete and len(cells) != size:
            raise ValueProblem(f"Expected {size} values, but got {len(cells)}")
        blocks[address] = tuple(cells[at] for at in range(size))
    return blocks


def _cells(tensor_type: TensorType, given: Any) -> dict[Address, dict[int, float]]:
    found: dict[Address, dict[int, float]] = {}
    if isinstance(given, dict):
        if len(tensor_type.mapped) + len(tensor_type.indexed) != 1:
            raise ValueProblem(f"{tensor_type} needs cells with addresses")
        name = (*tensor_type.mapped, *(name for name, _ in tensor_type.indexed))[0]
        given = [{"address": {name: label}, "value": value} for label, value in given.items()]
    if not isinstance(given, list):
        raise ValueProblem(f"Expected cells, but got {describe(given)}")
    names = {*tensor_type.mapped, *(name for name, _ in tensor_type.indexed)}
    for cell in given:
        if not isinstance(cell, dict) or set(cell) != {"address", "value"}:
            raise ValueProblem("Expected a cell with 'address' and 'value'")
        address = (
            parse_address(tensor_type, cell["address"]) if names == set(cell["address"]) else None
        )
        if address is None:
            raise ValueProblem(f"{tensor_type} has no address {sorted(cell['address'])}")
        at = _place(tensor_type, cell["address"])
        found.setdefault(address, {})[at] = _number(cell["value"], tensor_type.cell)
    return found


def _place(tensor_type: TensorType, address: Mapping[str, str]) -> int:
    at = 0
    for name, length in tensor_type.indexed:
        label = address[name]
        if not label.isdigit() or int(label) >= length:
            raise ValueProblem(f"'{label}' is outside of dimension {name}[{length}]")
        at = at * length + int(label)
    return at


def _block(tensor_type: TensorType, given: Any) -> tuple[float, ...]:
    if isinstance(given, str):
        values = _from_hex(given, tensor_type.cell)
    else:
        values = tuple(_number(each, tensor_type.cell) for each in _flat(given))
    if len(values) != tensor_type.block_size:
        raise ValueProblem(f"Expected {tensor_type.block_size} values, but got {len(values)}")
    return values


def _flat(given: Any) -> Iterator[Any]:
    if not isinstance(given, list):
        raise ValueProblem(f"Expected an array, but got {describe(given)}")
    for each in given:
        if isinstance(each, list):
            yield from _flat(each)
        else:
            yield each


def _number(given: Any, cell: str) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ValueProblem(f"Expected a number, but got {describe(given)}")
    return round_cell(given, cell)


def _from_hex(text: str, cell: str) -> tuple[float, ...]:
    try:
        data = bytes.fromhex(text)
    except ValueError as error:
        raise ValueProblem(f"'{text[:20]}' is no hexadecimal text") from error
    if len(text) % _HEX_DIGITS[cell] or not text.isalnum():
        raise ValueProblem(f"{len(text)} hexadecimal digits do not make {cell} values")
    if cell == "bfloat16":
        data = b"".join(data[at : at + 2] + b"\0\0" for at in range(0, len(data), 2))
    code = {"double": "d", "float": "f", "bfloat16": "f", "int8": "b"}[cell]
    count = len(data) // struct.calcsize(code)
    values = tuple(float(each) for each in struct.unpack(f">{count}{code}", data))
    if not all(map(math.isfinite, values)):
        raise ValueProblem("a value is not finite")
    return values


def _to_hex(block: tuple[float, ...], cell: str) -> str:
    if cell == "int8":
        return struct.pack(f">{len(block)}b", *map(int, block)).hex()
    data = struct.pack(f">{len(block)}{'d' if cell == 'double' else 'f'}", *block)
    if cell == "bfloat16":
        data = b"".join(data[at : at + 2] for at in range(0, len(data), 4))
    return data.hex()


def render_tensor(tensor: Tensor, form: str = "short") -> Any:
    """The JSON of a tensor in one of `FORMATS`."""
    kind, _, rest = form.partition("-")
    if kind == "long":
        key, value = "cells", _long(tensor)
    elif not tensor.type.indexed:
        key, value = "cells", _keyed(tensor, {k: v[0] for k, v in tensor.cells.items()}, "value")
    else:
        blocks = {
            address: _rendered(tensor, block, kind) for address, block in tensor.cells.items()
        }
        if not tensor.type.mapped:
            key, value = "values", blocks[()]
        else:
            key, value = "blocks", _keyed(tensor, blocks, "values")
    return value if rest else {"type": str(tensor.type), key: value}


def _rendered(tensor: Tensor, block: tuple[float, ...], kind: str) -> Any:
    if kind == "hex":
        return _to_hex(block, tensor.type.cell)
    values: list[Any] = list(block)
    for _, length in reversed(tensor.type.indexed[1:]):
        values = [values[at : at + length] for at in range(0, len(values), length)]
    return values


def _keyed(tensor: Tensor, items: Mapping[Address, Any], name: str) -> Any:
    if len(tensor.type.mapped) == 1:
        return {address[0]: item for address, item in items.items()}
    return [
        {"address": dict(zip(tensor.type.mapped, address, strict=True)), name: item}
        for address, item in items.items()
    ]


def _long(tensor: Tensor) -> list[dict[str, Any]]:
    lengths = [range(length) for _, length in tensor.type.indexed]
    names = [name for name, _ in tensor.type.indexed]
    cells: list[dict[str, Any]] = []
    for labels, block in tensor.cells.items():
        address = dict(zip(tensor.type.mapped, labels, strict=True))
        for places, value in zip(product(*lengths), block, strict=True):
            indexed = dict(zip(names, map(str, places), strict=True))
            cells.append({"address": address | indexed, "value": value})
    return cells


def describe(given: Any) -> str:
    """A short name of a JSON value, for messages."""
    match given:
        case None:
            return "null"
        case dict():
            return "an object"
        case list():
            return "an array"
        case _:
            return f"'{given}'"
