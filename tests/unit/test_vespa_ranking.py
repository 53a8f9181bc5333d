"""Rank expressions, phases and orders in the stand-in for Vespa, without its transport."""

from __future__ import annotations

import math

import pytest

from tests.support.vespa_search import Rig, input_of, near, schema_with
from tests.vespa.expressions import ExpressionError, parse_expression
from tests.vespa.model import (
    Tensor,
    TensorType,
    parse_tensor_type,
)
from tests.vespa.rank_checks import check_rank_profiles
from tests.vespa.rank_tensors import joined, mapped_over, reduced
from tests.vespa.ranking import normalize_linear, reciprocal_ranks
from tests.vespa.tensors import parse_tensor


def number(text: str) -> float:
    """The value of an expression without features."""
    rig = Rig(schema_with(f"rank-profile p {{ first-phase {{ expression: {text} }} }}"))
    rig.put("1")
    return rig.ask("true", ranking="p")["children"][0]["relevance"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("2 ^ 3 ^ 2", 512.0),
        ("-2 + 3", 1.0),
        ("7 % 4", 3.0),
        ("10 / 4", 2.5),
        ("1 < 2 && 3 >= 3", 1.0),
        ("1 == 2 || 0", 0.0),
        ("if (2 > 1, 5, 6)", 5.0),
        ("max(min(4, 3), 2)", 3.0),
        ("log(exp(2))", 2.0),
        ("sqrt(pow(3, 2))", 3.0),
        ("isNan(sqrt(-1))", 1.0),
        ("1e3 + .5", 1000.5),
        ("attribute(year)", "-Infinity"),
        ("1 / 0", "Infinity"),
    ],
)
def test_arithmetic(text: str, value: float | str) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    "text", ["", "1 +", "(1", "1 2", "f(", "f(1,)", "a..b", "1 ? 2", '"a"', "bm25(a).b"]
)
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_expression(text)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("nonesuch(title)", "'nonesuch(title)' does not exist"),
        ("lexical", "'lexical' does not exist"),
        ("freshness(year)", "'freshness(year)' does not exist"),
        ("fieldMatch(title)", "'fieldMatch(title)' does not exist"),
        ("bm25(gone)", "field 'gone' does not exist"),
        ("bm25(tag)", "needs an index of text with enable-bm25"),
        ("bm25(plain)", "needs an index of text with enable-bm25"),
        ("attribute(title)", "is no attribute"),
        ("attribute(tag)", "is no single number"),
        ("closeness(field, year)", "is no attribute tensor"),
        ("closeness(vector)", "does not exist"),
        ("reciprocal_rank(bm25(title))", "only be used in the global-phase"),
        ("normalize_linear(bm25(title))", "only be used in the global-phase"),
        ("firstPhase", "'firstPhase' does not exist"),
        ("closest(vector)", "must produce a double"),
        ("closest(dense)", "needs a mapped dimension"),
        ("max(1)", "wrong number of arguments"),
        ("reduce(closest(vector), max, y)", "reduces dimensions that are not there"),
        ("constant(pi)", "does not exist"),
    ],
)
def test_unknown_functions_features_and_fields_are_refused(expression: str, message: str) -> None:
    schema = schema_with(f"rank-profile p {{ first-phase {{ expression: {expression} }} }}")

    with pytest.raises(ExpressionError) as caught:
        check_rank_profiles(schema)

    assert "rank-profile 'p'" in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "rank-profile p { function a() { expression: b }\nfunction b() { expression: a() } }",
        "rank-profile p { function a() { expression: reciprocal_rank(year) } }",
        "rank-profile p { match-features: lexical }",
        "rank-profile p { global-phase { expression: normalize_linear(2 * attribute(year)) } }",
        "rank-profile p { global-phase { expression: reciprocal_rank_fusion(attribute(year)) } }",
    ],
)
def test_profiles_that_cannot_work_are_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        check_rank_profiles(schema_with(text))


def test_the_profiles_of_these_tests_are_right() -> None:
    check_rank_profiles(schema_with())


