"""Random conditions on random documents: the stand-in finds what a plain reading of the condition finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.vespa_search import Rig

WORDS = ("ant", "bee", "cow")
Document = dict[str, Any]
Condition = tuple[str, Callable[[Document], bool]]
"""The YQL, and what it says of a document."""


def contains(word: str) -> Condition:
    return f'title contains "{word}"', lambda document: word in document["title"].split()


def phrase(words: tuple[str, str]) -> Condition:
    row = " ".join(words)
    return (
        f'body contains "{row}"',
        lambda document: any(f" {row} " in f" {text} " for text in document["body"]),
    )


def is_reader(names: frozenset[str]) -> Condition:
    listed = ",".join(f"'{name}'" for name in sorted(names))
    return f"acl in ({listed})", lambda document: not names.isdisjoint(document["acl"])


def is_before(year: int) -> Condition:
    return f"year < {year}", lambda document: document["year"] < year


def negated(pair: tuple[Condition, Condition]) -> Condition:
    (wanted, is_wanted), (unwanted, is_unwanted) = pair
    return (
        f"(({wanted}) and !({unwanted}))",
        lambda document: is_wanted(document) and not is_unwanted(document),
    )


def joined(word: str, decide: Callable[[Any], bool]) -> Callable[[list[Condition]], Condition]:
    def join(parts: list[Condition]) -> Condition:
        text = f" {word} ".join(part for part, _ in parts)
        return f"({text})", lambda document: decide(holds(document) for _, holds in parts)

    return join


words = st.sampled_from(WORDS)
leaves = st.one_of(
    words.map(contains),
    st.tuples(words, words).map(phrase),
    st.frozensets(words, min_size=1).map(is_reader),
    st.integers(0, 3).map(is_before),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(joined("and", all)),
        st.lists(inner, min_size=2, max_size=3).map(joined("or", any)),
        st.tuples(inner, inner).map(negated),
    ),
    max_leaves=8,
)
texts = st.lists(words, max_size=4).map(" ".join)
documents = st.fixed_dictionaries(
    {
        "title": texts,
        "body": st.lists(texts, max_size=2),
        "acl": st.lists(words, max_size=2),
        "year": st.integers(0, 3),
    }
)


@settings(deadline=None)
@given(st.lists(documents, max_size=8), conditions)
def test_conditions_mean_what_they_say(found: list[Document], condition: Condition) -> None:
    yql, holds = condition
    rig = Rig()
    for at, document in enumerate(found):
        rig.put(str(at), **document)

    names = rig.names(yql, ranking="unranked")

    assert sorted(names) == [str(at) for at, document in enumerate(found) if holds(document)]
