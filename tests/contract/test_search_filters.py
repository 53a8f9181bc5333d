"""Filters, in every engine: they limit what is counted and paged, and mean exactly what was written."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from sercha.services.ports import SearchIndex
from tests.support.engines import ENGINES, open_engine
from tests.support.search import OTHER_SOURCE, SOURCE, added, find, ids

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TICK = timedelta(microseconds=1)
HOSTILE = [
    "a/b' OR 1", 'a/b" or true //', "a/@sercha_readers", "x,y", "x", "*", "?", "%2e%2e", "a\\b", "a/../b", "..", "../a",
    "A/B", "a/b", "a/bc", "größe/東京", "gro\u0308ße/東京", "half\udcff/x", "half/x", "new\nline", " a/b", "a/b ",
    "\u202eb/a", "/".join("d" * 300), "x" * 4_000,
]  # fmt: skip


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SearchIndex]:
    async with open_engine(request.param, tmp_path) as index:
        yield index


async def test_types_and_families_are_filtered(engine: SearchIndex) -> None:
    types = [
        "text/markdown", "text/plain", "TEXT/Plain; charset=utf-8", "text/x-c++src", "application/pdf",
        "application/text", "textile/plain",
    ]  # fmt: skip
    await engine.apply([added(n, "word", mime_type=each) for n, each in enumerate(types)], None)

    async def of(*names: str) -> set[int]:
        return await ids(engine, "word", mime_types=names)

    assert await of("text/markdown") == {0}
    assert await of("text/plain") == await of("Text/PLAIN") == {1, 2}
    assert await of("text/*") == {0, 1, 2, 3}
    assert await of("text/x-c++src", "application/*") == {3, 4, 5}
    assert await of("text/markdow") == await of("markdown/*") == set()
    assert await of() == set(range(7))


async def test_dates_are_filtered_half_open_and_to_the_microsecond(engine: SearchIndex) -> None:
    times = [NOON - TICK, NOON, NOON + TICK, datetime(1901, 1, 1, tzinfo=UTC), None]
    await engine.apply([added(n, "word", modified_at=each) for n, each in enumerate(times)], None)

    async def between(start: datetime | None, end: datetime | None) -> set[int]:
        return await ids(engine, "word", modified_from=start, modified_before=end)

    assert await between(NOON, None) == {1, 2}
    assert await between(None, NOON) == {0, 3}, "one without a date is not of long ago"
    assert await between(NOON, NOON + TICK) == {1}
    assert await between(NOON + TICK, NOON + 2 * TICK) == {2}
    assert await between(None, None) == {0, 1, 2, 3, 4}
    elsewhere = NOON.astimezone(timezone(timedelta(hours=-14)))
    assert await between(elsewhere, elsewhere + TICK) == {1}
    first = datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))
    last = datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))
    assert await between(first, last) == await between(first, None) == {0, 1, 2, 3}
    assert await between(None, last) == {0, 1, 2, 3}


async def test_folders_are_filtered_at_their_borders(engine: SearchIndex) -> None:
    paths = ["docs/x", "docs/sub/y", "docs", "docs2/x", "Docs/x", "/docs/z", "other/docs/x"]
    await engine.apply([added(n, "word", path=each) for n, each in enumerate(paths)], None)

    async def below(path: str) -> set[int]:
        return await ids(engine, "word", path=path)

    assert await below("doc") == set()
    assert await below("docs") == {0, 1, 2, 5}
    for spelling in ("/docs", "docs/", "//docs//", "./docs/.", "docs///"):
        assert await below(spelling) == {0, 1, 2, 5}, spelling
    assert await below("docs/x") == {0}
    assert await below("docs/x/") == {0}
    assert await below("docs/sub/../x") == set(), "names are compared, no folders are looked at"
    assert await below("Docs") == {4}
    assert await below("docs/*") == set()
    assert await below("/") == await below("") == set(range(7))


async def test_any_characters_may_be_in_a_path(engine: SearchIndex) -> None:
    """Each is found by itself and its folders, and by nothing that only looks like it."""
    pairs = enumerate(HOSTILE)
    await engine.apply([added(n, "word", path=f"top/{each}") for n, each in pairs], None)

    for number, path in enumerate(HOSTILE):
        below = {n for n, each in enumerate(HOSTILE) if f"{each}/".startswith(f"{path}/")}
        assert await ids(engine, "word", path=f"top/{path}") == below, path
        assert number in below
        assert await ids(engine, "word", path=path) == set(), path
    assert await ids(engine, "word", path="top/") == set(range(len(HOSTILE)))


async def test_filters_are_all_met_and_count_and_page_exactly(engine: SearchIndex) -> None:
    kinds, folders = ["text/plain", "text/markdown", "image/svg+xml"], ["a", "ab", "a/b"]
    days = [NOON, NOON + timedelta(days=1), None]
    combinations = list(itertools.product(kinds, folders, days, [SOURCE, OTHER_SOURCE]))
    await engine.apply(
        [
            added(
                n,
                "tie other",
                mime_type=kind,
                path=f"{folder}/{n}",
                modified_at=day,
                source=source,
                readers=("team",) if n % 5 else ("user:ann",),
            )
            for n, (kind, folder, day, source) in enumerate(combinations)
        ],
        None,
    )
    filters: dict[str, Any] = {
        "mime_types": ("text/*",),
        "path": "a",
        "modified_before": NOON + TICK,
        "source_ids": (SOURCE,),
    }
    meeting: dict[str, set[int]] = {
        "mime_types": {n for n, each in enumerate(combinations) if each[0].startswith("text/")},
        "path": {n for n, each in enumerate(combinations) if each[1] != "ab"},
        "modified_before": {n for n, each in enumerate(combinations) if each[2] == NOON},
        "source_ids": {n for n, each in enumerate(combinations) if each[3] == SOURCE},
    }
    readable = {n for n in range(len(combinations)) if n % 5}

    for chosen in itertools.product([False, True], repeat=len(filters)):
        names = [name for name, is_on in zip(filters, chosen, strict=True) if is_on]
        expected = sorted(readable.intersection(*(meeting[name] for name in names)))
        options = {name: filters[name] for name in names}
        paged: list[int] = []
        for offset in range(0, len(expected) + 4, 4):
            page = await find(engine, "tie", limit=4, offset=offset, **options)
            assert page.total == len(expected), names
            paged += [hit.document_id for hit in page.hits]
        assert paged == expected, names
        assert await ids(engine, "tie -other", **options) == set()
        assert await ids(engine, "tie nowhere +other", **options) == set(expected)


async def test_filter_changes_no_score(engine: SearchIndex) -> None:
    texts = ["tie", "tie tie tie other", "other", "tie and much more of other words"]
    await engine.apply([added(n, text, path=f"a/{n}") for n, text in enumerate(texts)], None)
    options: dict[str, Any] = {
        "mime_types": ("text/*",),
        "modified_from": NOON - timedelta(days=99),
        "path": "a",
    }

    assert await find(engine, "tie other", **options) == await find(engine, "tie other")


async def test_moved_and_retyped_document_is_found_where_it_is_now(engine: SearchIndex) -> None:
    await engine.apply([added(1, "word", path="old/x", mime_type="text/plain")], None)

    changed = added(1, "word", path="new/x", mime_type="image/png", modified_at=None, version=2)
    await engine.apply([changed], None)

    assert await ids(engine, "word", path="old") == set()
    assert await ids(engine, "word", mime_types=("text/*",)) == set()
    assert await ids(engine, "word", modified_before=NOON) == set()
    assert await ids(engine, "word", path="new", mime_types=("image/*",)) == {1}


SCRIPTS = [
    ("北京大学的图书馆很大", "图书馆", "书图"),
    ("京都の天気は晴れです", "天気", "気天"),
    ("オフラインのデータベース", "データベース", "ベータ"),
    ("오늘의 날씨가 좋다", "날씨", "씨날"),
    ("Быстрая чёрная лисица", "БЫСТРАЯ", "быстр"),
    ("Її їжак у гаї", "їжак", "жак"),
]


@pytest.mark.parametrize(("text", "inside", "absent"), SCRIPTS)
async def test_words_of_other_scripts_are_found_and_filtered(
    engine: SearchIndex, text: str, inside: str, absent: str
) -> None:
    await engine.apply(
        [
            added(1, f"before {text} after", path=f"{inside}/a"),
            added(2, "nothing", title=text, path=f"{inside}x/a"),
            added(3, "something else"),
        ],
        None,
    )

    assert await ids(engine, inside) == {1, 2}
    assert await ids(engine, f'"{inside}"') == {1, 2}
    assert await ids(engine, absent) == set()
    assert await ids(engine, inside, path=inside) == {1}


async def test_pages_of_other_scripts_are_stable(engine: SearchIndex) -> None:
    words = ["图书馆", "天気", "날씨", "лисица"]
    changes = [
        added(n, " ".join(words[: 1 + n % 4]), path=f"{words[n % 3]}/{n}") for n in range(1, 61)
    ]
    for start in range(0, 60, 13):
        await engine.apply(changes[start : start + 13], None)

    async def pages(limit: int) -> list[int]:
        seen: list[int] = []
        for offset in range(0, 20, limit):
            page = await find(engine, " ".join(words), limit=limit, offset=offset, path="天気")
            assert page.total == 20
            seen += [hit.document_id for hit in page.hits]
        return seen

    whole = await pages(20)
    assert sorted(whole) == list(range(1, 61, 3))
    assert await pages(7) == await pages(3) == await pages(20) == whole
