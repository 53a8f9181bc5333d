"""Hundreds of documents of all formats from a folder to a search: each word is found, shown, and at its place.

`SERCHA_TEST_SEED` says with which contents.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from sercha.adapters.embedded_index import open_embedded_index
from sercha.adapters.parsing.extractor import DocumentExtractor
from sercha.adapters.parsing.pool import open_parsers
from sercha.domain.query import parse_query
from sercha.services.search import Search
from tests.support.document_corpus import FORMATS, corpus
from tests.support.search import EVERYONE
from tests.support.syncing import setup_on

SEED = int(os.environ.get("SERCHA_TEST_SEED", random.SystemRandom().randrange(2**32)))
PER_FORMAT = 30


async def test_each_word_of_hundreds_of_documents_is_found_shown_and_at_its_place(
    postgres_url: str, tmp_path: Path
) -> None:
    print(f"SERCHA_TEST_SEED={SEED}")
    samples = {sample.name: sample for sample in corpus(SEED, PER_FORMAT)}
    assert len(samples) == PER_FORMAT * len(FORMATS)
    wrong: list[object] = []
    async with (
        open_parsers(2) as parsers,
        setup_on(
            postgres_url, tmp_path, page_items=100, extractor=DocumentExtractor(parsers)
        ) as setup,
        open_embedded_index(tmp_path / "index") as index,
    ):
        for sample in samples.values():
            (setup.root / sample.name).write_bytes(sample.content)
        state = await setup.sync()
        assert (state.stats.documents_added, state.stats.errors) == (len(samples), 0)
        stored, _ = await setup.truth.documents.list(
            setup.source.id, EVERYONE, limit=len(samples), offset=0
        )
        await index.apply(await setup.truth.documents.read([each.id for each in stored]), None)
        search = Search(index, setup.truth.documents)
        for sample in samples.values():
            for word, place in sample.places.items():
                page = await search.search(parse_query(word), EVERYONE)
                found = [
                    (Path(each.document.path).name, each.chunk.heading, marked(each.snippet.parts))
                    for each in page.results
                ]
                if found != [(sample.name, place, word)]:
                    wrong.append((sample.name, word, place, found))
    assert wrong == []


def marked(parts: tuple[tuple[str, bool], ...]) -> str:
    """Return the words that a snippet marks."""
    return "".join(text for text, is_match in parts if is_match)
