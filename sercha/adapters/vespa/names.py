"""What things are called in Vespa: the application package, the documents and the queries agree on these."""

from __future__ import annotations

from typing import Final

DOCUMENT: Final = "sercha_document"
"""The document type, with Sercha's name in it: it may stand beside others in an application."""
POSITION: Final = "sercha_position"
"""The document type of how far a generation has followed the change feed."""
CLUSTER: Final = "sercha"
"""The content cluster of a new application."""

QUERY_PROFILE: Final = "sercha"
"""Allows pages as far as Sercha does; named in each search, so that an application's own default stays what it is."""
TEXT_PROFILE: Final = "text"
SUMMARY: Final = "hit"
TEXT_FIELDS: Final = ("words", "title_words", "path_words")
PART_FIELDS: Final = ("parts", "title_parts", "path_parts")
CHUNK_SCORES: Final = "chunk_scores"


def document_path(generation: str, number: int) -> str:
    """Return the path of one document; a generation is a namespace, so that it can be visited and removed alone."""
    return f"/document/v1/{generation}/{DOCUMENT}/docid/{number}"


def position_path(generation: str) -> str:
    """Return the path of a generation's position."""
    return f"/document/v1/{generation}/{POSITION}/docid/position"


def vectors_field(model: str) -> str:
    """Return the field with the vectors of a model."""
    return f"vectors_{model}"


def vector_profile(mode: str, model: str) -> str:
    """Return the rank profile for searches in *mode*, ``semantic`` or ``hybrid``, by the vectors of a model."""
    return f"{mode}_{model}"
