"""What the engine in memory keeps of a document: its words, in their order.

A document's text is looked at as a whole, so that neither a word nor a phrase is cut by the border of a chunk; its
names are texts of their own, which no phrase joins; its chunks only decide which passage is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from sys import intern

from sercha.adapters.text_analysis.analysis import tokenise
from sercha.adapters.text_analysis.folder_keys import folder_key, folder_keys
from sercha.adapters.text_analysis.names import names_of
from sercha.adapters.text_analysis.terms import Tokens
from sercha.domain.document import IndexedDocument
from sercha.domain.filters import type_names
from sercha.domain.query import SearchQuery


@dataclass(frozen=True, slots=True)
class AnalysedView:
    """One text as terms are looked for in it."""

    words: Sequence[str]
    """All of them, an empty one in the place of each that is too long to be indexed."""
    parts: Sequence[str]
    fragments: Set[str]

    @property
    def length(self) -> int:
        """Words that are indexed."""
        return len(self.words) - self.words.count("")


@dataclass(frozen=True, slots=True)
class Entry:
    """One document."""

    document: IndexedDocument
    text: AnalysedView
    titles: tuple[AnalysedView, ...]
    paths: tuple[AnalysedView, ...]
    fragments: frozenset[str]
    """Of the text and of all names."""
    chunks: tuple[AnalysedView, ...]
    """Each with the headings above it."""
    vectors: Mapping[str, tuple[list[float] | None, ...]]
    """By model, one for each chunk."""
    folders: frozenset[str]
    tokens: frozenset[str]
    """All of its words, parts and fragments: a term whose beginnings are not among them is not in it."""

    def passes(self, query: SearchQuery, principals: frozenset[str]) -> bool:
        """Whether *principals* may read it and the filters of *query* let it through."""
        document, changed = self.document, self.document.modified_at
        start, end = query.modified_from, query.modified_before
        return (
            not principals.isdisjoint(document.readers)
            and (not query.source_ids or document.source_id in query.source_ids)
            and (
                not query.mime_types
                or not set(query.mime_types).isdisjoint(type_names(document.mime_type))
            )
            and (start is None or (changed is not None and changed >= start))
            and (end is None or (changed is not None and changed < end))
            and (not query.path or folder_key(query.path) in self.folders)
        )


def make_entry(document: IndexedDocument) -> Entry:
    """Analyse a document."""
    text = _view(document.text)
    names = [(kind, _view(name)) for kind, name in names_of(document)]
    views = [text, *(view for _, view in names)]
    fragments = frozenset[str]().union(*(view.fragments for view in views))
    return Entry(
        document=document,
        text=text,
        titles=tuple(view for kind, view in names if kind == "title"),
        paths=tuple(view for kind, view in names if kind == "path"),
        fragments=fragments,
        chunks=tuple(
            _view(f"{chunk.heading}\n{document.text[chunk.start : chunk.end]}")
            for chunk in document.chunks
        ),
        vectors={
            model: tuple(each.values() if each else None for each in vectors)
            for model, vectors in document.vectors.items()
        },
        folders=frozenset(folder_keys(document.path)),
        tokens=fragments.union(*(view.words for view in views), *(view.parts for view in views)),
    )


def stand_in(tokens: Tokens, texts: Sequence[str]) -> bool:
    """Whether *tokens* stand somewhere in *texts* at their distances; none at all never do."""
    if not tokens or any(text not in texts for _, text in tokens):
        return False
    return len(tokens) == 1 or any(
        all(texts[start + distance : start + distance + 1] == (text,) for distance, text in tokens)
        for start, first in enumerate(texts)
        if first == tokens[0][1]
    )


def _view(text: str) -> AnalysedView:
    found = tokenise(text)
    return AnalysedView(_shared(found.words), _shared(found.parts), found.fragments)


def _shared(tokens: Iterable[str]) -> tuple[str, ...]:
    """Let equal tokens of all documents be one object: most of the memory is theirs."""
    return tuple(map(intern, tokens))
