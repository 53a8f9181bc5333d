"""What matches in the stand-in for Vespa, without its transport."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
import trio
import trio.testing

from tests.support.vespa_search import FIELDS, PROFILES, Rig, input_of, near, schema_with
from tests.vespa.distances import Distance, closeness_of
from tests.vespa.faults import Fault, Faults
from tests.vespa.model import (
    DocumentId,
    SearchRequest,
    parse_tensor_type,
)
from tests.vespa.postings import index_of, keep_indexes
from tests.vespa.query import answer
from tests.vespa.tensors import parse_tensor


def test_bm25_is_computed_over_all_terms_with_the_live_frequencies() -> None:
    rig = Rig()
    rig.put("1", title="red fox", body=["red red dog", "cat"])
    rig.put("2", title="dog", body=["blue"])
    rig.put("3", title="cow", body=["green dog"])

    hit = rig.ask('userInput("red dog")', ranking="words", hits=1)["children"][0]

    def idf(matching: int, total: int = 3) -> float:
        return math.log(1 + (total - matching + 0.5) / (matching + 0.5))

    def term(count: int, length: int, average: float, weight: float) -> float:
        return weight * 2.2 * count / (count + 1.2 * (0.25 + 0.75 * length / average))

    title = term(1, 2, 4 / 3, idf(1))
    body = term(2, 4, 7 / 3, idf(1)) + term(1, 4, 7 / 3, idf(2))
    features = hit["fields"]["matchfeatures"]
    assert features == {
        "bm25(title)": pytest.approx(title),
        "bm25(body)": pytest.approx(body),
    }
    assert hit["relevance"] == pytest.approx(2 * title + body)

    rig.put("1", title="red fox", body=["red red dog", "cat"])
    rig.store.remove(DocumentId("ns", "doc", "3"))
    hit = rig.ask('title contains "red"', ranking="words")["children"][0]
    average = (2 + 1) / 2
    assert hit["relevance"] == pytest.approx(2 * term(1, 2, average, idf(1, 2)))


def test_the_scores_of_elements() -> None:
    rig = Rig()
    rig.put("1", body=["red fox", "blue", "red red"])

    hit = rig.ask('body contains "red"', ranking="chunks")["children"][0]

    tensor = hit["fields"]["matchfeatures"]["elementwise(bm25(body),chunk,float)"]
    assert tensor["type"] == "tensor<float>(chunk{})"
    assert sorted(tensor["cells"]) == ["0", "2"]
    assert tensor["cells"]["2"] > tensor["cells"]["0"] > 0
    assert hit["relevance"] == tensor["cells"]["2"]

    hit = rig.ask('body contains "red fox"', ranking="chunks")["children"][0]

    assert list(hit["fields"]["matchfeatures"].popitem()[1]["cells"]) == ["0"]


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ('title contains "CRÈME"', ["1"]),
        ('title contains "creme brulee"', ["1"]),
        ('title contains "brulee creme"', []),
        ('body contains "one two"', ["2"]),
        ('body contains "two three"', []),
        ('body contains near("one", "three")', []),
        ('body contains ({distance:3}near("b", "one", "a"))', []),
        ('body contains near("two", "one")', ["2"]),
        ('body contains onear("two", "one")', []),
        ('body contains onear("one", "two")', ["2"]),
        ('title contains equiv("zzz", phrase("creme", "brulee"))', ["1"]),
        ('title contains "東京"', ["3"]),
        ('title contains "京東"', []),
        ('acl contains "Bea"', ["1"]),
        ('acl contains "bea"', []),
        ('acl in ("Bea", "Cem")', ["1", "2"]),
        ('weights contains "HEAVY"', ["2"]),
        ('tag contains "two words"', ["3"]),
        ('tag contains "two"', []),
        ('tag contains ({prefix:true}"tw")', ["3"]),
        ('tag matches "^two.w"', ["3"]),
        ("year = 2000", ["1"]),
        ("year > 2000", ["2"]),
        ("year in (1999, 2000, 2001)", ["1", "2"]),
        ("range(year, 2000, 2001)", ["1", "2"]),
        ('({bounds:"rightOpen"}range(year, 2000, 2001))', ["1"]),
        ("true", ["1", "2", "3"]),
        ("false", []),
        ('true and !(tag contains "two words")', ["1", "2"]),
        ('title contains "creme" or year = 2001 and acl contains "Dan"', ["1"]),
        ('(title contains "creme" or year = 2001) and acl contains "Dan"', []),
        ('rank(year = 2000, title contains "zzz")', ["1"]),
        ('userInput("creme -brulee")', []),
        ('userInput("tag:x three")', ["2"]),
    ],
)
def test_what_conditions_match(where: str, names: list[str]) -> None:
    rig = Rig()
    rig.put("1", title="Crème brûlée", acl=["Bea", "Ada"], year=2000)
    rig.put("2", body=["one two", "three"], acl=["Cem"], weights={"heavy": 3}, year=2001)
    rig.put("3", title="東京タワー", tag="Two words")

    assert sorted(rig.names(where, ranking="unranked")) == names


def test_in_on_words_of_text_loses_what_has_several_words() -> None:
    rig = Rig()
    rig.put("1", title="Two words")
    rig.put("2", title="two")

    assert rig.names('title in ("two words")') == []
    assert sorted(rig.names('title in ("two")')) == ["1", "2"]


def test_what_is_beyond_the_limits_of_a_field_is_not_found() -> None:
    fields = FIELDS.replace(
        "index: enable-bm25", "index: enable-bm25\n  match { max-length: 10 }", 1
    )
    rig = Rig(schema_with(fields=fields))
    rig.put("1", title="0123456789 beyond")
    rig.put("2", body=["x " * 10_001 + "y"])

    assert rig.names('title contains "0123456789"') == ["1"]
    assert rig.names('title contains "beyond"') == []
    assert rig.names('body contains "x y"') == []
    assert rig.names('body contains "y"') == ["2"]


def test_the_index_follows_random_changes_of_the_store(seed: int) -> None:
    """The index finds what a scan of the store finds."""
    choice = random.Random(seed)
    rig = Rig()
    words = ["ant", "bee", "cow", "dog"]
    for _ in range(300):
        name = str(choice.randrange(12))
        if choice.random() < 0.3:
            rig.store.remove(DocumentId("ns", "doc", name))
        else:
            rig.put(name, title=" ".join(choice.choices(words, k=3)), year=choice.randrange(4))
        if choice.random() < 0.3:
            word, year = choice.choice(words), choice.randrange(4)
            expected = {
                each.id.user_specific
                for each in rig.store.documents("doc")
                if word in str(each.fields["title"]).split() and each.fields["year"] == year
            }
            found = rig.names(f'title contains "{word}" and year = {year}', ranking="unranked")
            assert set(found) == expected


def test_the_index_forgets_documents_that_are_gone() -> None:
    rig = Rig()
    for at in range(2500):
        rig.put("same", title=f"version {at}")
        index = index_of(rig.store, rig.schema)

    assert len(index.live) == 1
    assert len(set(index.distinct("title"))) < 1100
    assert rig.names('title contains "2499"') == ["same"]
    assert rig.names('title contains "2000"') == []


async def test_what_changes_is_indexed_between_requests(nursery: trio.Nursery) -> None:
    rig = Rig()
    nursery.start_soon(keep_indexes, rig.store, lambda: [rig.schema])
    index = index_of(rig.store, rig.schema)
    for round_number in range(2):
        for at in range(200):
            rig.put(str(at), title=f"round{round_number}")
        await trio.testing.wait_all_tasks_blocked()
        assert (len(index.changes), len(index.live)) == (0, 200)
        assert len(rig.names(f'title contains "round{round_number}"', hits=200)) == 200


def test_weak_and_keeps_only_its_target_of_what_the_filter_leaves() -> None:
    rig = Rig()
    for at in range(20):
        rig.put(str(at), title="common" if at else "common rare", year=at % 2)

    root = rig.ask('year = 0 and ({targetHits:3}userInput("common rare"))', ranking="words")

    assert root["fields"]["totalCount"] == 3
    assert root["children"][0]["id"] == "id:ns:doc::0"
    assert all(each["fields"]["year"] == 0 for each in root["children"])


@pytest.mark.parametrize(
    ("metric", "distance", "closeness"),
    [
        ("euclidean", math.sqrt(5), 1 / (1 + math.sqrt(5))),
        ("angular", math.pi / 4, 1 / (1 + math.pi / 4)),
        ("prenormalized-angular", -1.0, None),
        ("dotproduct", -2.0, 2.0),
        ("hamming", 3.0, 0.25),
    ],
)
def test_distance_metrics(metric: str, distance: float, closeness: float | None) -> None:
    """The nearer of two blocks counts: 1 and 0 differ from 2 and 2 in three bits."""
    query = parse_tensor(parse_tensor_type("tensor<float>(x[2])"), [1.0, 0.0])
    blocks = {"far": [-126.0, -126.0], "near": [2.0, 2.0]}
    other = parse_tensor(parse_tensor_type("tensor<float>(part{},x[2])"), blocks)

    found = Distance(metric, query).closest(other)

    assert found == (pytest.approx(distance), ("near",))
    if closeness is not None:
        assert closeness_of(metric, distance) == pytest.approx(closeness)


def test_the_nearest_neighbours_are_those_of_what_the_filter_leaves() -> None:
    rig = Rig()
    near(rig)
    one = "({targetHits:1}nearestNeighbor(vector, q))"

    assert rig.names(one, ranking="vectors", **input_of(0, 0)) == ["1"]
    assert rig.names(f"{one} and year = 7", ranking="vectors", **input_of(0, 0)) == ["3"]
    assert rig.names(f"{one} and !(body contains 'word')", ranking="vectors", **input_of(0, 0)) == [
        "3"
    ]
    assert rig.names(one, ranking="vectors", **input_of(9, 9)) == ["1"]
    assert rig.names(
        "({targetHits:9, distanceThreshold:2.5}nearestNeighbor(vector, q))",
        ranking="vectors",
        **input_of(0, 0),
    ) == ["1", "3"]


def test_the_closest_part_is_a_feature() -> None:
    rig = Rig()
    near(rig)

    hit = rig.ask(
        "({targetHits:1}nearestNeighbor(vector, q))", ranking="vectors", **input_of(9, 8)
    )["children"][0]

    assert hit["relevance"] == 0.5
    assert hit["fields"]["matchfeatures"] == {
        "closest(vector)": {"type": "tensor<float>(part{})", "cells": {"b": 1.0}},
        "distance(field,vector)": 1.0,
    }


@pytest.mark.parametrize(("is_computed", "closeness"), [(True, 0.25), (False, 0.0)])
def test_the_closeness_of_what_only_words_matched_is_a_switch(
    is_computed: bool, closeness: float
) -> None:
    rig = Rig()
    near(rig)
    where = "({targetHits:1}nearestNeighbor(vector, q)) or tag contains 'x'"
    rig.put("2", vector={"a": [0.0, 3.0]}, tag="x")
    given = {"yql": f"select * from doc where {where}", "ranking": "vectors"} | input_of(0, 0)
    request = SearchRequest("POST", "", "application/json", json.dumps(given).encode())

    found = answer(request, rig.application, rig.store, computes_unmatched=is_computed)

    hits = json.loads(found.body)["root"]["children"]
    assert [(each["id"][-1], each["relevance"]) for each in hits] == [("1", 0.5), ("2", closeness)]


def test_each_node_gives_its_target_of_neighbours() -> None:
    rig = Rig(groups=((0, 1),))
    for at in range(20):
        rig.put(str(at), vector={"a": [float(at), 0.0]})
    by_node = {0: 0, 1: 0}
    for each in rig.store.documents("doc"):
        by_node[rig.store.node_of(each.id, (0, 1))] += 1
    assert min(by_node.values()) >= 3

    each_node = "({targetHits:3}nearestNeighbor(vector, q))"
    together = "({totalTargetHits:4}nearestNeighbor(vector, q))"

    assert len(rig.names(each_node, ranking="vectors", **input_of(0, 0))) == 6
    assert len(rig.names(together, ranking="vectors", **input_of(0, 0))) == 4


def test_empty_text_that_is_allowed_is_no_condition() -> None:
    """A filter beside it then decides alone, so that everything it lets through is found."""
    rig = Rig()
    rig.put("1", tag="x")
    rig.put("2", tag="y")
    empty = '({allowEmpty:true}userInput(""))'

    assert rig.names(f"{empty} and tag contains 'x'") == ["1"]
    assert rig.names(f"({empty} or tag contains 'y') and true") == ["2"]
    for where in (empty, f"{empty} and !(tag contains 'x')"):
        assert rig.ask(where)["errors"][0]["code"] == 1


def test_a_query_vector_of_another_size_than_the_field_is_refused() -> None:
    profile = "rank-profile wrong { inputs { query(q) tensor<float>(x[3]) } }"
    rig = Rig(schema_with(PROFILES + profile))
    near(rig)

    root = rig.ask(
        "({targetHits:1}nearestNeighbor(vector, q))", ranking="wrong", **input_of(1, 2, 3)
    )

    assert root["errors"][0]["code"] == 3
    assert root["errors"][0]["message"].endswith(
        "field type tensor<float>(part{},x[2]) does not match query type tensor<float>(x[3])"
    )


def test_labels_tell_neighbours_apart() -> None:
    profile = """rank-profile labels inherits vectors {
      first-phase { expression: closeness(label, one) + 10 * closeness(label, two) }
    }"""
    rig = Rig(schema_with(PROFILES + profile))
    near(rig)
    where = (
        '({targetHits:9, label:"one"}nearestNeighbor(vector, q)) or '
        '({targetHits:9, label:"other"}nearestNeighbor(vector, q))'
    )

    hits = rig.ask(where, ranking="labels", **input_of(0, 0))["children"]

    assert hits[0]["relevance"] == 0.5


# Coverage


def names_and_coverage(rig: Rig, fault: Fault) -> tuple[list[str], dict[str, Any]]:
    faults = Faults()
    faults.add(fault)
    given = {"yql": "select * from doc where true", "hits": 400}
    request = SearchRequest("POST", "", "application/json", json.dumps(given).encode())
    root = json.loads(answer(request, rig.application, rig.store, faults).body)["root"]
    assert "errors" not in root
    return sorted(each["id"] for each in root["children"]), root["coverage"]


def test_a_lost_node_of_a_flat_cluster_hides_its_documents() -> None:
    rig = Rig(groups=((0, 1),))
    for at in range(40):
        rig.put(str(at))
    left = sorted(
        str(each.id)
        for each in rig.store.documents("doc")
        if rig.store.node_of(each.id, (0, 1)) == 0
    )
    assert 0 < len(left) < 40

    names, coverage = names_and_coverage(rig, Fault("nodes-lost", nodes=frozenset({1})))
    trapped, trap = names_and_coverage(
        rig, Fault("nodes-lost", nodes=frozenset({1}), is_false_full=True)
    )

    assert names == trapped == left
    assert coverage["coverage"] == round(100 * len(left) / 40)
    assert coverage["degraded"]["non-ideal-state"] is True
    assert (coverage["documents"], coverage["nodes"]) == (len(left), 1)
    assert (coverage["full"], coverage["resultsFull"]) == (False, 0)
    assert (trap["coverage"], trap["full"], trap["documents"]) == (100, True, len(left))
    assert trap["nodes"] == 1
    assert "degraded" not in trap


def test_a_lost_node_of_one_group_changes_nothing() -> None:
    rig = Rig(groups=((0,), (1,)))
    for at in range(5):
        rig.put(str(at))

    names, coverage = names_and_coverage(rig, Fault("nodes-lost", nodes=frozenset({0})))

    assert len(names) == 5
    assert (coverage["coverage"], coverage["full"], coverage["nodes"]) == (100, True, 1)
