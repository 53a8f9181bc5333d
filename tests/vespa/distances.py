"""Distances between vectors as Vespa's metrics define them, and the closeness made of a distance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from operator import mul

from tests.vespa.model import Tensor

_Vector = Sequence[float]


def _dot(one: _Vector, other: _Vector) -> float:
    return sum(map(mul, one, other))


def _euclidean(query: _Vector) -> Callable[[_Vector], float]:
    return lambda vector: math.dist(query, vector)


def _angular(query: _Vector) -> Callable[[_Vector], float]:
    norm = math.sqrt(_dot(query, query))

    def angle(vector: _Vector) -> float:
        product = norm * math.sqrt(_dot(vector, vector))
        cosine = _dot(query, vector) / product if product else 0.0
        return math.acos(max(-1.0, min(1.0, cosine)))

    return angle


def _prenormalized(query: _Vector) -> Callable[[_Vector], float]:
    square = _dot(query, query) or 1.0
    return lambda vector: 1.0 - _dot(query, vector) / square


def _product(query: _Vector) -> Callable[[_Vector], float]:
    return lambda vector: -_dot(query, vector)


def _hamming(query: _Vector) -> Callable[[_Vector], float]:
    def bits(vector: _Vector) -> float:
        pairs = zip(query, vector, strict=True)
        return float(sum(((int(a) ^ int(b)) & 0xFF).bit_count() for a, b in pairs))

    return bits


_METRICS: Mapping[str, Callable[[_Vector], Callable[[_Vector], float]]] = {
    "euclidean": _euclidean,
    "angular": _angular,
    "prenormalized-angular": _prenormalized,
    "dotproduct": _product,
    "hamming": _hamming,
}


def closeness_of(metric: str, distance: float) -> float:
    """The closeness of a distance: between 0 and 1, except that of ``dotproduct``."""
    if metric == "dotproduct":
        return -distance
    return 1.0 / (1.0 + distance)


class Distance:
    """Distances from one query vector."""

    def __init__(self, metric: str, query: Tensor) -> None:
        if metric not in _METRICS:
            raise ValueError(f"the distance metric '{metric}' is not supported by this server")
        self.metric = metric
        self._of = _METRICS[metric](query.cells[()])

    def closest(self, tensor: Tensor) -> tuple[float, tuple[str, ...]] | None:
        """The distance to the nearest block, and its labels; None without blocks."""
        best: tuple[float, tuple[str, ...]] | None = None
        for labels, block in tensor.cells.items():
            distance = self._of(block)
            if best is None or distance < best[0]:
                best = (distance, labels)
        return best
