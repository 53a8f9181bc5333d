"""A visit's way through the buckets: what it selects, where it continues, when it must stop."""

from __future__ import annotations

import base64
import binascii
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.vespa.document_types import check_cluster, schema_of
from tests.vespa.messages import TIMEOUT_DEFAULT, Problem, Request
from tests.vespa.model import Application, DocumentId, Value
from tests.vespa.paths import Place
from tests.vespa.selection import Selection, parse_selection
from tests.vespa.selection_text import SelectionError
from tests.vespa.state import State
from tests.vespa.store import StoredDocument, Tombstone

TIME_CHUNK_DEFAULT = 60.0
"""Seconds one request of a mass operation works."""


@dataclass(frozen=True, slots=True)
class Stop:
    """A visit ends before all buckets: after how many, and with which error, if any."""

    buckets: int | None
    message: str = ""


def visit_seconds(timeout: float) -> float:
    """How long a visit works within the timeout of its request."""
    return max(timeout - 5, 0.9 * timeout - 0.1)


class Session:
    """The buckets of one request that are still to be visited, in order."""

    def __init__(
        self, state: State, application: Application, request: Request, place: Place
    ) -> None:
        self.place = place
        self._state = state
        self._application = application
        properties = request.properties()
        self._properties = properties
        self.timeout = properties.seconds("timeout", TIMEOUT_DEFAULT)
        check_cluster(application, properties.text("cluster"))
        self.types = self._types()
        self.selection = self._selection(properties.text("selection") or "")
        self._from = properties.number("fromTimestamp", 0)
        self._to = properties.number("toTimestamp", 2**63 - 1)
        self._includes_removes = properties.flag("includeRemoves")
        space = properties.choice("bucketSpace", "default", ("default", "global"))
        slices, slice_id = self._slices()
        total = state.store.buckets
        self.buckets = [each for each in range(total) if each % slices == slice_id]
        self._shape = [total, slices, slice_id]
        self.at = self._start(properties.text("continuation"))
        self._items = self._found() if space == "default" else {}

    def visit_next(self) -> list[StoredDocument | Tombstone]:
        """Go through the next bucket, and give what is selected of it."""
        bucket = self.buckets[self.at]
        self.at += 1
        return self._items.get(bucket, [])

    @property
    def is_finished(self) -> bool:
        """Whether no bucket is left."""
        return self.at >= len(self.buckets)

    @property
    def percent(self) -> float:
        """How much has been visited."""
        return 100.0 * self.at / len(self.buckets) if self.buckets else 100.0

    @property
    def token(self) -> str:
        """What continues here."""
        text = json.dumps([*self._shape, self.at], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def stop(self, request: Request, seconds: float, *, is_limited: bool) -> Stop:
        """When this request must stop: by a fault, by time, or, with *is_limited*, by the limit of buckets."""
        limits = self._state.limits
        fault = self._state.faults.take(
            {"stop-early"}, request.method, request.path, request.container
        )
        if fault is not None:
            return Stop(fault.size, fault.message)
        bounds: list[int] = []
        if is_limited and limits.visit_buckets is not None:
            bounds.append(limits.visit_buckets)
        if seconds <= 0:
            bounds.append(0)
        elif limits.bucket_seconds > 0:
            bounds.append(int(seconds / limits.bucket_seconds))
        return Stop(min(bounds, default=None))

    def nothing_visited(self, seconds: float) -> Problem:
        """The error of a visit without time for one bucket."""
        milliseconds = max(0, round(seconds * 1000))
        return Problem(
            504, f"No buckets visited within timeout of {milliseconds}ms (request timeout -5s)"
        )

    def _types(self) -> list[str]:
        cluster = self._properties.text("cluster")
        if self.place.type is not None:
            schema_of(self._application, self.place.type)
            holder = self._application.cluster_of(self.place.type)
            is_here = cluster is None or (holder is not None and holder.id == cluster)
            return [self.place.type] if is_here else []
        return [
            name
            for each in self._application.content
            if each.id == cluster
            for name in each.document_types
        ]

    def _selection(self, text: str) -> Selection:
        try:
            return parse_selection(text, self._application.schemas)
        except SelectionError as error:
            raise Problem(400, str(error)) from error

    def _slices(self) -> tuple[int, int]:
        properties = self._properties
        if ("slices" in properties) != ("sliceId" in properties):
            raise Problem(400, "None or both of 'slices' and 'sliceId' must be set")
        slices = properties.number("slices", 1, low=1)
        return slices, properties.number("sliceId", 0, high=slices - 1)

    def _start(self, token: str | None) -> int:
        if token is None:
            return 0
        try:
            padded = token + "=" * (-len(token) % 4)
            given = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except (binascii.Error, ValueError) as error:
            raise Problem(400, f"Unparseable continuation '{token}'") from error
        is_list = isinstance(given, list) and len(given) == 4
        if not is_list or given[:3] != self._shape or given[3] not in range(len(self.buckets)):
            raise Problem(400, f"Continuation '{token}' does not belong to this visit")
        return given[3]

    def _found(self) -> dict[int, list[StoredDocument | Tombstone]]:
        found: dict[int, list[StoredDocument | Tombstone]] = defaultdict(list)
        for item in self._candidates():
            fields = item.fields if isinstance(item, StoredDocument) else {}
            if self._from <= item.timestamp <= self._to and self._is_selected(item.id, fields):
                found[self._state.store.bucket_of(item.id)].append(item)
        return found

    def _candidates(self) -> Iterator[StoredDocument | Tombstone]:
        for name in self.types:
            yield from self._state.store.documents(name)
            if self._includes_removes:
                yield from self._state.store.tombstones(name)

    def _is_selected(self, document_id: DocumentId, fields: Mapping[str, Value]) -> bool:
        place = self.place
        return (
            place.namespace in (None, document_id.namespace)
            and place.group in (None, document_id.group)
            and place.number in (None, document_id.number)
            and self.selection.selects(document_id, fields)
        )
