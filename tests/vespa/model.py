"""What the parts of the stand-in share: types, tensors, schemas, clusters, applications, requests, answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

CELL_TYPES = ("double", "float", "bfloat16", "int8")
PRIMITIVES = frozenset({"string", "int", "long", "float", "double", "bool", "byte", "raw"})
DEGRADED_FLAGS = ("match-phase", "timeout", "adaptive-timeout", "anntimeout", "non-ideal-state")
"""The keys of ``coverage.degraded`` in an answer."""

_TENSOR = re.compile(r"\s*tensor\s*(?:<\s*(\w+)\s*>)?\s*\(\s*(.*?)\s*\)\s*\Z", re.DOTALL)
_DIMENSION = re.compile(r"([A-Za-z_]\w*)\s*(?:\{\s*\}|\[\s*(\d+)\s*\])\Z")


class TensorTypeError(ValueError):
    """A text is no tensor type."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor type: the mapped and the indexed dimensions, each sorted by name."""

    cell: str
    mapped: tuple[str, ...]
    indexed: tuple[tuple[str, int], ...]

    @property
    def block_size(self) -> int:
        """The number of cells of one dense block; 1 without indexed dimensions."""
        size = 1
        for _, length in self.indexed:
            size *= length
        return size

    def __str__(self) -> str:
        """The type as the server writes it: ``double`` is not named, dimensions are sorted by name."""
        cell = "" if self.cell == "double" else f"<{self.cell}>"
        dimensions = [(name, "{}") for name in self.mapped]
        dimensions += [(name, f"[{length}]") for name, length in self.indexed]
        return f"tensor{cell}({','.join(name + rest for name, rest in sorted(dimensions))})"


def parse_tensor_type(text: str) -> TensorType:
    """Parse ``tensor<float>(chunk{},x[384])``.

    Raises:
        TensorTypeError: *text* is no tensor type, or names a dimension twice.
    """
    match = _TENSOR.match(text)
    if match is None:
        raise TensorTypeError(f"Illegal tensor type spec: '{text.strip()}'")
    cell = match[1] or "double"
    if cell not in CELL_TYPES:
        raise TensorTypeError(f"Illegal tensor type spec: '{text.strip()}': cell type '{cell}'")
    mapped: list[str] = []
    indexed: list[tuple[str, int]] = []
    for part in match[2].split(",") if match[2] else []:
        dimension = _DIMENSION.match(part.strip())
        if dimension is None or dimension[2] == "0":
            raise TensorTypeError(f"Illegal tensor type spec: '{text.strip()}': '{part.strip()}'")
        if dimension[2] is None:
            mapped.append(dimension[1])
        else:
            indexed.append((dimension[1], int(dimension[2])))
    names = [*mapped, *(name for name, _ in indexed)]
    if len(set(names)) != len(names):
        raise TensorTypeError(f"Illegal tensor type spec: '{text.strip()}': a dimension twice")
    return TensorType(cell, tuple(sorted(mapped)), tuple(sorted(indexed)))


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor's cells, as dense blocks in row-major order.

    The key of a block holds the labels of the mapped dimensions, in the type's order: ``()`` for a dense
    tensor. Without indexed dimensions each block has one cell. The values are rounded to the cell type.
    """

    type: TensorType
    cells: Mapping[tuple[str, ...], tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class ArrayOf:
    """``array<element>`` of a primitive type."""

    element: str

    def __str__(self) -> str:
        """The type as the server writes it."""
        return f"Array<{self.element}>"


@dataclass(frozen=True, slots=True)
class WeightedSetOf:
    """``weightedset<element>`` of a primitive type; a value is a dict of weights."""

    element: str

    def __str__(self) -> str:
        """The type as the server writes it."""
        return f"WeightedSet<{self.element}>"


FieldType: TypeAlias = str | ArrayOf | WeightedSetOf | TensorType
"""A primitive type is its name, one of `PRIMITIVES`."""
Value: TypeAlias = str | int | float | bool | list[Any] | dict[Any, int] | Tensor
"""A field's value: raw is base64 text; byte, int and long are int; a weighted set maps its elements to weights."""
Expression: TypeAlias = Any
"""What `expressions.parse_expression` returns."""


@dataclass(frozen=True, slots=True)
class Hnsw:
    """The settings of the graph index of a tensor field."""

    max_links_per_node: int = 16
    neighbors_to_explore_at_insert: int = 200


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a document type."""

    name: str
    type: FieldType
    indexing: frozenset[str]
    """Of ``attribute``, ``index`` and ``summary``."""
    match: Literal["text", "word", "exact"] = "text"
    """How terms are made: ``text`` tokenises; strings that are only attributes are ``word``."""
    is_cased: bool = False
    is_fast_search: bool = False
    distance_metric: str = "euclidean"
    is_bm25: bool = False
    hnsw: Hnsw | None = None
    is_filter: bool = False
    """``rank: filter``."""
    is_dynamic: bool = False
    """``summary: dynamic``."""
    is_bold: bool = False
    """``bolding: on``."""
    stemming: str = "best"
    normalizing: str = "accents"
    max_length: int = 1_000_000

    @property
    def is_attribute(self) -> bool:
        """Whether the field is held in memory."""
        return "attribute" in self.indexing

    @property
    def is_index(self) -> bool:
        """Whether the field is indexed: as text, or as a graph for a tensor."""
        return "index" in self.indexing

    @property
    def is_summary(self) -> bool:
        """Whether the field is in the default summary."""
        return "summary" in self.indexing


@dataclass(frozen=True, slots=True)
class Fieldset:
    """Fields that are searched under one name."""

    name: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SummaryField:
    """A field of a summary class; *source* is a field's name or ``documentid``."""

    name: str
    source: str
    is_dynamic: bool = False
    is_bold: bool = False


