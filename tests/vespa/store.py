"""The documents of all clusters, in memory: timestamps, tombstones and buckets.

Every method is synchronous, so an operation that reads and then writes is atomic under Trio.
"""

from __future__ import annotations

import time
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import trio

from tests.vespa.model import DocumentId, Value

BUCKETS = 16
"""Buckets of each document type, unless the store is made with another number."""
TOMBSTONES_MAX = 100_000
"""Tombstones that are kept; the oldest go first."""


def microseconds() -> int:
    """The time now, as documents carry it."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A live document; *timestamp* in microseconds is unique within the store."""

    id: DocumentId
    fields: Mapping[str, Value]
    timestamp: int


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What remains of a removed document."""

    id: DocumentId
    timestamp: int


class Changes:
    """The documents of one type that were put or removed and not yet taken, the oldest change first."""

    def __init__(self, documents: Iterable[DocumentId]) -> None:
        self._changed = dict.fromkeys(documents)

    def __len__(self) -> int:
        return len(self._changed)

    def add(self, document_id: DocumentId) -> None:
        """Note a change; further ones of the same document count once until it is taken."""
        self._changed[document_id] = None

    def take(self) -> DocumentId:
        """The oldest change, which is forgotten; there must be one."""
        taken = next(iter(self._changed))
        del self._changed[taken]
        return taken


class Store:
    """The documents by type. Who follows them asks for `changes`."""

    def __init__(self, *, buckets: int = BUCKETS, clock: Callable[[], int] = microseconds) -> None:
        self.buckets = buckets
        self._changes: dict[str, weakref.WeakSet[Changes]] = {}
        self._news = trio.Event()
        self._clock = clock
        self._last = 0
        self._live: dict[str, dict[DocumentId, StoredDocument]] = {}
        self._removed: dict[DocumentId, Tombstone] = {}

    def put(self, document_id: DocumentId, fields: Mapping[str, Value]) -> StoredDocument:
        """Replace the whole document."""
        document = StoredDocument(document_id, dict(fields), self._tick())
        self._live.setdefault(document_id.type, {})[document_id] = document
        self._removed.pop(document_id, None)
        self._changed(document_id)
        return document

    def remove(self, document_id: DocumentId) -> bool:
        """Remove a document, and say whether it was there; a tombstone is left in any case."""
        was_there = self._live.get(document_id.type, {}).pop(document_id, None) is not None
        self._removed.pop(document_id, None)
        self._removed[document_id] = Tombstone(document_id, self._tick())
        if len(self._removed) > TOMBSTONES_MAX:
            del self._removed[next(iter(self._removed))]
        self._changed(document_id)
        return was_there

    def get(self, document_id: DocumentId) -> StoredDocument | None:
        """The live document of this id."""
        return self._live.get(document_id.type, {}).get(document_id)

    def documents(self, document_type: str) -> Iterator[StoredDocument]:
        """The live documents of a type, in the order of their first put; a snapshot."""
        return iter(list(self._live.get(document_type, {}).values()))

    def tombstones(self, document_type: str) -> Iterator[Tombstone]:
        """The removed documents of a type; a snapshot."""
        return iter([each for each in self._removed.values() if each.id.type == document_type])

    def count(self, document_type: str) -> int:
        """The number of live documents of a type."""
        return len(self._live.get(document_type, {}))

    def bucket_of(self, document_id: DocumentId) -> int:
        """The bucket of an id; documents of one location share theirs."""
        place = str(document_id)
        if document_id.number is not None:
            place = f"n={document_id.number}"
        elif document_id.group is not None:
            place = f"g={document_id.group}"
        return zlib.crc32(place.encode()) % self.buckets

    def node_of(self, document_id: DocumentId, nodes: Sequence[int]) -> int:
        """Which of *nodes*, the distribution keys of one group, has the active copy of the document."""
        return nodes[self.bucket_of(document_id) % len(nodes)]

    def drop_field(self, document_type: str, name: str) -> None:
        """Forget the values of a field: its type changed, or it was removed."""
        documents = self._live.get(document_type, {})
        for document_id, document in documents.items():
            if name in document.fields:
                fields = {key: value for key, value in document.fields.items() if key != name}
                documents[document_id] = StoredDocument(document_id, fields, document.timestamp)
                self._changed(document_id)

    def drop_type(self, document_type: str) -> None:
        """Forget all documents of a type: its schema was removed."""
        for document_id in self._live.pop(document_type, {}):
            self._changed(document_id)
        for document_id in [each for each in self._removed if each.type == document_type]:
            del self._removed[document_id]

    def clear(self) -> None:
        """Forget everything."""
        for document_type in list(self._live):
            self.drop_type(document_type)
        self._removed.clear()

    def changes(self, document_type: str) -> Changes:
        """The live documents of a type as changes, and all changes from now on, for as long as these are held."""
        changes = Changes(self._live.get(document_type, {}))
        self._changes.setdefault(document_type, weakref.WeakSet()).add(changes)
        return changes

    def _changed(self, document_id: DocumentId) -> None:
        for changes in self._changes.get(document_id.type, ()):
            changes.add(document_id)
        self.wake()

    async def wait(self) -> None:
        """Wait for the next change, or for `wake`."""
        self._news = trio.Event()
        await self._news.wait()

    def wake(self) -> None:
        """Let `wait` return: there is something new, if only the schemas."""
        self._news.set()

    def _tick(self) -> int:
        self._last = max(self._last + 1, self._clock())
        return self._last
