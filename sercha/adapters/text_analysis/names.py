"""What a document is called: texts that are searched beside its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from sercha.domain.document import IndexedDocument


def names_of(document: IndexedDocument) -> Iterator[tuple[str, str]]:
    """Give what each of its names says, as ``title`` or ``path``; a file's name counts as a title."""
    name = PurePosixPath(document.path).name
    yield "title", document.title
    if name != document.title:
        yield "title", name
    yield "path", document.path
