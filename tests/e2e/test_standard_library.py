"""Real input: Python's own library. What `grep -wl` finds, a search finds, on all its pages."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sysconfig
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sercha import Sercha, clean_up

WORDS = 50
LIBRARY = Path(sysconfig.get_paths()["stdlib"])
LEFT_OUT = ("site-packages", "__pycache__", "dist-packages")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("library")
    yield home
    clean_up(home)


@pytest.fixture(scope="module")
def library(home: Path) -> Path:
    """The library's own text files, copied: site-packages differ from machine to machine."""
    target = home / "library"
    for file in sorted(LIBRARY.rglob("*")):
        inner = file.relative_to(LIBRARY)
        if file.is_file() and not set(inner.parts) & set(LEFT_OUT) and file.suffix in TEXT:
            copy = target / inner
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    return target


TEXT = {".py", ".txt", ".rst", ".md", ".cfg", ".toml", ".html", ".xml", ".css", ".pem", ".decTest"}


@pytest.fixture(scope="module")
def sercha(home: Path, library: Path) -> Iterator[Sercha]:
    sercha = Sercha(
        home, "up", "--data-dir", str(home / "data"), "--port", "0", "--index", str(library)
    ).wait_ready()
    sercha.cli("sync", "--all", "--wait")
    yield sercha
    assert sercha.stop() == 0, sercha.output


@pytest.fixture(scope="module")
def token(sercha: Sercha) -> str:
    sercha.wait_line("log in:")
    password = (sercha.home / "data/admin-password").read_text().strip()
    return sercha.login("admin@sercha.local", password)


def _rare_words(library: Path, rng: random.Random) -> list[str]:
    """Words as grep sees them, in one to ten files."""
    files_of: Counter[str] = Counter()
    for file in library.rglob("*"):
        if file.is_file():
            text = file.read_bytes().decode("utf-8", "ignore")
            files_of.update(set(re.findall(r"\b[A-Za-z0-9_]{3,40}\b", text)))
    rare = sorted(word for word, files in files_of.items() if files <= 10 and word.strip("_"))
    return rng.sample(rare, WORDS)


def _grep(library: Path, word: str) -> set[str]:
    found = subprocess.run(
        ["grep", "-rIlw", "--", word, "."],
        cwd=library,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    return {str(library / line.removeprefix("./")) for line in found.stdout.splitlines()}


def _search_all(sercha: Sercha, word: str, token: str) -> list[str]:
    paths: list[str] = []
    while True:
        status, page = sercha.request(
            "POST", "/search", {"query": word, "limit": 100, "offset": len(paths)}, token=token
        )
        assert status == 200, page
        paths += [hit["document"]["path"] for hit in page["results"]]
        if not page["results"] or len(paths) >= page["total_count"]:
            assert len(paths) == page["total_count"]
            return paths


def _is_explained(path: str, word: str) -> bool:
    """Whether the analysis explains a result that grep does not give: case, accents, parts of names.

    Folded to letters without case and accents, the word's parts stand one after another in the file's text
    or name, with nothing but signs between them.
    """
    haystack = _fold(path + "\n" + Path(path).read_bytes().decode("utf-8", "replace"))
    parts = re.findall(r"[a-z]+|[0-9]+", _fold(_split_camel(word)))
    return re.search(r"[\W_]*".join(map(re.escape, parts)), haystack) is not None


def _split_camel(word: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", word)


def _fold(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(char for char in decomposed if not unicodedata.combining(char)).lower()


def test_every_file_that_grep_finds_is_found(
    sercha: Sercha, library: Path, token: str, seed: int
) -> None:
    extra = 0
    for word in _rare_words(library, random.Random(seed)):
        expected = _grep(library, word)
        found = _search_all(sercha, word, token)

        assert expected, word
        assert len(found) == len(set(found)), word
        assert expected <= set(found), (word, expected - set(found))
        unexplained = [path for path in set(found) - expected if not _is_explained(path, word)]
        assert unexplained == [], word
        extra += len(set(found) - expected)
    print(f"{WORDS} words; results beyond grep's, all explained by the analysis: {extra}")


def test_a_second_sync_reads_nothing(sercha: Sercha, token: str) -> None:
    # The first run after a copy may read files again whose times were too fresh to be trusted.
    sercha.cli("sync", "--all", "--wait")
    sercha.cli("sync", "--all", "--wait")
    (source,) = json.loads(sercha.cli("source", "list", "--json").stdout)
    status, state = sercha.request("GET", f"/sources/{source['id']}/sync", token=token)

    assert status == 200
    assert state["stats"]["documents_read"] == 0
    assert state["stats"]["documents_unchanged"] >= source["document_count"]
