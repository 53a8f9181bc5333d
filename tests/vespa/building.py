"""Makes query items of a YQL tree: looks up fields, parameters and words, and refuses what cannot be.

It reads the condition for one schema. A field that only another schema of the query has matches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tests.vespa import leaves
from tests.vespa.items import (
    TARGET_HITS,
    All,
    AnyOf,
    Empty,
    Everything,
    Item,
    Nearest,
    Nothing,
    Rank,
    WeakAnd,
    Without,
)
from tests.vespa.lookup import Lookup, operator_of
from tests.vespa.model import Schema
from tests.vespa.query_errors import YqlError
from tests.vespa.user_input import UserInput, query_type
from tests.vespa.yql_tree import (
    And,
    Call,
    Comparison,
    Contains,
    FieldName,
    In,
    Literal,
    Matches,
    Node,
    Not,
    Or,
)

FUNCTIONS = (
    "userQuery", "range", "wand", "weightedSet", "dotProduct", "geoBoundingBox", "geoLocation",
    "nearestNeighbor", "predicate", "rank", "labeled", "weakAnd", "userInput", "nonEmpty",
)  # fmt: skip
_HNSW = (
    "hnsw.exploreAdditionalHits", "hnsw.approximateThreshold", "hnsw.explorationSlack",
    "hnsw.filterFirstExploration", "hnsw.filterFirstThreshold", "hnsw.postFilterThreshold",
    "hnsw.targetHitsMaxAdjustmentFactor",
)  # fmt: skip


class Builder:
    """Makes items for *schema*; *others* are the further schemas that the query goes to."""

    def __init__(
        self, schema: Schema, parameters: Mapping[str, str], others: Sequence[Schema] = ()
    ) -> None:
        self._lookup = Lookup(schema, parameters, others)
        self._schema = schema
        self._parameters = parameters

    def item(self, node: Node) -> Item:
        """Make the item of a condition.

        Raises:
            QueryError: it cannot be made; mostly a `YqlError`.
        """
        with self._lookup.scope.within(node):
            match node:
                case And():
                    return self._and(node)
                case Or():
                    return AnyOf(self._items(node.children))
                case Contains():
                    return leaves.contains(self._lookup, node, self._text)
                case In():
                    return leaves.membership(self._lookup, node)
                case Comparison():
                    return leaves.comparison(self._lookup, node)
                case Matches():
                    return leaves.pattern(self._lookup, node)
                case Literal(value=bool(value)):
                    return Everything() if value else Nothing()
                case Call():
                    return self._call(node)
                case Not():
                    raise YqlError("A negation needs a conjunction with something that is wanted.")
                case _:
                    raise YqlError(
                        "Expected AND, OR, EQ, LT, GT, LTEQ, GTEQ, CONTAINS, MATCHES, CALL, LITERAL, NOT or IN, "
                        f"got {operator_of(node)}."
                    )

    def query(self, text: str) -> Item:
        """Make the item of a query that is not YQL: the parameter ``query``."""
        kind = query_type(self._parameters.get("model.type", "weakAnd"), None, None, None)
        index = self._parameters.get("model.defaultIndex", "default")
        return UserInput(self._schema, index, kind).item(text, may_be_empty=False)

    def _items(self, nodes: Sequence[Node]) -> tuple[Item, ...]:
        return tuple(self.item(node) for node in nodes)

    def _and(self, node: And) -> Item:
        wanted = self._items([child for child in node.children if not isinstance(child, Not)])
        unwanted: list[Item] = []
        for child in node.children:
            if isinstance(child, Not):
                with self._lookup.scope.within(child):
                    unwanted.append(self.item(child.child))
        if not wanted:
            raise YqlError("A negation needs a conjunction with something that is wanted.")
        item = wanted[0] if len(wanted) == 1 else All(wanted)
        return Without(item, tuple(unwanted)) if unwanted else item

    def _call(self, call: Call) -> Item:
        match call.name:
            case "userInput":
                index = self._lookup.scope.get("defaultIndex", "default")
                return self._user_text(call, "weakAnd", index)
            case "userQuery":
                self._argument_count(call, 0)
                return self._user_query()
            case "nearestNeighbor":
                self._argument_count(call, 2)
                return self._nearest(call)
            case "range":
                return leaves.between(self._lookup, call)
            case "rank" | "weakAnd" if not call.arguments:
                raise YqlError(f"Expected 1 or more arguments for {call.name}, got 0.")
            case "rank":
                return Rank(self._items(call.arguments))
            case "weakAnd":
                return WeakAnd(self._items(call.arguments), *self._target_hits())
            case "nonEmpty":
                self._argument_count(call, 1)
                return self._non_empty(call)
            case name if name in FUNCTIONS:
                raise YqlError(f"{name}() is not supported by this server.")
            case name:
                known = f"{', '.join(FUNCTIONS[:-1])} or {FUNCTIONS[-1]}"
                raise YqlError(f"Expected {known}, got {name}.")

    def _argument_count(self, call: Call, wanted: int) -> None:
        if len(call.arguments) != wanted:
            raise YqlError(f"Expected {wanted} arguments, got {len(call.arguments)}.")

    def _target_hits(self) -> tuple[int, bool]:
        """What weakAnd is to find, and whether that is for all nodes together."""
        get = self._lookup.scope.get
        total = get("totalTargetHits", 0)
        if total > 0:
            return total, True
        return get("targetHits", get("targetNumHits", TARGET_HITS)), False

    def _non_empty(self, call: Call) -> Item:
        item = self.item(call.arguments[0])
        if isinstance(item, Nothing | Empty):
            raise YqlError("Got NullItem inside nonEmpty().")
        return item

    def _user_query(self) -> Item:
        text = self._parameters.get("model.queryString")
        if text is None:
            raise YqlError("userQuery() without a query: the parameter 'query' is not set")
        return self.query(text)

    def _text(self, call: Call, index: str) -> Item:
        return self._user_text(call, "linguistics", index)

    def _user_text(self, call: Call, default: str, index: str) -> Item:
        """The item of ``userInput(...)`` or ``text(...)``."""
        self._argument_count(call, 1)
        get = self._lookup.scope.get
        may_be_empty = get("allowEmpty", False)
        text = self._lookup.text(call.arguments[0])
        grammar = get("grammar", default)
        if grammar in ("raw", "segment"):
            fields = self._lookup.fields(FieldName(index))
            return self._lookup.terms().term(fields, text)
        kind = query_type(
            grammar,
            get("grammar.composite", None),
            get("grammar.tokenization", None),
            get("grammar.syntax", None),
        )
        target_hits, is_total = self._target_hits()
        distance = get("distance", leaves.NEAR_DISTANCE)
        terms = self._lookup.terms()
        reader = UserInput(self._schema, index, kind, target_hits, is_total, distance, terms)
        return reader.item(text, may_be_empty=may_be_empty)

    def _nearest(self, call: Call) -> Item:
        get = self._lookup.scope.get
        field, name = (self._lookup.field_name(each) for each in call.arguments)
        rest = "".join(
            f",{each}={value}" for each in _HNSW if (value := get(each, None)) is not None
        )
        return Nearest(
            field,
            name,
            get("targetHits", get("targetNumHits", None)),
            get("totalTargetHits", None),
            float(get("distanceThreshold", math.inf)),
            get("approximate", True),
            get("label", None),
            rest,
        )
