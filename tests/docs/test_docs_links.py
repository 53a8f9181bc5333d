"""Every link leads somewhere, every page can be reached, and the words are in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.docs import DOCS, README, ROOT, anchors, links, pages, rows, section

GLOSSARY = DOCS / "glossary.md"
TEST_NAME = re.compile(r"`(test_\w+)`")


def is_outside(link: str) -> bool:
    return re.match(r"[a-z]+:", link) is not None


def broken(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere: a missing file, or a heading that is not there."""
    found: list[str] = []
    for link in links(page):
        if is_outside(link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        is_missing = not target.is_relative_to(ROOT) or not target.exists()
        if is_missing or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_the_check_of_links_finds_planted_ones(tmp_path: Path) -> None:
    page = DOCS / "index.md"
    planted = tmp_path / "planted.md"
    planted.write_text(
        f"[a](nowhere.md) [b](#no-heading) [c]({page}#nothing-there) [d](https://example.com)\n"
        "`[e](in-code.md)`\n\n```bash\n[f](in-a-block.md)\n```\n"
    )

    assert broken(planted) == ["nowhere.md", "#no-heading", f"{page}#nothing-there"]


def test_links_to_the_outside_are_few_and_safe() -> None:
    outside = {link for page in pages() for link in links(page) if is_outside(link)}

    assert all(link.startswith("https://") for link in outside), outside


def test_every_page_is_reachable_from_the_index() -> None:
    reached: set[Path] = set()
    waiting = [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        waiting += [
            (page.parent / link.partition("#")[0]).resolve()
            for link in links(page)
            if not is_outside(link) and not link.startswith("#")
        ]

    assert {page for page in pages() if page != README} - reached == set()


def test_every_page_begins_with_one_heading() -> None:
    titles = {page: re.findall(r"^# (.+)$", _prose(page), re.MULTILINE) for page in pages()}

    assert {page.name: found for page, found in titles.items() if len(found) != 1} == {}


def _prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_glossary_is_alphabetical_and_says_each_word_once() -> None:
    terms = re.findall(r"^\*\*(.+)\*\*$", GLOSSARY.read_text("utf-8"), re.MULTILINE)

    assert len(terms) >= 30
    assert terms == sorted(set(terms), key=str.lower)


def test_glossary_explains_every_word() -> None:
    text = GLOSSARY.read_text("utf-8")

    assert len(re.findall(r"^\*\*.+\*\*\n: .+", text, re.MULTILINE)) == text.count("\n**")


def test_every_test_that_a_page_names_exists() -> None:
    named = {name for page in pages() for name in TEST_NAME.findall(page.read_text("utf-8"))}
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }

    assert len(named) >= 20
    assert named - there == set()


def test_the_map_of_the_repository_names_what_is_there() -> None:
    cells = [cells[0] for cells in rows(section(README, "Map of the repository"))]
    paths = [path for cell in cells for path in re.findall(r"`([^`]+)`", cell)]

    assert [path for path in paths if not (ROOT / path).exists()] == []
    folders = {path.name for path in (ROOT / "sercha").iterdir() if (path / "__init__.py").exists()}
    named = {path.removeprefix("sercha/") for path in paths}
    assert folders - named - {"settings", "telemetry", "testing"} == set()
