"""The examples of what a search finds are what the index finds, and the documented bounds are the code's."""

from __future__ import annotations

import re
from uuid import UUID

import pytest
import tantivy

from sercha.adapters.embedded_index import entries as layout
from sercha.adapters.embedded_index.searching import search
from sercha.adapters.parsing.text import TEXT_CHARS_MAX
from sercha.adapters.text_analysis.analysis import TOKEN_BYTES_MAX
from sercha.adapters.text_analysis.terms import plan_terms
from sercha.domain.document import TEAM, Chunk, DocumentId, IndexedDocument
from sercha.domain.filters import PATH_CHARS_MAX, TYPES_MAX
from sercha.domain.query import LIMIT_MAX, QUERY_CHARS_MAX, TERMS_MAX, WINDOW_MAX, parse_query
from tests.support.docs import DOCS, code, rows

PAGE = DOCS / "explanation" / "what-search-finds.md"
SYNTAX = DOCS / "reference" / "query-syntax.md"
SCHEMA = layout.build_schema()


def examples() -> list[tuple[str, str, bool]]:
    return [
        (code(text), code(query), found == "yes")
        for page in (PAGE, SYNTAX)
        for cells in rows(page.read_text("utf-8"))
        if len(cells) == 3 and cells[2] in {"yes", "no"}
        for text, query, found in [cells]
    ]


def is_found(text: str, query: str) -> bool:
    document = IndexedDocument(
        id=DocumentId(1),
        source_id=UUID(int=1),
        path="p",
        title="t",
        mime_type="text/plain",
        text=text,
        chunks=(Chunk(0, 0, len(text)),),
        readers=(TEAM,),
        version=1,
        modified_at=None,
    )
    index = tantivy.Index(SCHEMA)
    layout.register_analyzers(index)
    writer = index.writer(15_000_000, 1)
    for entry in layout.entries(document):
        writer.add_document(entry)
    writer.commit()
    index.reload()
    parsed = parse_query(query)
    page = search(SCHEMA, index.searcher(), plan_terms(parsed), parsed, frozenset({TEAM}))
    return page.total == 1


@pytest.mark.parametrize(("text", "query", "expected"), examples())
def test_an_example_is_found_as_the_page_says(text: str, query: str, expected: bool) -> None:
    assert is_found(text, query) is expected


def test_there_are_examples_of_both_kinds() -> None:
    outcomes = [expected for _, _, expected in examples()]

    assert outcomes.count(True) >= 15
    assert outcomes.count(False) >= 10


@pytest.mark.parametrize(
    "bound",
    [QUERY_CHARS_MAX, TERMS_MAX, LIMIT_MAX, WINDOW_MAX, TYPES_MAX, PATH_CHARS_MAX],
)
def test_the_syntax_page_has_the_bounds_of_the_code(bound: int) -> None:
    assert re.search(rf"\b{bound:,}\b", SYNTAX.read_text("utf-8"))


@pytest.mark.parametrize("bound", [TOKEN_BYTES_MAX, TEXT_CHARS_MAX])
def test_the_explanation_has_the_bounds_of_the_code(bound: int) -> None:
    assert re.search(rf"\b{bound:,}\b", PAGE.read_text("utf-8"))
