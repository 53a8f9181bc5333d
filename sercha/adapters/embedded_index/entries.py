"""The schema, and how a document becomes entries of the index.

A document is one entry that is matched and ranked, with its whole text, so that neither a word nor a
phrase is ever cut by the border of a chunk; and one entry per chunk, only used to choose the chunk that
is shown. How much a word weighs in a document is written down when the document is added, as a level
from 0 to `LEVELS` - 1: Tantivy's own BM25 counts deleted documents until it happens to merge them away,
so that two copies of the same documents would order them differently. The levels follow BM25's saturation
with a fixed average length.

All numbers are signed: deleting by an unsigned term silently does nothing.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterator

import tantivy

from sercha.adapters.text_analysis.analysis import (
    ANALYSIS_VERSION,
    PART_PATTERN,
    TOKEN_BYTES_MAX,
    WORD_PATTERN,
    AnalysedText,
    analyse,
    analyzer,
    normal,
    set_apart,
)
from sercha.adapters.text_analysis.folder_keys import folder_keys
from sercha.adapters.text_analysis.names import names_of
from sercha.adapters.text_analysis.weights import (
    IMPACT_MAX,
    LENGTH_SHARE,
    LENGTH_TYPICAL,
    LEVELS,
    SATURATION,
    level,
)
from sercha.domain.document import IndexedDocument
from sercha.domain.filters import microseconds, type_names
from sercha.services.ports import FeedPosition

KIND_DOCUMENT = 0
KIND_CHUNK = 1
KIND_POSITION = 2

_INTEGER_FIELDS = ("kind", "document_id", "chunk_position", "version", "chunk_count", "modified")
_TEXT_FIELDS = (
    ("words", "words", "position"),
    ("parts", "parts", "position"),
    ("title_words", "words", "position"),
    ("title_parts", "parts", "position"),
    ("path_words", "words", "position"),
    ("path_parts", "parts", "position"),
    ("chunk_words", "words", "position"),
    ("chunk_parts", "parts", "basic"),
    ("impacts", "tokens", "basic"),
    ("fragments", "tokens", "basic"),
    ("chunk_fragments", "tokens", "basic"),
    ("readers", "raw", "basic"),
    ("source", "raw", "basic"),
    ("types", "raw", "basic"),
    ("folders", "raw", "basic"),
)


def build_schema() -> tantivy.Schema:
    """The schema of the index."""
    builder = tantivy.SchemaBuilder()
    for name in _INTEGER_FIELDS:
        builder.add_integer_field(name, indexed=True, fast=True)
    for name, tokenizer, option in _TEXT_FIELDS:
        builder.add_text_field(name, tokenizer_name=tokenizer, index_option=option)
    builder.add_bytes_field("position", stored=True)
    return builder.build()


def schema_hash() -> str:
    """Names everything that decides what is in the files: another hash, another folder."""
    parts: tuple[object, ...] = (
        _INTEGER_FIELDS, _TEXT_FIELDS, WORD_PATTERN, PART_PATTERN, TOKEN_BYTES_MAX, ANALYSIS_VERSION,
        LEVELS, IMPACT_MAX, SATURATION, LENGTH_SHARE, LENGTH_TYPICAL, importlib.metadata.version("tantivy"),
    )  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def register_analyzers(index: tantivy.Index) -> None:
    """Teach an opened index the analysis that its schema names."""
    index.register_tokenizer("words", analyzer(WORD_PATTERN))
    index.register_tokenizer("parts", analyzer(PART_PATTERN))
    tokens = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
    index.register_tokenizer("tokens", tokens)


def entries(document: IndexedDocument) -> Iterator[tantivy.Document]:
    """The entries of one document: itself first, then its chunks in order."""
    yield _document_entry(document)
    for chunk in document.chunks:
        entry = _entry(KIND_CHUNK, document)
        entry.add_integer("chunk_position", chunk.position)
        text = document.text[chunk.start : chunk.end]
        analysed = analyse(f"{chunk.heading}\n{text}")
        entry.add_text("chunk_words", analysed.words_text)
        entry.add_text("chunk_parts", analysed.parts_text)
        entry.add_text("chunk_fragments", " ".join(sorted(analysed.fragments)))
        yield entry


def position_entry(position: FeedPosition) -> tantivy.Document:
    """The position in the change feed, as an entry, so that it is committed with the documents."""
    entry = tantivy.Document()
    entry.add_integer("kind", KIND_POSITION)
    text = json.dumps([position.consumer_id, position.snapshot, position.timeline, position.mark])
    entry.add_bytes("position", text.encode())
    return entry


def read_position(entry: tantivy.Document) -> FeedPosition:
    """The opposite of `position_entry`."""
    consumer_id, snapshot, timeline, mark = json.loads(bytes(entry.get_first("position") or b""))
    return FeedPosition(str(consumer_id), str(snapshot), str(timeline), str(mark))


def _entry(kind: int, document: IndexedDocument) -> tantivy.Document:
    entry = tantivy.Document()
    entry.add_integer("kind", kind)
    entry.add_integer("document_id", document.id)
    return entry


def _document_entry(document: IndexedDocument) -> tantivy.Document:
    analysed = analyse(document.text)
    entry = _entry(KIND_DOCUMENT, document)
    entry.add_integer("version", document.version)
    entry.add_integer("chunk_count", len(document.chunks))
    if document.modified_at is not None:
        entry.add_integer("modified", microseconds(document.modified_at))
    entry.add_text("source", str(document.source_id))
    for name in type_names(document.mime_type):
        entry.add_text("types", name)
    for key in folder_keys(document.path):
        entry.add_text("folders", key)
    for reader in document.readers:
        entry.add_text("readers", reader)
    entry.add_text("words", analysed.words_text)
    entry.add_text("parts", analysed.parts_text)
    entry.add_text("impacts", " ".join(_impacts(analysed)))
    fragments = set(analysed.fragments)
    for field, text in names_of(document):
        entry.add_text(f"{field}_words", normal(text))
        entry.add_text(f"{field}_parts", set_apart(normal(text)))
        fragments |= analyse(text).fragments
    entry.add_text("fragments", " ".join(sorted(fragments)))
    return entry


def _impacts(analysed: AnalysedText) -> Iterator[str]:
    """Each word behind the digit of its level; level 0 goes without saying."""
    for word, times in analysed.counts.items():
        reached = level(times, analysed.length)
        if reached > 0:
            yield f"{reached}{word}"
