"""An inverted index of the documents of one schema: words of text, whole values, numbers.

It follows a store: what changed is indexed soon after, in pieces between which requests are answered, and what is
left of it before a search, so that each write is found at once. A posting holds the number of a document and how
often the word occurs there. Where a word stands is read from the text again when a phrase asks for it, so that many
documents fit into memory.
"""

from __future__ import annotations

import hashlib
import weakref
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import trio

from tests.vespa.analysis import OCCURRENCES_MAX, words
from tests.vespa.model import DocumentId, Field, Schema
from tests.vespa.searchable import Kind, elements, key_of, kind_of
from tests.vespa.store import Changes, Store, StoredDocument

Word: TypeAlias = str | int | float | bool
_SHIFT = 16
_MASK = (1 << _SHIFT) - 1
_DEAD_MIN = 1_000
"""Documents that are gone are cleared away when there are more of them, and more than live ones."""
_PIECE = 50
"""Documents that are indexed between two requests: some milliseconds."""

_indexes: weakref.WeakKeyDictionary[Store, dict[str, Index]] = weakref.WeakKeyDictionary()


def index_of(store: Store, schema: Schema) -> Index:
    """The index of a schema's documents in *store*, up to date."""
    index = _index_of(store, schema)
    index.follow(store)
    return index


def _index_of(store: Store, schema: Schema) -> Index:
    indexes = _indexes.setdefault(store, {})
    index = indexes.get(schema.name)
    if index is None or index.schema.fields != schema.fields:
        index = indexes[schema.name] = Index(schema, store.changes(schema.name))
    index.schema = schema
    return index


async def keep_indexes(store: Store, schemas: Callable[[], Iterable[Schema]]) -> None:
    """Index what changes, some documents at a time, until cancelled: a search after many writes has little left to do."""
    while True:
        indexes = [_index_of(store, each) for each in schemas()]
        for index in indexes:
            index.follow(store, _PIECE)
        if any(index.changes for index in indexes):
            await trio.lowlevel.checkpoint()
        else:
            await store.wait()


