"""lockd by itself: its own wheel, an environment with nothing but Trio, the example of its page."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.support.docs import DOCS, ROOT, blocks

PAGE = DOCS / "explanation" / "leases.md"
REFERENCE = DOCS / "reference" / "lockd.md"


def needed_by(name: str, found: set[str]) -> set[str]:
    """Return a distribution and all that it needs on this platform."""
    if name in found:
        return found
    found.add(name)
    for requirement in distribution(name).requires or []:
        if ";" not in requirement:
            needed_by(re.split(r"[\s<>=!~\[(]", requirement, maxsplit=1)[0], found)
    return found


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the interpreter of a fresh environment with lockd's wheel, Trio and what Trio needs."""
    place = tmp_path_factory.mktemp("alone")
    source = shutil.copytree(
        ROOT / "lockd", place / "source", ignore=shutil.ignore_patterns("__pycache__")
    )
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    venv.create(place / "venv", with_pip=False, symlinks=True)
    (packages,) = (place / "venv").glob("lib/python3.*/site-packages")
    shutil.unpack_archive(next(place.glob("lockd-*.whl")), packages, "zip")
    for name in sorted(needed_by("trio", set())):
        for file in distribution(name).files or []:
            if not str(file).startswith("..") and "__pycache__" not in file.parts:
                target = packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(str(file.locate())), target)
    return place / "venv/bin/python"


def run(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python), "-I", *arguments],
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_example_of_the_page_runs_with_trio_alone(python: Path, tmp_path: Path) -> None:
    (block,) = [each for each in blocks("python") if each.page == PAGE]
    program = tmp_path / "example.py"
    program.write_text(block.text)

    ended = run(python, str(program))

    assert ended.returncode == 0, ended.stderr
    lines = sorted(ended.stdout.splitlines())
    assert {line.split()[0] for line in lines} == {"first", "second"}
    assert sorted(line.rsplit(maxsplit=1)[-1] for line in lines) == ["1", "2"]


def test_no_driver_is_imported_and_a_missing_one_is_said(python: Path) -> None:
    imported = run(python, "-c", "import lockd, sys; print(*sorted(sys.modules))")

    assert imported.returncode == 0, imported.stderr
    assert {"psycopg", "redis", "trio_asyncio", "sercha"} & set(imported.stdout.split()) == set()
    for address, driver in (("redis://x", "trio_asyncio"), ("postgresql://x", "psycopg")):
        ended = run(python, "-m", "lockd.cli", "inspect", "n", "--store", address)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert f"driver is missing ({driver}" in ended.stderr


def test_the_reference_has_each_public_name(python: Path) -> None:
    listed = run(python, "-c", "import lockd; print(*lockd.EventKind, *lockd.LossReason)")
    text = REFERENCE.read_text("utf-8")

    names = listed.stdout.split()
    assert len(names) >= 15
    assert [name for name in names if f"`{name}`" not in text] == []
