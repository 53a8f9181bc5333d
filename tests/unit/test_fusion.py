"""Reciprocal rank fusion: the sums of the paper, whatever the order of the orders, and the same each time."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sercha.services.fusion import K, fuse

rankings = st.lists(st.lists(st.integers(0, 40), unique=True, max_size=30), max_size=4)


def test_high_in_both_beats_first_in_one() -> None:
    assert [item for item, _ in fuse([[1, 2, 3], [4, 2, 5]])] == [2, 1, 4, 3, 5]


def test_scores_are_those_of_the_paper() -> None:
    scores = dict(fuse([[7, 8], [8]]))

    assert scores == pytest.approx({8: 1 / 62 + 1 / 61, 7: 1 / 61})
    assert K == 60
    assert dict(fuse([[7]], k=1)) == {7: 0.5}


def test_equal_ones_come_in_their_own_order() -> None:
    assert [item for item, _ in fuse([[9, 3], [3, 9], [5]])] == [3, 9, 5]
    assert [item for item, _ in fuse([[9], [3], [5]])] == [3, 5, 9]


@given(rankings)
def test_each_item_is_there_once_with_its_exact_sum_and_in_order(orders: list[list[int]]) -> None:
    exact: dict[int, Fraction] = {}
    for order in orders:
        for rank, item in enumerate(order, 1):
            exact[item] = exact.get(item, Fraction(0)) + Fraction(1, K + rank)

    fused = fuse(orders)

    assert [item for item, _ in fused] == sorted(exact, key=lambda item: (-exact[item], item))
    assert dict(fused) == pytest.approx({item: float(score) for item, score in exact.items()})


@given(rankings, st.randoms())
def test_order_of_the_orders_does_not_matter(orders: list[list[int]], random) -> None:
    shuffled = list(orders)
    random.shuffle(shuffled)

    assert fuse(shuffled) == fuse(orders)


def test_order_of_the_orders_does_not_matter_to_the_last_bit() -> None:
    """The sum of these three shares depends on the order in which floats are added."""
    orders = [[*range(100, 99 + rank), 7] for rank in (1, 2, 7)]

    assert len({dict(fuse(each))[7] for each in itertools.permutations(orders)}) == 1


@given(st.lists(st.integers(), unique=True))
def test_one_order_stays_as_it_is(order: list[int]) -> None:
    assert [item for item, _ in fuse([order, []])] == order
