"""One order out of several: reciprocal rank fusion.

Scores of different engines cannot be compared, ranks can: an item's score is the sum of ``1 / (K + rank)`` over the
orders that it is in, with ranks counted from 1. Cormack, Clarke and Buettcher: Reciprocal Rank Fusion outperforms
Condorcet and individual Rank Learning Methods (SIGIR 2009).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

K = 60
"""Of the paper, and of Vespa: how little the very first ranks stand out."""


class _Ordered(Hashable, Protocol):
    def __lt__(self, other: Any, /) -> bool: ...


T = TypeVar("T", bound=_Ordered)


def fuse(rankings: Iterable[Sequence[T]], *, k: int = K) -> list[tuple[T, float]]:
    """Return all items with their scores, the best first, equal ones in their own order.

    The order of *rankings* does not matter, to the last bit. No item may be in one of them twice.
    """
    parts: dict[T, list[float]] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, 1):
            parts.setdefault(item, []).append(1 / (k + rank))
    scores = {item: math.fsum(shares) for item, shares in parts.items()}
    return sorted(scores.items(), key=lambda entry: (-entry[1], entry[0]))