class Index:
    """The documents have numbers; a document that is written again gets a new one."""

    def __init__(self, schema: Schema, changes: Changes) -> None:
        self.schema = schema
        self.changes = changes
        self.documents: list[StoredDocument | None] = []
        self.gids: list[str] = []
        self.live: set[int] = set()
        self._dead = 0
        self._numbers: dict[DocumentId, int] = {}
        self._searched = [
            (field, kind)
            for field in schema.fields.values()
            if (kind := kind_of(field)) is not None and kind is not Kind.TENSOR
        ]
        self._postings: dict[str, dict[Word, array[int]]] = {
            field.name: {} for field, _ in self._searched
        }
        self._lengths: dict[str, dict[int, int]] = {
            field.name: {} for field, kind in self._searched if kind is Kind.TEXT
        }
        self._length_sums: Counter[str] = Counter()
        self._element_sums: Counter[str] = Counter()
        self._found: dict[tuple[str, Word], dict[int, int]] = {}
        self._rows_found: dict[tuple[str, tuple[Word, ...]], Mapping[int, int]] = {}

    # Following the store

    def follow(self, store: Store, limit: int | None = None) -> None:
        """Index what changed in *store* since the last call; with *limit* at most so many documents of it."""
        count = min(len(self.changes), limit or len(self.changes))
        if not count:
            return
        self._found.clear()
        self._rows_found.clear()
        for _ in range(count):
            document_id = self.changes.take()
            number = self._numbers.get(document_id)
            if number is not None:
                self._remove(number)
            document = store.get(document_id)
            if document is not None:
                self._add(document)
        if self._dead > max(_DEAD_MIN, len(self.live)):
            self._clear_away()

    def _clear_away(self) -> None:
        """Forget where documents that are gone had their words."""
        for name, postings in self._postings.items():
            self._postings[name] = {
                word: array("Q", left)
                for word, posting in postings.items()
                if (left := [each for each in posting if each >> _SHIFT in self.live])
            }
        self._dead = 0

    def _remove(self, number: int) -> None:
        document = self.documents[number]
        assert document is not None
        self.documents[number] = None
        self.gids[number] = ""
        self._dead += 1
        self.live.discard(number)
        del self._numbers[document.id]
        for name, lengths in self._lengths.items():
            if number in lengths:
                self._length_sums[name] -= lengths.pop(number)
                self._element_sums[name] -= _element_count(document.fields[name])

    def _add(self, document: StoredDocument) -> None:
        number = len(self.documents)
        self.documents.append(document)
        self.gids.append(gid_of(document.id))
        self.live.add(number)
        self._numbers[document.id] = number
        for field, kind in self._searched:
            value = document.fields.get(field.name)
            if value is None:
                continue
            found = _words_of(field, kind, value)
            if kind is Kind.TEXT and found:
                length = found.total()
                self._lengths[field.name][number] = length
                self._length_sums[field.name] += length
                self._element_sums[field.name] += _element_count(value)
            postings = self._postings[field.name]
            place = number << _SHIFT
            for word, count in found.items():
                if word in postings:
                    postings[word].append(place | min(count, OCCURRENCES_MAX))
                else:
                    postings[word] = array("Q", (place | min(count, OCCURRENCES_MAX),))

    # Looking up

    def documents_with(self, field: str, word: Word) -> Mapping[int, int]:
        """How often *word* occurs in each document that has it; not to be changed."""
        found = self._found.get((field, word))
        if found is None:
            posting = self._postings.get(field, {}).get(word, ())
            live = self.live
            found = {number: each & _MASK for each in posting if (number := each >> _SHIFT) in live}
            self._found[field, word] = found
        return found

    def documents_with_prefix(self, field: str, prefix: str) -> Mapping[int, int]:
        """The same for all words that start with *prefix*."""
        counts: Counter[int] = Counter()
        for word in self._postings.get(field, {}):
            if isinstance(word, str) and word.startswith(prefix):
                counts.update(self.documents_with(field, word))
        return counts

    def documents_with_row(self, field: str, row: Sequence[Word]) -> Mapping[int, int]:
        """How often the words of *row* follow each other, within one element."""
        if len(row) == 1:
            return self.documents_with(field, row[0])
        key = (field, tuple(row))
        if key not in self._rows_found:
            self._rows_found[key] = self._counted(field, row, lambda text: count_row(text, row))
        return self._rows_found[key]

    def documents_near(
        self, field: str, row: Sequence[Word], distance: int, *, is_ordered: bool
    ) -> Mapping[int, int]:
        """How often the words of *row* are near each other, within one element."""
        return self._counted(
            field, row, lambda text: _nears(text, row, distance, is_ordered=is_ordered)
        )

    def _counted(
        self, field: str, row: Sequence[Word], count: Callable[[list[str]], int]
    ) -> Mapping[int, int]:
        postings = sorted((self.documents_with(field, word) for word in row), key=len)
        if not postings:
            return {}
        numbers = set(postings[0]).intersection(*postings[1:])
        counts: dict[int, int] = {}
        for number in numbers:
            found = sum(count(text) for text in self.texts(number, field))
            if found:
                counts[number] = min(found, OCCURRENCES_MAX)
        return counts

    def texts(self, number: int, field: str) -> list[list[str]]:
        """The words of each element of a text field."""
        declared = self.schema.fields[field]
        return [_counted_words(declared, text) for text in elements(self.value(number, field))]

    def value(self, number: int, field: str) -> Any:
        """The value of a field, or None."""
        document = self.documents[number]
        return None if document is None else document.fields.get(field)

    def document(self, number: int) -> StoredDocument:
        """A live document."""
        document = self.documents[number]
        assert document is not None
        return document

    def length(self, number: int, field: str) -> int:
        """The words in a text field of a document."""
        return self._lengths.get(field, {}).get(number, 0)

    def average_length(self, field: str) -> float:
        """The words in a text field, over the documents that have any."""
        count = len(self._lengths.get(field, ()))
        return self._length_sums[field] / count if count else 1.0

    def average_element_length(self, field: str) -> float:
        """The words in an element of a text field."""
        count = self._element_sums[field]
        return self._length_sums[field] / count if count else 1.0

    def distinct(self, field: str) -> Iterable[Word]:
        """The values of an attribute."""
        return self._postings.get(field, {}).keys()


def gid_of(document_id: DocumentId) -> str:
    """The global id of a document, in hexadecimal digits."""
    return hashlib.md5(str(document_id).encode(), usedforsecurity=False).hexdigest()[:24]


def _element_count(value: Any) -> int:
    return sum(1 for _ in elements(value))


def _words_of(field: Field, kind: Kind, value: Any) -> Counter[Word]:
    if kind is Kind.TEXT:
        found: Counter[Word] = Counter()
        for text in elements(value):
            found.update(words(text[: field.max_length]))
        return found
    return Counter(key_of(field, each) for each in elements(value))


def _counted_words(field: Field, text: str) -> list[str]:
    """The words that are indexed: not what is beyond the limits of a field."""
    found = words(text[: field.max_length])
    if len(found) <= OCCURRENCES_MAX:
        return found
    seen: Counter[str] = Counter()
    for at, word in enumerate(found):
        seen[word] += 1
        if seen[word] > OCCURRENCES_MAX:
            found[at] = ""
    return found


def count_row(text: list[str], row: Sequence[Word]) -> int:
    """Count the places where *row* starts; words have no spaces in them, so texts can be compared."""
    if len(row) == 1:
        return text.count(str(row[0]))
    wanted = f" {' '.join(map(str, row))} "
    joined = f" {' '.join(text)} "
    found, at = 0, joined.find(wanted)
    while at >= 0:
        found += 1
        at = joined.find(wanted, at + 1)
    return found


def _nears(text: list[str], row: Sequence[Word], distance: int, *, is_ordered: bool) -> int:
    """Count the windows of a minimal width that hold all words."""
    last: dict[Word, int] = {}
    found = 0
    wanted = set(row)
    for at, word in enumerate(text):
        if word not in wanted:
            continue
        last[word] = at
        if len(last) < len(wanted):
            continue
        places = [last[each] for each in row]
        if max(places) - min(places) <= distance + len(row) - 2 and (
            not is_ordered or places == sorted(places)
        ):
            found += 1
    return found
