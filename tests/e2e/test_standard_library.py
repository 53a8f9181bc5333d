"""Real input: Python's own library. What `grep -wl` finds, a search finds, on all its pages.

The source is the library's folder itself, with every file as it is: all suffixes, hidden names, links, files
that are no text. Only what differs from machine to machine is left out: `site-packages` with its kin, and the
bytecode in `__pycache__`. grep gets the same folder and the same exceptions, and follows no link either: a link
inside is passed over, since its target is indexed, and one that leads out of the folder must be an issue.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sysconfig
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.sercha import Sercha, clean_up

WORDS = 50
LIBRARY = Path(sysconfig.get_paths()["stdlib"]).resolve()
LEFT_OUT = ("site-packages", "dist-packages", "__pycache__")
NO_WORDS_OF_BYTES = {"shift_jis.txt", "shift_jisx0213.txt"}
"""Texts in which grep sees words that nobody wrote: the second byte of a character there can be a letter."""
WORD = re.compile(rb"(?<![A-Za-z0-9_])[A-Za-z0-9_]{3,40}(?![A-Za-z0-9_])")
"""A word as `grep -w` sees it."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("library")
    yield home
    clean_up(home)


@pytest.fixture(scope="module")
def sercha(home: Path) -> Iterator[Sercha]:
    variables = {"LOCALFS_ALLOWED_ROOTS": str(LIBRARY)}
    arguments = ["up", "--data-dir", str(home / "data"), "--port", "0"]
    sercha = Sercha(home, *arguments, **variables).wait_ready()
    sercha.wait_line("log in:")
    left_out = [word for name in LEFT_OUT for word in ("--exclude", f"{name}/")]
    sercha.cli("source", "add", str(LIBRARY), "--include-hidden", *left_out, "--wait")
    yield sercha
    assert sercha.stop() == 0, sercha.output


@pytest.fixture(scope="module")
def token(sercha: Sercha) -> str:
    password = (sercha.home / "data/admin-password").read_text().strip()
    return sercha.login("admin@sercha.local", password)


@pytest.fixture(scope="module")
def source(sercha: Sercha, token: str) -> str:
    """Return the address of the only source."""
    status, sources = sercha.request("GET", "/sources", token=token)
    assert (status, len(sources)) == (200, 1)
    return f"/sources/{sources[0]['source']['id']}"


def _listed(sercha: Sercha, path: str, key: str, token: str) -> list[dict[str, Any]]:
    """Read all pages of a list."""
    found: list[dict[str, Any]] = []
    while True:
        address = f"{path}?limit=100&offset={len(found)}"
        status, page = sercha.request("GET", address, token=token)
        assert status == 200, page
        if not page[key]:
            return found
        found += page[key]


def _on_disk() -> tuple[set[Path], set[Path]]:
    """Return the library's files and its links."""
    files: set[Path] = set()
    links: set[Path] = set()
    for folder, folders, names in os.walk(LIBRARY):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        for path in (Path(folder, name) for name in (*folders, *names)):
            if path.is_symlink():
                links.add(path)
            elif path.is_file():
                files.add(path)
    return files, links


def _grep(*arguments: str) -> set[Path]:
    """Return the text files that grep finds."""
    left_out = [f"--exclude-dir={name}" for name in LEFT_OUT]
    found = subprocess.run(
        ["grep", "-rIl", *left_out, *arguments, "."],
        cwd=LIBRARY,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    paths = {LIBRARY / line.removeprefix("./") for line in found.stdout.splitlines()}
    return {path for path in paths if path.name not in NO_WORDS_OF_BYTES}


def _rare_words(rng: random.Random) -> list[str]:
    """Words as grep sees them, in one to ten files."""
    files_of: Counter[bytes] = Counter()
    for file in _grep("--", ""):
        files_of.update(set(WORD.findall(file.read_bytes())))
    rare = sorted(word for word, files in files_of.items() if files <= 10 and word.strip(b"_"))
    return [word.decode() for word in rng.sample(rare, WORDS)]


def _search_all(sercha: Sercha, word: str, token: str) -> list[Path]:
    paths: list[Path] = []
    while True:
        body = {"query": word, "limit": 100, "offset": len(paths)}
        status, page = sercha.request("POST", "/search", body, token=token)
        assert status == 200, page
        paths += [Path(hit["document"]["path"]) for hit in page["results"]]
        if not page["results"] or len(paths) >= page["total_count"]:
            assert len(paths) == page["total_count"]
            return paths


def _is_explained(path: Path, word: str) -> bool:
    """Whether the analysis explains a result that grep does not give: case, accents, parts of names.

    Folded to letters without case and accents, the word's parts stand one after another in the file's text
    or name, with nothing but signs between them.
    """
    haystack = _fold(f"{path}\n" + path.read_bytes().decode("utf-8", "replace"))
    parts = re.findall(r"[a-z]+|[0-9]+", _fold(_split_camel(word)))
    return re.search(r"[\W_]*".join(map(re.escape, parts)), haystack) is not None


def _split_camel(word: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", word)


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(char for char in decomposed if not unicodedata.combining(char)).lower()


def test_every_file_that_grep_finds_is_found(sercha: Sercha, token: str, seed: int) -> None:
    extra = 0
    for word in _rare_words(random.Random(seed)):
        expected = _grep("-w", "--", word)
        found = _search_all(sercha, word, token)

        assert expected, word
        assert len(found) == len(set(found)), word
        assert expected <= set(found), (word, expected - set(found))
        unexplained = [path for path in set(found) - expected if not _is_explained(path, word)]
        assert unexplained == [], word
        extra += len(set(found) - expected)
    print(f"{WORDS} words; results beyond grep's, all explained by the analysis: {extra}")


def test_every_file_is_one_document_or_has_a_reason(
    sercha: Sercha, source: str, token: str
) -> None:
    documents = [
        each["path"] for each in _listed(sercha, f"{source}/documents", "documents", token)
    ]
    issues = {
        each["external_id"]: each["code"]
        for each in _listed(sercha, f"{source}/issues", "issues", token)
    }
    files, links = _on_disk()
    inside = {link for link in links if link.exists() and link.resolve().is_relative_to(LIBRARY)}
    leading_out = links - inside
    cut_off = {path for path, code in issues.items() if code == "truncated"}

    assert len(documents) == len(set(documents))
    assert {*map(Path, documents), *map(Path, issues)} == files | leading_out
    assert set(documents) & issues.keys() == cut_off
    assert {issues[str(link)] for link in leading_out} <= {"link-outside", "broken-link"}
    assert {issues[str(path)] for path in files if str(path) in issues} <= {
        "binary",
        "too-large",
        "truncated",
    }
    print(f"{len(documents)} documents, {len(issues)} issues, {len(links)} links")


def test_a_second_sync_reads_nothing(sercha: Sercha, source: str, token: str) -> None:
    sercha.cli("sync", "--all", "--wait")
    status, state = sercha.request("GET", f"{source}/sync", token=token)
    documents = _listed(sercha, f"{source}/documents", "documents", token)

    assert status == 200
    assert state["stats"]["documents_read"] == 0
    assert state["stats"]["documents_unchanged"] >= len(documents)
