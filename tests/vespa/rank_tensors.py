"""Arithmetic with tensors in rank expressions: map, join and reduce."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from typing import TypeAlias

from tests.vespa.model import Tensor, TensorType

RankValue: TypeAlias = float | Tensor
_Cells: TypeAlias = dict[tuple[str, ...], float]


def _average(values: list[float]) -> float:
    return math.fsum(values) / len(values)


AGGREGATORS: Mapping[str, Callable[[list[float]], float]] = {
    "max": max,
    "min": min,
    "sum": math.fsum,
    "avg": _average,
    "count": lambda values: float(len(values)),
    "prod": math.prod,
}


def mapped_over(value: RankValue, function: Callable[[float], float]) -> RankValue:
    """Apply *function* to a number or to each cell."""
    if not isinstance(value, Tensor):
        return function(value)
    cells = {key: tuple(map(function, block)) for key, block in value.cells.items()}
    return Tensor(value.type, cells)


def joined(
    left: RankValue, right: RankValue, function: Callable[[float, float], float]
) -> RankValue:
    """Apply *function* to the cells that agree in their common dimensions."""
    if not isinstance(left, Tensor):
        if not isinstance(right, Tensor):
            return function(left, right)
        number = left
        return mapped_over(right, lambda cell: function(number, cell))
    if not isinstance(right, Tensor):
        number = right
        return mapped_over(left, lambda cell: function(cell, number))
    if left.type.mapped == right.type.mapped and left.type.indexed == right.type.indexed:
        common = [key for key in left.cells if key in right.cells]
        same = {key: tuple(map(function, left.cells[key], right.cells[key])) for key in common}
        return Tensor(left.type, same)
    return _joined(left, right, function)


def _joined(left: Tensor, right: Tensor, function: Callable[[float, float], float]) -> Tensor:
    kind = TensorType(
        "float" if {left.type.cell, right.type.cell} <= {"float"} else "double",
        tuple(sorted({*left.type.mapped, *right.type.mapped})),
        tuple(sorted({*left.type.indexed, *right.type.indexed})),
    )
    names, left_names, right_names = _names(kind), _names(left.type), _names(right.type)
    common = [name for name in left_names if name in right_names]
    by_common: dict[tuple[str, ...], list[tuple[dict[str, str], float]]] = {}
    for address, cell in _flat(right).items():
        labels = dict(zip(right_names, address, strict=True))
        by_common.setdefault(tuple(labels[name] for name in common), []).append((labels, cell))
    found: _Cells = {}
    for address, cell in _flat(left).items():
        labels = dict(zip(left_names, address, strict=True))
        for other, value in by_common.get(tuple(labels[name] for name in common), ()):
            whole = labels | other
            found[tuple(whole[name] for name in names)] = function(cell, value)
    return _tensor(kind, found)


def reduced(value: RankValue, aggregator: str, dimensions: Iterable[str]) -> RankValue:
    """Aggregate over *dimensions*, or over all when there are none."""
    aggregate = AGGREGATORS[aggregator]
    if not isinstance(value, Tensor):
        return aggregate([value])
    gone = set(dimensions) or set(_names(value.type))
    names = _names(value.type)
    kept = [at for at, name in enumerate(names) if name not in gone]
    groups: dict[tuple[str, ...], list[float]] = {}
    for address, cell in _flat(value).items():
        groups.setdefault(tuple(address[at] for at in kept), []).append(cell)
    if not kept:
        return aggregate(groups[()]) if groups else 0.0
    kind = TensorType(
        value.type.cell,
        tuple(name for name in value.type.mapped if name not in gone),
        tuple(each for each in value.type.indexed if each[0] not in gone),
    )
    return _tensor(kind, {address: aggregate(cells) for address, cells in groups.items()})


def _names(kind: TensorType) -> tuple[str, ...]:
    return (*kind.mapped, *(name for name, _ in kind.indexed))


def _flat(tensor: Tensor) -> _Cells:
    places = list(product(*(map(str, range(length)) for _, length in tensor.type.indexed)))
    return {
        (*labels, *place): cell
        for labels, block in tensor.cells.items()
        for place, cell in zip(places, block, strict=True)
    }


def _tensor(kind: TensorType, cells: _Cells) -> Tensor:
    places = list(product(*(map(str, range(length)) for _, length in kind.indexed)))
    width = len(kind.mapped)
    labels = dict.fromkeys(address[:width] for address in cells)
    return Tensor(
        kind,
        {each: tuple(cells.get((*each, *place), 0.0) for place in places) for each in labels},
    )
