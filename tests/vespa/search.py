"""The search of one schema: builds the query, matches, ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.vespa.building import Builder
from tests.vespa.coverage import View
from tests.vespa.inputs import read_inputs
from tests.vespa.items import Item, Nearest, Without, children_of, without_empty
from tests.vespa.matching import Matcher
from tests.vespa.model import ContentCluster, RankProfile, Schema, Tensor, TensorType
from tests.vespa.postings import Index
from tests.vespa.query_errors import ILLEGAL_QUERY, INVALID_PARAMETER, NULL_QUERY, QueryError
from tests.vespa.query_parameters import Parameters
from tests.vespa.rank_profiles import resolve_profile
from tests.vespa.rank_tensors import RankValue
from tests.vespa.ranking import Ranking, check_order, sorted_by
from tests.vespa.scoring import Scorer
from tests.vespa.yql_tree import Node, Order


@dataclass(frozen=True, slots=True)
class Target:
    """A schema that the query goes to, and the cluster that has its documents."""

    schema: Schema
    cluster: ContentCluster


@dataclass(frozen=True, slots=True)
class Request:
    """What the parts of a search need to know of the request; *where* is None for a query without YQL."""

    parameters: Parameters
    where: Node | None
    order: tuple[Order, ...]
    hits: int
    offset: int
    computes_unmatched: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """What one schema's search found: *best* holds numbers and scores, best first."""

    target: Target
    index: Index
    item: Item
    ranking: Ranking
    profile: RankProfile
    matched: set[int]
    best: list[tuple[int, float]]


def build_item(request: Request, target: Target, others: Sequence[Schema]) -> Item:
    """Make the query for one schema.

    Raises:
        QueryError: it cannot be made.
    """
    builder = Builder(target.schema, request.parameters.texts, others)
    if request.where is None:
        return builder.query(request.parameters.text("model.queryString") or "")
    item = without_empty(builder.item(request.where))
    if item is None:
        raise QueryError(NULL_QUERY, "No query")
    return item


def profile_of(request: Request, target: Target) -> RankProfile:
    """The rank profile that is asked for.

    Raises:
        QueryError: the schema does not have it.
    """
    name = request.parameters.text("ranking.profile") or "default"
    profile = resolve_profile(target.schema, name)
    if profile is None:
        raise QueryError(
            INVALID_PARAMETER,
            f"schema '{target.schema.name}' does not contain requested rank profile '{name}'",
            target.cluster.id,
        )
    return profile


def inputs_of(request: Request, profile: RankProfile) -> dict[str, RankValue]:
    """The inputs in the request, as the profile declares them."""
    return read_inputs(profile, request.parameters.inputs())


def search(
    request: Request,
    target: Target,
    index: Index,
    view: View,
    item: Item,
    profile: RankProfile,
    inputs: Mapping[str, RankValue],
) -> Found:
    """Match and rank.

    Raises:
        QueryError: the vectors do not fit, or the order is refused.
    """
    check_order(profile, index, request.order)
    for nearest in _all_nearest(item):
        _check_nearest(nearest, target.schema, inputs)
    tensors = {name: value for name, value in inputs.items() if isinstance(value, Tensor)}
    matcher = Matcher(index, tensors, view.node_of, view.nodes)
    matched = matcher.match(item, view.visible)
    scorer = Scorer(profile, item, matcher, inputs, computes_unmatched=request.computes_unmatched)
    rerank_count = request.parameters.optional_count("ranking.globalPhase.rerankCount")
    ranking = Ranking(profile, scorer, index, view.node_of, rerank_count)
    wanted = request.hits + request.offset
    best = ranking.best(matched, wanted)
    if request.order:
        best = sorted_by(index, request.order, ranking.first)[:wanted]
    return Found(target, index, item, ranking, profile, matched, best)


def _all_nearest(item: Item) -> list[Nearest]:
    if isinstance(item, Nearest):
        return [item]
    children = children_of(item)
    if isinstance(item, Without):
        children += item.unwanted
    return [found for child in children for found in _all_nearest(child)]


def _check_nearest(item: Nearest, schema: Schema, inputs: Mapping[str, RankValue]) -> None:
    problem = _problem(item, schema, inputs)
    if problem is not None:
        raise QueryError(ILLEGAL_QUERY, f"{item} {problem}")


def _problem(item: Nearest, schema: Schema, inputs: Mapping[str, RankValue]) -> str | None:
    if (item.target_hits is None) == (item.total_target_hits is None):
        return "must have either targetHits or totalTargetHits set"
    for name, value in (
        ("targetHits", item.target_hits),
        ("totalTargetHits", item.total_target_hits),
    ):
        if value is not None and value < 1:
            return f"has invalid {name} {value}: Must be >= 1"
    value = inputs.get(item.name)
    if not isinstance(value, Tensor):
        return f"requires a tensor rank feature named 'query({item.name})' but this is not present"
    field = schema.fields.get(item.field)
    if field is None or not field.is_attribute:
        return "field is not an attribute"
    kind = field.type
    if not isinstance(kind, TensorType):
        return "field is not a tensor"
    if len(kind.indexed) != 1 or len(kind.mapped) > 1:
        return f"tensor type {kind} is not a dense vector"
    if value.type.mapped or value.type.indexed != kind.indexed:
        return f"field type {kind} does not match query type {value.type}"
    if field.distance_metric == "geodegrees":
        return "uses the distance metric 'geodegrees', which is not supported by this server"
    return None
