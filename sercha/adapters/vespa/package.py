"""The application package: what is deployed to Vespa's config servers.

One Vespa document per document. Its words are tokens already (see `sercha.adapters.vespa.tokens`), so nothing here is
stemmed or normalised. A field of vectors is added for each embedding model; the others stay as they are, so that a new
model, of another dimension too, needs no re-feeding before the old one is given up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import quoteattr

from sercha.adapters.vespa.names import (
    CHUNK_SCORES,
    CLUSTER,
    DOCUMENT,
    PART_FIELDS,
    POSITION,
    QUERY_PROFILE,
    SUMMARY,
    TEXT_FIELDS,
    TEXT_PROFILE,
    vector_profile,
    vectors_field,
)
from sercha.domain.query import LIMIT_MAX, WINDOW_MAX

TEXT_CHARS_MAX = 20_000_000
"""More than the longest text has, spelled as tokens; beyond it Vespa would index nothing, without a word."""
QUERY_SECONDS_MAX = 30
TIE_STEP = "0.000000000001"
"""What tells documents of equal score apart, by their number: the order is the same each time."""

FUSED = 1_000
"""How many of the best in each of two orders take part when both are fused; the fused result reaches no further."""


@dataclass(frozen=True, slots=True)
class VectorField:
    """Vectors of one embedding model."""

    name: str
    """Of letters, digits and ``_``; names the field and the rank profiles."""
    dimensions: int

    @property
    def field(self) -> str:
        """The field of the document type."""
        return vectors_field(self.name)

    @property
    def tensor(self) -> str:
        """The type of one vector."""
        return f"tensor<float>(x[{self.dimensions}])"

    def profile(self, mode: str) -> str:
        """The rank profile for searches in *mode*, ``semantic`` or ``hybrid``."""
        return vector_profile(mode, self.name)


@dataclass(frozen=True, slots=True)
class Node:
    """A host of a cluster of several."""

    host: str
    is_config: bool = False
    is_container: bool = False
    is_content: bool = False


def make_package(
    vectors: Sequence[VectorField] = (), nodes: Sequence[Node] = (), *, cluster: str = CLUSTER
) -> dict[str, bytes]:
    """Return the files of a whole application, by path; without *nodes* for a single host."""
    files = {
        "services.xml": _services(nodes, cluster),
        f"schemas/{DOCUMENT}.sd": document_schema(vectors),
        f"schemas/{POSITION}.sd": POSITION_SCHEMA,
        f"search/query-profiles/{QUERY_PROFILE}.xml": QUERY_PROFILE_FILE,
    }
    if nodes:
        files["hosts.xml"] = _hosts(nodes)
    return {path: text.encode() for path, text in files.items()}


def vector_fields_of(schema: str) -> list[VectorField]:
    """Return the fields of vectors that a schema of ours has, of whatever version."""
    found = re.findall(r"field vectors_(\w+) type tensor<float>\(chunk\{\}, ?x\[(\d+)\]\)", schema)
    return [VectorField(name, int(dimensions)) for name, dimensions in found]


QUERY_PROFILE_FILE = f"""\
<query-profile id="{QUERY_PROFILE}">
  <field name="maxHits">{max(LIMIT_MAX, 400)}</field>
  <field name="maxOffset">{WINDOW_MAX}</field>
</query-profile>
"""

POSITION_SCHEMA = f"""\
# How far a generation of the index has followed the change feed.
schema {POSITION} {{
  document {POSITION} {{
    field generation type string {{
      indexing: summary | attribute
      match: cased
    }}
    field place type long {{
      indexing: summary | attribute
    }}
    field position type string {{
      indexing: summary
    }}
  }}
}}
"""


def document_schema(vectors: Sequence[VectorField]) -> str:
    """Return the schema of documents, with a field and two rank profiles for each of *vectors*."""
    fields = [
        _exact("generation", "string", is_filter=True),
        _number("number", is_searched=True),
        _number("version"),
        _number("revision"),
        _number("deleted", is_searched=True),
        _number("deleted_at"),
        _number("chunk_count"),
        _number("modified", is_searched=True),
        _exact("source", "string", is_filter=True),
        _exact("types", "array<string>", is_filter=True),
        _exact("folders", "array<string>", is_filter=True),
        _exact("readers", "array<string>", is_filter=True),
        *(_text(name, "string") for name in (*TEXT_FIELDS, *PART_FIELDS, "fragments")),
        _text("chunk_words", "array<string>"),
        *(_vectors(each) for each in vectors),
    ]
    profiles = [_text_profile(), *(_vector_profiles(each) for each in vectors)]
    return f"""\
