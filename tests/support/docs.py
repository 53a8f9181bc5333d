"""The pages of the documentation as values: their links, headings and blocks of code."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"

_FENCE = re.compile(r"^(`{3,})(\w*)[^\n]*\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of one page."""

    page: Path
    language: str
    text: str
    line: int

    @property
    def name(self) -> str:
        """Where it is, for the report."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Return every page, the README first."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages in these languages."""
    return [
        Block(page, match[2], match[3], text.count("\n", 0, match.start()) + 1)
        for page in pages()
        for text in [page.read_text("utf-8")]
        for match in _FENCE.finditer(text)
        if match[2] in languages
    ]


def without_blocks(page: Path) -> str:
    """Return a page's text without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def prose(page: Path) -> str:
    """Return a page's text without any code."""
    return _INLINE_CODE.sub("", without_blocks(page))


def links(page: Path) -> list[str]:
    """Return what a page links to, pictures too."""
    return _LINK.findall(prose(page))


def headings(page: Path) -> list[str]:
    """Return a page's headings as they are written."""
    return _HEADING.findall(without_blocks(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors that a page's headings have on the usual code hosts."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in headings(page)
    }


def section(page: Path, heading: str) -> str:
    """Return the text below a heading, up to the next one of the same level or above."""
    text = page.read_text("utf-8")
    match = re.search(rf"^(#+) {re.escape(heading)}$", text, re.MULTILINE)
    assert match is not None, f"{page.name} has no heading {heading!r}"
    rest = text[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", rest, re.MULTILINE)
    return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables in a text, without heads and without backticks around a cell."""
    found: list[list[str]] = []
    is_body = False
    for line in text.splitlines():
        if not line.startswith("|"):
            is_body = False
        elif re.fullmatch(r"\|(?:\s*:?-+:?\s*\|)+", line):
            is_body = True
        elif is_body:
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            found.append([cell.strip().replace(r"\|", "|") for cell in cells])
    return found


def code(cell: str) -> str:
    """Return what stands between the backticks of a table's cell."""
    match = re.fullmatch(r"(`+) ?(.*?) ?\1", cell)
    assert match is not None, f"not one piece of code: {cell}"
    return match[2]


def committed_files() -> Iterator[Path]:
    """Return the files of the project: those that git knows or would take."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    for name in sorted(set(listed.stdout.decode().split("\0")) - {""}):
        if (path := ROOT / name).is_file():
            yield path
