"""The golden cases notice a stand-in that is wrong or too kind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from compileall import compile_dir
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

from tests.vespa.mutants import MUTANTS, Mutant

TESTS = Path(__file__).parents[2]
TIME_LIMIT = 120
FAILED = 1
"""pytest's exit status when a test failed; others say that none ran."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("VESPA_URL" in os.environ, reason="a real Vespa cannot be changed"),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a copy of the tests in which the stand-in can be changed."""
    folder = tmp_path_factory.mktemp("mutants")
    for name in ("vespa", "contract/vespa"):
        shutil.copytree(
            TESTS / name, folder / "tests" / name, ignore=shutil.ignore_patterns("__py*")
        )
    for name in ("__init__.py", "contract/__init__.py"):
        if (TESTS / name).exists():
            shutil.copy(TESTS / name, folder / "tests" / name)
    shutil.copytree(TESTS / "support", folder / "tests" / "support")
    shutil.copy(TESTS / "conftest.py", folder / "tests")
    shutil.copy(TESTS.parent / "pyproject.toml", folder)
    # Compiled once, and compared by content: what a mutant changes is compiled anew.
    compile_dir(folder, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    return folder


def run(folder: Path, case: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/contract/vespa/{case}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=TIME_LIMIT,
        check=False,
    )  # fmt: skip


def test_there_are_at_least_twenty() -> None:
    assert len({mutant.name for mutant in MUTANTS}) >= 20


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: Mutant, copy: Path) -> None:
    file = copy / "tests" / "vespa" / mutant.file
    source = file.read_text()
    assert source.count(mutant.old) == 1, "the source was changed: change the mutant, too"
    file.write_text(source.replace(mutant.old, mutant.new))
    try:
        done = run(copy, mutant.case)
    finally:
        file.write_text(source)
    assert done.returncode == FAILED, done.stdout + done.stderr
    assert " failed" in done.stdout
