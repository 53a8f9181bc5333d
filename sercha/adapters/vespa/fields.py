"""A document as Vespa holds it: its words as Sercha makes them, and what it is filtered and ordered by.

The text itself stays in PostgreSQL, which also gives the passage that is shown: a snippet is never of a version that
is gone, nor of a document that was closed to the reader since.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from sercha.adapters.text_analysis.analysis import tokenise
from sercha.adapters.text_analysis.folder_keys import folder_keys
from sercha.adapters.text_analysis.names import names_of
from sercha.adapters.vespa.names import vectors_field
from sercha.adapters.vespa.tokens import spell, spell_all
from sercha.domain.document import Chunk, IndexedDocument
from sercha.domain.embedding import Vector
from sercha.domain.filters import microseconds, type_names

GAP = spell("")
"""Stands between texts of one field, and for a word that is left out: no phrase goes across."""


def document_fields(
    generation: str, document: IndexedDocument, models: Collection[str] = ()
) -> dict[str, Any]:
    """Return the fields of a live document, with its vectors of *models*; slow for long texts, so only off the loop."""
    text = tokenise(document.text)
    fragments = set(text.fragments)
    names: dict[str, list[str]] = {}
    for field, name in names_of(document):
        found = tokenise(name)
        names.setdefault(f"{field}_words", []).append(spell_all(found.words))
        names.setdefault(f"{field}_parts", []).append(spell_all(found.parts))
        fragments |= found.fragments
    fields: dict[str, Any] = {
        "generation": generation,
        "number": document.id,
        "version": document.version,
        "revision": document.revision,
        "deleted": 0,
        "chunk_count": len(document.chunks),
        "source": document.source_id.hex,
        "types": [spell(name) for name in type_names(document.mime_type)],
        "folders": folder_keys(document.path),
        "readers": [spell(reader) for reader in document.readers],
        "words": spell_all(text.words),
        "parts": spell_all(text.parts),
        "fragments": spell_all(sorted(fragments)),
        "chunk_words": [_chunk_words(document, chunk) for chunk in document.chunks],
    }
    for field, texts in names.items():
        fields[field] = f" {GAP} ".join(texts)
    if document.modified_at is not None:
        fields["modified"] = microseconds(document.modified_at)
    for model in models:
        if vectors := document.vectors.get(model):
            fields[vectors_field(model)] = _blocks(vectors)
    return fields


def _blocks(vectors: Sequence[Vector | None]) -> dict[str, Any]:
    """Write vectors by the position of their chunk, in hexadecimal: exact, and a third of the length."""
    present = {str(at): each.big_endian().hex() for at, each in enumerate(vectors) if each}
    return {"blocks": present}


def _chunk_words(document: IndexedDocument, chunk: Chunk) -> str:
    found = tokenise(f"{chunk.heading}\n{document.text[chunk.start : chunk.end]}")
    return spell_all([*found.words, GAP, *found.parts, GAP, *sorted(found.fragments)])


def list_parameter(values: Iterable[str]) -> str:
    """Write values for ``in (@list)``, whose items are cut at commas and know no escapes.

    All values that get here are spelled, or digests; anything else is a mistake of ours.
    """
    items = sorted(values)
    assert all(item.isascii() and item.isalnum() for item in items)
    return ",".join(items)
