"""Asking Vespa, and what its answer says: hits, and how much of the index they come from.

An answer with status 200 may be of a part of the documents only. It is passed on and said to be partial; whoever has
it must not conclude from it that something is not there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import trio

from sercha.adapters.vespa.connections import ConnectionFailed
from sercha.adapters.vespa.containers import Containers
from sercha.adapters.vespa.messages import Reply, as_object, json_request
from sercha.adapters.vespa.names import CHUNK_SCORES
from sercha.domain.document import DocumentId
from sercha.errors import Unavailable
from sercha.services.backoff import Backoff
from sercha.services.ports import IndexHit, IndexPage
from sercha.telemetry import metrics

WAIT_MARGIN = 0.25
"""Seconds that an answer is waited for beyond what Vespa was allowed."""
RETRY_SHARE = 0.6
"""A partial answer is asked for once more while this share of the time is left."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the index an answer comes from."""

    percent: int
    reasons: tuple[str, ...]
    nodes: int

    @property
    def is_whole(self) -> bool:
        """Whether all documents were searched, to the best of Vespa's knowledge."""
        return not self.reasons


class Asker:
    """Sends searches, within one deadline each."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._nodes_known = 0

    async def ask(self, body: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
        """Return the ``root`` of the answer, the best of a few tries.

        Args:
            body: the parameters, without ``timeout``.
            seconds: for all tries together.

        Raises:
            Unavailable: there was no answer in time (``vespa-away``), or Vespa could not answer (``search-failed``).
        """
        deadline = trio.current_time() + seconds
        partial: dict[str, Any] | None = None
        delays = Backoff(base=0.02, cap=0.5)
        timeouts = 0
        why = "no time"
        while (left := deadline - trio.current_time()) > 0:
            request = json_request("POST", "/search/", {**body, "timeout": f"{left:.3f}s"})
            try:
                reply = await self._containers.send(request, seconds=left + WAIT_MARGIN)
            except ConnectionFailed as error:
                metrics.VESPA_SEARCHES.labels("none").inc()
                why = str(error)
            else:
                metrics.VESPA_SEARCHES.labels(str(reply.status)).inc()
                root = as_object(reply.read().get("root"))
                if reply.status == HTTPStatus.OK and root:
                    is_last = partial is not None or left < RETRY_SHARE * seconds
                    if self.coverage(root).is_whole or is_last:
                        return root
                    partial = root
                    continue
                why = _why(reply)
                timeouts += reply.status == HTTPStatus.GATEWAY_TIMEOUT
                if timeouts > 1 or not _is_passing(reply.status):
                    raise Unavailable(f"Vespa did not answer: {why}", code="search-failed")
            if partial is not None:
                return partial
            await trio.sleep(min(delays.next(), max(0.0, deadline - trio.current_time())))
        raise Unavailable(f"Vespa is away: {why}", code="vespa-away", retry_after=1)

    def coverage(self, root: Mapping[str, Any]) -> Coverage:
        """Say how much of the index *root* comes from.

        Vespa counts a node that is lost as no loss while others may have its documents, and for some seconds that
        need not be so; an answer from fewer nodes than once is taken for partial.
        """
        told = as_object(root.get("coverage"))
        reasons = [name for name, is_so in as_object(told.get("degraded")).items() if is_so]
        if not told.get("full", True) and not reasons:
            reasons.append("not-full")
        if root.get("errors"):
            reasons.append("errors")
        nodes = int(told.get("nodes", 0))
        self._nodes_known = max(self._nodes_known, nodes)
        if told and nodes < self._nodes_known:
            reasons.append("fewer-nodes")
        return Coverage(int(told.get("coverage", 100)), tuple(reasons), nodes)

    def page(self, root: Mapping[str, Any]) -> IndexPage:
        """Return the hits of *root*.

        Raises:
            Unavailable: a score is no number: the rank profile is not the one of this version (``search-failed``).
        """
        coverage = self.coverage(root)
        return IndexPage(
            hits=tuple(_hits(root)),
            total=int(as_object(root.get("fields")).get("totalCount", 0)),
            coverage=coverage.percent,
            degraded=coverage.reasons,
        )


def _is_passing(status: int) -> bool:
    return status in {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }


def _why(reply: Reply) -> str:
    errors = as_object(reply.read().get("root")).get("errors")
    if not errors:
        return reply.message
    return "{summary}: {message}".format_map({"summary": "", "message": "", **as_object(errors[0])})


def _hits(root: Mapping[str, Any]) -> Iterator[IndexHit]:
    for child in root.get("children") or ():
        fields = as_object(child.get("fields"))
        # Groups stand among the hits, and a hit whose summary could not be fetched has no fields.
        if "number" not in fields:
            continue
        score = float(child["relevance"])
        if not math.isfinite(score):
            raise Unavailable("Vespa ranks with no number", code="search-failed")
        features = as_object(fields.get("matchfeatures"))
        yield IndexHit(DocumentId(fields["number"]), _best_chunk(_scores(features)), score)


def _scores(features: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what tells the best chunk: its words, else the vector that is closest."""
    by_words = as_object(features.get(CHUNK_SCORES))
    if any(score > 0 for score in as_object(by_words.get("cells", by_words)).values()):
        return by_words
    names = (name for name in features if name.startswith("closest("))
    return as_object(features.get(next(names, CHUNK_SCORES)))


def _best_chunk(scores: Mapping[str, Any]) -> int:
    """Return the chunk with the highest score, the first among equals; tensors have a long and a short form."""
    cells: Mapping[str, float] = scores.get("cells", scores)
    return min(((-score, int(label)) for label, score in cells.items()), default=(0, 0))[1]