@dataclass(frozen=True, slots=True)
class SummaryClass:
    """A ``document-summary``; what it inherits is in *fields* already."""

    name: str
    fields: tuple[SummaryField, ...]
    inherits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a rank profile."""

    name: str
    parameters: tuple[str, ...]
    expression: Expression


@dataclass(frozen=True, slots=True)
class RankProfile:
    """A rank profile as it is written: what it inherits from *inherits* is not merged into it."""

    name: str
    inherits: tuple[str, ...] = ()
    inputs: Mapping[str, TensorType | Literal["double"]] = field(default_factory=dict[str, Any])
    """By the name within ``query(...)``."""
    functions: Mapping[str, Function] = field(default_factory=dict[str, Function])
    constants: Mapping[str, float] = field(default_factory=dict[str, float])
    first_phase: Expression | None = None
    second_phase: Expression | None = None
    second_phase_rerank_count: int | None = None
    global_phase: Expression | None = None
    global_phase_rerank_count: int | None = None
    match_features: tuple[str, ...] | None = None
    """Feature texts without inner spaces, such as ``bm25(title)``; None when not given."""
    summary_features: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema and its document type, which has the same name.

    The profiles ``default`` (nativeRank) and ``unranked`` exist in every schema without being in *rank_profiles*.
    """

    name: str
    fields: Mapping[str, Field]
    fieldsets: Mapping[str, Fieldset]
    summaries: Mapping[str, SummaryClass]
    rank_profiles: Mapping[str, RankProfile]


@dataclass(frozen=True, slots=True)
class ContentNode:
    """A node of a content cluster."""

    host: str
    distribution_key: int


@dataclass(frozen=True, slots=True)
class ContentCluster:
    """A content cluster: *groups* holds the distribution keys of the nodes of each group (one group when flat)."""

    id: str
    document_types: Mapping[str, str]
    """The mode by document type: ``index``, ``streaming`` or ``store-only``."""
    nodes: tuple[ContentNode, ...]
    groups: tuple[tuple[int, ...], ...]
    redundancy: int


@dataclass(frozen=True, slots=True)
class ContainerCluster:
    """A container cluster; *query_timeout* in seconds, None when not given."""

    id: str
    hosts: tuple[str, ...]
    has_search: bool
    has_document_api: bool
    query_timeout: float | None = None
    ignores_undefined_fields: bool = False


@dataclass(frozen=True, slots=True)
class QueryProfile:
    """The limits that a query profile sets."""

    name: str
    hits_max: int = 400
    offset_max: int = 1_000


@dataclass(frozen=True, slots=True)
class Override:
    """An ``allow`` of validation-overrides.xml; *until* is a date (UTC)."""

    validation_id: str
    until: str


@dataclass(frozen=True, slots=True)
class Application:
    """A package and what was read from it."""

    files: Mapping[str, bytes]
    schemas: Mapping[str, Schema]
    content: tuple[ContentCluster, ...]
    containers: tuple[ContainerCluster, ...]
    hosts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Host names by alias."""
    overrides: tuple[Override, ...] = ()
    query_profiles: Mapping[str, QueryProfile] = field(default_factory=dict[str, QueryProfile])
    generation: int = 0

    def cluster_of(self, document_type: str) -> ContentCluster | None:
        """The content cluster that holds *document_type*."""
        return next((each for each in self.content if document_type in each.document_types), None)


@dataclass(frozen=True, slots=True)
class DocumentId:
    """A document id; *user_specific* is the last part, *group* and *number* the optional location."""

    namespace: str
    type: str
    user_specific: str
    group: str | None = None
    number: int | None = None

    def __str__(self) -> str:
        """The id in full: ``id:namespace:type::user-specific``."""
        location = ""
        if self.number is not None:
            location = f"n={self.number}"
        elif self.group is not None:
            location = f"g={self.group}"
        return f"id:{self.namespace}:{self.type}:{location}:{self.user_specific}"


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """A request to ``/search/`` as it came: merging the body's and the address's parameters is query.py's work."""

    method: str
    query: str
    """The raw query string, without ``?``."""
    content_type: str
    body: bytes
    """Already decompressed."""
    accept: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is sent whole."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Degradation:
    """What is wrong with one search, as ``faults.degradation()`` returns it; the default is nothing."""

    flags: frozenset[str] = frozenset()
    """Of `DEGRADED_FLAGS`, to be shown as true; others of them are shown as false when one is true."""
    coverage: int | None = None
    """The percentage to report; the share of documents that is searched, too, unless nodes are lost."""
    lost_nodes: frozenset[int] = frozenset()
    """Distribution keys of nodes that do not answer: their documents are not searched (see `Store.node_of`)."""
    reports_full: bool = False
    """The false 100 of the specification: with lost nodes ``coverage`` 100 and ``full`` true, ``nodes`` is right."""
    errors: tuple[tuple[int, str], ...] = ()
    """Codes and messages to put into ``root.errors`` beside the hits."""
