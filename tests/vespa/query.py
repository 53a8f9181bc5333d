"""Answers ``/search/``.

Every schema of the query is searched for itself, with its own rank profile; a schema that cannot be searched
leaves an error beside the hits of the others. Time is not simulated: ``timeout`` is read, checked and bounded by
the container cluster's, and a query without any time left fails, but a slow search is not cut short. The fault
``degraded`` with the flag ``timeout`` does that.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.vespa.coverage import View, render_coverage, view_of
from tests.vespa.expressions import ExpressionError
from tests.vespa.faults import Faults
from tests.vespa.grouping import (
    Grouping,
    check_attribute,
    parse_grouping,
    render_groupings,
    values_of,
)
from tests.vespa.model import Answer, Application, Degradation, Schema, SearchRequest
from tests.vespa.postings import index_of
from tests.vespa.query_errors import (
    ILLEGAL_QUERY,
    INVALID_PARAMETER,
    MISCONFIGURED,
    NO_BACKENDS,
    NULL_QUERY,
    TIMED_OUT,
    QueryError,
    YqlError,
    status_of,
)
from tests.vespa.query_parameters import (
    HITS_DEFAULT,
    read_parameters,
)
from tests.vespa.query_profiles import with_default
from tests.vespa.ranking import sort_key
from tests.vespa.rendering import render, render_hit
from tests.vespa.search import (
    Found,
    Request,
    Target,
    build_item,
    inputs_of,
    profile_of,
    search,
)
from tests.vespa.searchable import element_of
from tests.vespa.store import Store
from tests.vespa.summaries import (
    attribute_summary,
    feature_fields,
    summary_class,
    summary_fields,
)
from tests.vespa.yql import parse_yql
from tests.vespa.yql_lexer import YqlSyntaxError
from tests.vespa.yql_tree import GroupingText, Order, Parameter, Statement


def answer(
    request: SearchRequest,
    application: Application | None,
    store: Store,
    faults: Faults | None = None,
    *,
    container: int | None = None,
    computes_unmatched: bool = True,
) -> Answer:
    """Answer one request to *container*; *computes_unmatched* is explained at `scoring.Scorer`."""
    degradation = Degradation()
    if faults is not None:
        degradation = faults.degradation(request.method, container=container)
    try:
        if application is None:
            raise QueryError(NO_BACKENDS, "No application is deployed")
        return _Query(request, application, store, degradation, computes_unmatched).answer()
    except QueryError as error:
        return render(status_of([error], has_filled_hits=False), 0, errors=[error])


@dataclass(slots=True)
class _Results:
    found: list[Found]
    views: dict[str, list[View]]
    errors: list[QueryError]


class _Query:
    def __init__(
        self,
        request: SearchRequest,
        application: Application,
        store: Store,
        degradation: Degradation,
        computes_unmatched: bool,
    ) -> None:
        self._started = time.perf_counter()
        self._application = application
        self._store = store
        self._degradation = degradation
        self._parameters = read_parameters(request, with_default(application.query_profiles))
        self._computes_unmatched = computes_unmatched
        self._statement: Statement | None = None

    def answer(self) -> Answer:
        hits, offset = self._parameters.hits(), self._parameters.offset()
        tensors = self._parameters.tensor_format()
        self._check_timeout()
        request = self._request(hits, offset)
        groupings, continuations = self._groupings()
        targets = self._targets()
        results = self._search(request, targets)
        if not results.found and results.errors:
            status = status_of(results.errors, has_filled_hits=False)
            return render(status, 0, errors=results.errors)
        matched = time.perf_counter()
        children: list[dict[str, Any]] = []
        if groupings:
            children.append(self._grouped(results.found, groupings, continuations))
        shown = _merged(results.found, request.order)[request.offset :][: request.hits]
        is_filled = False
        for found, number, score in shown:
            hit, error = self._hit(found, number, score, tensors)
            is_filled = is_filled or "fields" in hit
            children.append(hit)
            if error is not None and all(each.message != error.message for each in results.errors):
                results.errors.append(error)
        errors = [*results.errors, *(QueryError(*each) for each in self._degradation.errors)]
        return render(
            status_of(errors, has_filled_hits=is_filled),
            sum(len(each.matched) for each in results.found),
            coverage=render_coverage(results.views, self._degradation),
            errors=errors,
            children=children,
            timing=self._timing(matched),
            trace=self._trace(targets),
        )

    # The request

    def _check_timeout(self) -> None:
        container = next((each for each in self._application.containers if each.has_search), None)
        if container is None:
            raise QueryError(NO_BACKENDS, "No container cluster has search")
        timeout = self._parameters.timeout(container.query_timeout)
        if timeout <= 0:
            raise QueryError(
                TIMED_OUT, f"No time left after waiting for {timeout * 1000:.0f}ms to execute query"
            )

    def _request(self, hits: int, offset: int) -> Request:
        yql = self._parameters.text("yql")
        order = _parse_sorting(self._parameters.text("ranking.sorting") or "")
        if yql is None:
            if not self._parameters.text("model.queryString"):
                raise QueryError(NULL_QUERY, "No query")
            where = None
        else:
            try:
                statement = self._statement = parse_yql(yql)
            except YqlSyntaxError as error:
                raise YqlError(str(error)) from error
            hits, offset = self._limits(statement, hits, offset)
            where, order = statement.where, statement.order or order
        return Request(self._parameters, where, order, hits, offset, self._computes_unmatched)

    def _limits(self, statement: Statement, hits: int, offset: int) -> tuple[int, int]:
        """The limits in YQL, where ``limit`` is the place after the last hit, not a number of hits."""
        limit, start = self._whole(statement.limit), self._whole(statement.offset)
        timeout = self._whole(statement.timeout)
        if timeout is not None and timeout < 1:
            raise QueryError(TIMED_OUT, "No time left after waiting for 0ms to execute query")
        if limit is None and start is None:
            return hits, offset
        offset = start or 0
        hits = HITS_DEFAULT if limit is None else limit - offset
        profile = self._parameters.profile
        if offset > profile.offset_max:
            raise QueryError(
                INVALID_PARAMETER,
                f"Requested offset {offset}, but the max offset allowed is {profile.offset_max}.",
            )
        if hits > profile.hits_max:
            raise QueryError(
                INVALID_PARAMETER,
                f"Requested {hits} hits returned, but max hits allowed is {profile.hits_max}.",
            )
        if hits < 0 or offset < 0:
            raise YqlError(f"The limit {limit} is before the offset {offset}")
        return hits, offset

    def _whole(self, value: int | Parameter | None) -> int | None:
        if not isinstance(value, Parameter):
            return value
        text = self._parameters.text(value.name)
        if text is None:
            raise YqlError(f"Input '{value.name}' is not set")
        try:
            return int(text)
        except ValueError as error:
            raise YqlError(f'For input string: "{text}"') from error

    def _groupings(self) -> tuple[tuple[Grouping, ...], list[str]]:
        if self._statement is None:
            return (), []
        written = list(self._statement.groupings)
        if len(written) > 1:
            raise YqlError("More than one grouping operation is not supported by this server")
        groupings = [grouping for each in written for grouping in parse_grouping(each.text)]
        return tuple(groupings), [text for each in written for text in self._continuations(each)]

    def _continuations(self, written: GroupingText) -> list[str]:
        continuations: list[str] = []
        for each in written.continuations:
            name = each.name if isinstance(each, Parameter) else ""
            text = self._parameters.text(name) if isinstance(each, Parameter) else each
            if text is None:
                raise YqlError(f"Input '{name}' is not set")
            continuations.append(text)
        return continuations

    def _targets(self) -> list[Target]:
        """The schemas that the query goes to, by sources in YQL, ``sources`` and ``restrict``."""
        targets = [
            Target(schema, cluster)
            for schema in self._application.schemas.values()
            if (cluster := self._application.cluster_of(schema.name)) is not None
        ]
        if not targets:
            raise QueryError(NO_BACKENDS, "No content cluster has documents")
        sources = list(self._statement.sources) if self._statement else []
        for names in (sources, self._parameters.names("model.sources")):
            if names:
                targets = [each for each in targets if _is_of(each, names)]
        self._check_sources([*sources, *self._parameters.names("model.sources")])
        restrict = self._parameters.names("model.restrict")
        for name in restrict:
            if name not in self._application.schemas:
                raise QueryError(
                    INVALID_PARAMETER, f"Could not find the schema '{name}' in restrict"
                )
        if restrict:
            targets = [each for each in targets if each.schema.name in restrict]
        if not targets:
            raise QueryError(INVALID_PARAMETER, "No schema is left of sources and restrict")
        return targets

    def _check_sources(self, names: Sequence[str]) -> None:
        clusters = [each.id for each in self._application.content]
        for name in names:
            if name not in clusters and name not in self._application.schemas:
                known = ", ".join(sorted({*clusters, *self._application.schemas}))
                raise QueryError(
                    INVALID_PARAMETER,
                    f"Could not resolve source ref '{name}'. Valid source refs are {known}.",
                )

    # The search

    def _search(self, request: Request, targets: Sequence[Target]) -> _Results:
        schemas: list[Schema] = [each.schema for each in targets]
        items = [
            build_item(request, each, [other for other in schemas if other is not each.schema])
            for each in targets
        ]
        self._check_soft_timeout()
        results = _Results([], {}, [])
        for target, item in zip(targets, items, strict=True):
            try:
                profile = profile_of(request, target)
                inputs = inputs_of(request, profile)
                index = index_of(self._store, target.schema)
                view = view_of(self._store, index, target.cluster, self._degradation)
                found = search(request, target, index, view, item, profile, inputs)
            except ExpressionError as error:
                results.errors.append(QueryError(MISCONFIGURED, str(error), target.cluster.id))
            except QueryError as error:
                if error.code == ILLEGAL_QUERY:
                    raise
                results.errors.append(error)
            else:
                results.found.append(found)
                results.views.setdefault(target.cluster.id, []).append(view)
        return results

    def _check_soft_timeout(self) -> None:
        is_soft = self._parameters.flag("ranking.softtimeout.enable", default=True)
        if not is_soft and "timeout" in self._degradation.flags:
            raise QueryError(TIMED_OUT, "Timed out: soft timeout is not enabled")

    def _grouped(
        self, found: Sequence[Found], groupings: Sequence[Grouping], continuations: Sequence[str]
    ) -> dict[str, Any]:
        types: dict[str, str] = {}
        counted: list[list[tuple[Any, float]]] = []
        for grouping in groupings:
            name = grouping.attribute
            values: list[tuple[Any, float]] = []
            for each in found:
                field = each.target.schema.fields.get(name)
                check_attribute(grouping, field, each.target.cluster.id)
                assert field is not None
                types[name] = element_of(field.type) or ""
                for number, score in each.ranking.first.items():
                    values += [
                        (value, score) for value in values_of(field, each.index.value(number, name))
                    ]
            counted.append(values)
        return render_groupings(groupings, counted, types, continuations)

    def _hit(
        self, found: Found, number: int, score: float, tensors: str
    ) -> tuple[dict[str, Any], QueryError | None]:
        schema, cluster = found.target.schema, found.target.cluster
        index_id = f"index:{cluster.id}/0/{found.index.gids[number]}"
        name = self._parameters.text("presentation.summary") or "default"
        summary = summary_class(schema, name)
        if summary is None:
            error = QueryError(INVALID_PARAMETER, f"Summary '{name}' does not exist")
            return render_hit(index_id, score, cluster.id, {}), error
        is_bold = self._parameters.flag("presentation.bolding", default=True)
        fields = summary_fields(found, summary, number, tensors, is_bold=is_bold)
        fields |= feature_fields(found, number, tensors)
        if self._statement and self._statement.fields:
            fields = self._selected(found, number, tensors, fields, is_bold=is_bold)
        return render_hit(fields.get("documentid", index_id), score, cluster.id, fields), None

    def _selected(
        self, found: Found, number: int, tensors: str, fields: dict[str, Any], *, is_bold: bool
    ) -> dict[str, Any]:
        """Only the fields after ``select``, also features; what the chosen summary lacks is added to it.

        That is from the attributes, when all that is wanted are such, and else from the default summary.
        """
        assert self._statement is not None
        wanted, schema = self._statement.fields, found.target.schema
        if not set(wanted) <= set(fields):
            summary = attribute_summary(schema, wanted) or summary_class(schema, "default")
            assert summary is not None
            fields = summary_fields(found, summary, number, tensors, is_bold=is_bold) | fields
        return {name: value for name, value in fields.items() if name in wanted}

    def _timing(self, matched: float) -> dict[str, float] | None:
        if not self._parameters.flag("presentation.timing", default=False):
            return None
        now = time.perf_counter()
        return {
            "querytime": round(matched - self._started, 3),
            "summaryfetchtime": round(now - matched, 3),
            "searchtime": round(now - self._started, 3),
        }

    def _trace(self, targets: Sequence[Target]) -> list[str]:
        if self._parameters.count("trace.level", 0) == 0:
            return []
        return [f"Searched schema '{each.schema.name}' in '{each.cluster.id}'" for each in targets]


def _is_of(target: Target, names: Sequence[str]) -> bool:
    return target.schema.name in names or target.cluster.id in names


def _merged(found: Sequence[Found], order: Sequence[Order]) -> list[tuple[Found, int, float]]:
    """The hits of all schemas in one order."""
    hits = [(each, number, score) for each in found for number, score in each.best]
    if len(found) < 2:
        return hits
    if not order:
        return sorted(hits, key=lambda hit: (-hit[2], hit[0].index.gids[hit[1]]))
    for each in reversed(order):
        keys = [sort_key(hit[0].index, each.field, hit[0].ranking.first)(hit[1]) for hit in hits]
        places = sorted(range(len(hits)), key=keys.__getitem__, reverse=each.is_descending)
        hits = [hits[at] for at in places]
    return hits


def _parse_sorting(text: str) -> tuple[Order, ...]:
    """Read ``+field -field``."""
    return tuple(Order(each.lstrip("+-"), each.startswith("-")) for each in text.split())
