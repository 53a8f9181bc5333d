"""A store, a schema and queries on it, for tests of the stand-in's search without its transport."""

from __future__ import annotations

import json
from typing import Any

from tests.vespa.model import (
    Application,
    ContainerCluster,
    ContentCluster,
    ContentNode,
    DocumentId,
    Schema,
    SearchRequest,
)
from tests.vespa.query import answer
from tests.vespa.schema import parse_schema
from tests.vespa.store import Store
from tests.vespa.values import parse_value

PROFILES = """
rank-profile words inherits default {
  first-phase { expression: 2 * bm25(title) + bm25(body) }
  match-features: bm25(title) bm25(body)
}
rank-profile vectors {
  inputs { query(q) tensor<float>(x[2]) }
  first-phase { expression: closeness(field, vector) }
  match-features: closest(vector) distance(field,vector)
}
rank-profile fused inherits vectors {
  function lexical() { expression: bm25(body) }
  function semantic() { expression: closeness(field, vector) }
  first-phase { expression: semantic + 0.01 * lexical }
  global-phase {
    expression: reciprocal_rank_fusion(lexical, semantic)
    rerank-count: 3
  }
  match-features: lexical semantic
}
rank-profile twice {
  function scaled(x) { expression: x * query(factor) + offset }
  constants { offset: 1 }
  inputs { query(factor) double }
  first-phase { expression: attribute(year) }
  second-phase {
    expression: scaled(-firstPhase)
    rerank-count: 2
  }
}
rank-profile linear {
  first-phase { expression: attribute(year) }
  global-phase { expression: normalize_linear(attribute(year)) + reciprocal_rank(attribute(year), 9) }
}
rank-profile chunks {
  first-phase { expression: reduce(elementwise(bm25(body), chunk, float), max) }
  match-features: elementwise(bm25(body),chunk,float)
}
"""
FIELDS = """
field title type string {
  indexing: summary | index
  index: enable-bm25
}
field body type array<string> {
  indexing: summary | index
  index: enable-bm25
}
field acl type array<string> {
  indexing: attribute
  match: cased
}
field plain type string { indexing: index }
field dense type tensor<float>(x[2]) { indexing: attribute }
field tag type string { indexing: summary | attribute }
field year type int { indexing: summary | attribute }
field weights type weightedset<string> { indexing: attribute }
field vector type tensor<float>(part{}, x[2]) {
  indexing: attribute
  attribute { distance-metric: euclidean }
}
"""


def schema_with(profiles: str = PROFILES, fields: str = FIELDS) -> Schema:
    return parse_schema(
        f"schema doc {{\ndocument doc {{\n{fields}\n}}\nfieldset default {{ fields: title, body }}\n{profiles}\n}}"
    )


class Rig:
    """A store with one schema, and queries on it."""

    def __init__(
        self, schema: Schema | None = None, groups: tuple[tuple[int, ...], ...] = ((0,),)
    ) -> None:
        self.schema = schema or schema_with()
        self.store = Store()
        nodes = tuple(ContentNode(f"h{key}", key) for group in groups for key in group)
        cluster = ContentCluster("docs", {"doc": "index"}, nodes, groups, 1)
        container = ContainerCluster("default", ("h",), has_search=True, has_document_api=True)
        self.application = Application({}, {"doc": self.schema}, (cluster,), (container,))

    def put(self, name: str, **fields: Any) -> None:
        values = {
            key: parse_value(self.schema.fields[key].type, value) for key, value in fields.items()
        }
        self.store.put(DocumentId("ns", "doc", name), values)

    def ask(self, where: str, **parameters: Any) -> dict[str, Any]:
        given = {"yql": f"select * from doc where {where}"} | parameters
        request = SearchRequest("POST", "", "application/json", json.dumps(given).encode())
        return json.loads(answer(request, self.application, self.store).body)["root"]

    def names(self, where: str, **parameters: Any) -> list[str]:
        root = self.ask(where, **parameters)
        assert "errors" not in root, root["errors"]
        return [each["id"].rpartition(":")[2] for each in root.get("children", [])]


def input_of(*values: float) -> dict[str, Any]:
    return {"input": {"query(q)": list(values)}}


def near(rig: Rig) -> None:
    rig.put("1", vector={"a": [0.0, 1.0], "b": [9.0, 9.0]}, body=["word"])
    rig.put("2", vector={"a": [0.0, 3.0]})
    rig.put("3", vector={"a": [0.0, 2.0]}, year=7)
    rig.put("4", body=["word word"])