def test_tensors_are_joined_and_reduced() -> None:
    mixed = parse_tensor(
        parse_tensor_type("tensor<float>(part{},x[2])"), {"a": [1.0, 2.0], "b": [3.0, 4.0]}
    )
    dense = parse_tensor(parse_tensor_type("tensor<float>(x[2])"), [10.0, 1.0])

    products = joined(mixed, dense, lambda one, other: one * other)
    sums = reduced(products, "sum", ["x"])

    assert isinstance(sums, Tensor)
    assert sums.type == TensorType("float", ("part",), ())
    assert sums.cells == {("a",): (12.0,), ("b",): (34.0,)}
    assert reduced(sums, "max", []) == 34.0
    assert mapped_over(sums, lambda value: value / 2) == Tensor(
        sums.type, {("a",): (6.0,), ("b",): (17.0,)}
    )


def test_the_fusion_of_ranks() -> None:
    rig = Rig()
    near(rig)
    where = "({targetHits:10}nearestNeighbor(vector, q)) or body contains 'word'"

    hits = rig.ask(where, ranking="fused", **input_of(0, 0))["children"]

    first, second, *rest = [(each["id"][-1], each["relevance"]) for each in hits]
    assert first == ("1", pytest.approx(1 / 61 + 1 / 61))
    assert second == ("3", pytest.approx(1 / 62 + 1 / 62))
    assert [name for name, _ in rest] == ["2", "4"]
    assert rest[0][1] == pytest.approx(2 / 63)
    assert rest[1][1] <= rest[0][1]
    assert set(hits[0]["fields"]["matchfeatures"]) == {"lexical", "semantic"}


def test_the_rerank_count_of_the_request_wins() -> None:
    rig = Rig()
    near(rig)
    where = "({targetHits:10}nearestNeighbor(vector, q)) or body contains 'word'"

    hits = rig.ask(
        where, ranking={"profile": "fused", "globalPhase": {"rerankCount": 10}}, **input_of(0, 0)
    )["children"]

    assert [each["id"][-1] for each in hits] == ["1", "4", "3", "2"]
    assert hits[1]["relevance"] == pytest.approx(1 / 61 + 1 / 64, rel=0.02)


def test_the_second_phase_orders_the_best_of_the_first() -> None:
    rig = Rig()
    for year in (10, 20, 30):
        rig.put(str(year), year=year)

    hits = rig.ask("true", ranking="twice", input={"query(factor)": 2})["children"]

    assert [(each["id"][-2:], each["relevance"]) for each in hits] == [
        ("20", -39.0),
        ("30", -59.0),
        ("10", -59.0),
    ]


def test_linear_normalising_and_reciprocal_ranks() -> None:
    rig = Rig()
    for year in (10, 20, 30):
        rig.put(str(year), year=year)

    hits = rig.ask("true", ranking="linear")["children"]

    assert [each["relevance"] for each in hits] == [
        pytest.approx(1 + 1 / 10),
        pytest.approx(0.5 + 1 / 11),
        pytest.approx(1 / 12),
    ]
    assert normalize_linear({1: 4.0, 2: 4.0}) == {1: 0.0, 2: 0.0}
    assert reciprocal_ranks({1: 0.0, 2: 5.0, 3: -math.inf}, 60.0) == {
        2: 1 / 61,
        1: 1 / 62,
        3: 1 / 63,
    }


def test_the_order_of_attributes() -> None:
    rig = Rig()
    rig.put("a", tag="Beta", year=1)
    rig.put("b", tag="alpha", year=2)
    rig.put("c", tag="beta", year=2)
    rig.put("d")

    assert rig.names("true order by tag, year desc") == ["d", "b", "c", "a"]
    assert rig.names("true order by year desc, tag") == ["b", "c", "a", "d"]
    assert rig.names("true", sorting="-year +tag") == ["b", "c", "a", "d"]


@pytest.mark.parametrize(
    ("order", "ranking", "code", "message"),
    [
        ("year", "linear", 3, "Sorting is not supported with global phase"),
        ("title", "words", 4, "Cannot sort by 'title'"),
        ("acl", "words", 4, "Cannot sort by 'acl'"),
        ("gone", "words", 4, "Cannot sort by 'gone'"),
    ],
)
def test_what_cannot_be_sorted_by_is_refused(
    order: str, ranking: str, code: int, message: str
) -> None:
    root = Rig().ask(f"true order by {order}", ranking=ranking)

    assert root["errors"][0]["code"] == code
    assert message in root["errors"][0]["message"]


def test_equal_scores_have_a_stable_order() -> None:
    rig = Rig()
    for at in range(20):
        rig.put(str(at), year=1)
    before = rig.names("true", hits=20)
    rig.put("7", year=2)

    assert rig.names("true", hits=20) == before
    assert rig.names("true", hits=5, offset=5) == before[5:10]