# One document of Sercha: its words, and what it is filtered and ordered by. Made by Sercha; changes are overwritten.
schema {DOCUMENT} {{
  document {DOCUMENT} {{
{"".join(fields)}  }}
  fieldset text_words {{ fields: {", ".join(TEXT_FIELDS)} }}
  fieldset text_parts {{ fields: {", ".join(PART_FIELDS)} }}
  document-summary {SUMMARY} {{
    summary number {{}}
  }}
{"".join(profiles)}}}
"""


def _exact(name: str, kind: str, *, is_filter: bool) -> str:
    lines = ["indexing: attribute", "match: cased", "attribute: fast-search"]
    return _field(name, kind, [*lines, "rank: filter"] if is_filter else lines)


def _number(name: str, *, is_searched: bool = False) -> str:
    lines = ["indexing: summary | attribute"]
    return _field(name, "long", [*lines, "attribute: fast-search"] if is_searched else lines)


def _text(name: str, kind: str) -> str:
    lines = ["indexing: index", "index: enable-bm25", "stemming: none", "normalizing: none"]
    return _field(name, kind, [*lines, f"match {{ max-length: {TEXT_CHARS_MAX} }}"])


def _vectors(vectors: VectorField) -> str:
    lines = [
        "indexing: attribute | index",
        "attribute { distance-metric: angular }",
        "index {",
        "  hnsw {",
        "    max-links-per-node: 16",
        "    neighbors-to-explore-at-insert: 200",
        "  }",
        "}",
    ]
    return _field(vectors.field, f"tensor<float>(chunk{{}}, x[{vectors.dimensions}])", lines)


def _field(name: str, kind: str, lines: Sequence[str]) -> str:
    inner = "".join(f"      {line}\n" for line in lines)
    return f"    field {name} type {kind} {{\n{inner}    }}\n"


def _text_profile() -> str:
    # The same order of weights as in the embedded engine: title, words, parts, path, fragments.
    return f"""\
  rank-profile {TEXT_PROFILE} {{
    function words_score() {{
      expression: 2.5 * bm25(title_words) + bm25(words) + 0.5 * bm25(path_words)
    }}
    function parts_score() {{
      expression: 0.8 * bm25(title_parts) + 0.4 * bm25(parts) + 0.2 * bm25(path_parts) + 0.2 * bm25(fragments)
    }}
    function text_score() {{
      expression: words_score + parts_score
    }}
    function tie() {{
      expression: {TIE_STEP} * attribute(number)
    }}
    function {CHUNK_SCORES}() {{
      expression: elementwise(bm25(chunk_words), chunk, float)
    }}
    first-phase {{
      expression: text_score - tie
    }}
    match-features: {CHUNK_SCORES}
  }}
"""


def _vector_profiles(vectors: VectorField) -> str:
    closest = f"closest({vectors.field})"
    return f"""\
  rank-profile {vectors.profile("semantic")} inherits {TEXT_PROFILE} {{
    inputs {{
      query(vector) {vectors.tensor}
    }}
    function vector_score() {{
      expression: closeness(field, {vectors.field})
    }}
    first-phase {{
      expression: vector_score - tie
    }}
    match-features: {closest}
  }}
  rank-profile {vectors.profile("hybrid")} inherits {vectors.profile("semantic")} {{
    first-phase {{
      expression: vector_score + 0.02 * text_score - tie
    }}
    global-phase {{
      expression: if (text_score > 0, reciprocal_rank(text_score), 0) + if (vector_score > 0, reciprocal_rank(vector_score), 0) - 0.001 * tie
      rerank-count: {FUSED}
    }}
    match-features: {CHUNK_SCORES} text_score vector_score tie {closest}
  }}
"""


def _services(nodes: Sequence[Node], cluster: str) -> str:
    names = {node.host: f"node{number}" for number, node in enumerate(nodes)}
    config = [names[node.host] for node in nodes if node.is_config]
    containers = [names[node.host] for node in nodes if node.is_container]
    content = [names[node.host] for node in nodes if node.is_content]
    return f"""\
<?xml version="1.0" encoding="UTF-8"?>
<services version="1.0">
{_admin(config)}  <container id="default" version="1.0">
    <document-api/>
    <document-processing/>
    <search>
      <query-timeout>{QUERY_SECONDS_MAX}</query-timeout>
    </search>
    <nodes>
{_container_nodes(containers)}    </nodes>
  </container>
  <content id={quoteattr(cluster)} version="1.0">
    <min-redundancy>{max(1, len(content))}</min-redundancy>
    <documents>
      <document type="{DOCUMENT}" mode="index"/>
      <document type="{POSITION}" mode="index"/>
      <document-processing cluster="default"/>
    </documents>
{_content_nodes(content)}  </content>
</services>
"""


def _admin(config: Sequence[str]) -> str:
    if not config:
        return ""
    servers = "".join(f'      <configserver hostalias="{name}"/>\n' for name in config)
    controllers = "".join(f'      <cluster-controller hostalias="{name}"/>\n' for name in config)
    brokers = "".join(f'      <slobrok hostalias="{name}"/>\n' for name in config)
    return (
        '  <admin version="2.0">\n'
        f"    <configservers>\n{servers}    </configservers>\n"
        f"    <cluster-controllers>\n{controllers}    </cluster-controllers>\n"
        f"    <slobroks>\n{brokers}    </slobroks>\n"
        f'    <adminserver hostalias="{config[0]}"/>\n'
        "  </admin>\n"
    )


def _container_nodes(names: Sequence[str]) -> str:
    return "".join(f'      <node hostalias="{name}"/>\n' for name in names or ["node0"])


def _content_nodes(names: Sequence[str]) -> str:
    """Write one group per node: each holds everything, so that the loss of one loses no answer."""
    if len(names) < 2:
        name = names[0] if names else "node0"
        return f'    <nodes>\n      <node hostalias="{name}" distribution-key="0"/>\n    </nodes>\n'
    groups = "".join(
        f'      <group name="group{key}" distribution-key="{key}">\n'
        f'        <node hostalias="{name}" distribution-key="{key}"/>\n'
        "      </group>\n"
        for key, name in enumerate(names)
    )
    partitions = "|".join(["1"] * (len(names) - 1) + ["*"])
    return (
        f'    <group name="all">\n      <distribution partitions="{partitions}"/>\n{groups}    </group>\n'
        f"    <engine><proton><searchable-copies>{len(names)}</searchable-copies></proton></engine>\n"
        "    <tuning><dispatch><min-active-docs-coverage>97</min-active-docs-coverage></dispatch></tuning>\n"
    )


def _hosts(nodes: Sequence[Node]) -> str:
    lines = "".join(
        f"  <host name={quoteattr(node.host)}><alias>node{number}</alias></host>\n"
        for number, node in enumerate(nodes)
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<hosts>\n{lines}</hosts>\n'
