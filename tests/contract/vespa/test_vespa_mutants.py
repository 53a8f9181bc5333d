"""The golden cases notice a stand-in that is wrong or too kind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from compileall import compile_dir
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode

import pytest

from tests.support.forked_pytest import ForkedPytest, Outcome, forked_pytest
from tests.vespa.mutants import MUTANTS, Mutant

TESTS = Path(__file__).parents[2]
TIME_LIMIT = 120
PASSED, FAILED = 0, 1
"""pytest's exit status when all tests passed, or one failed; others say that none ran."""
PLUGINS = ("pytest_trio.plugin",)
LIBRARIES = ("httpx", "h2.connection", "hypercorn.trio.tcp_server", "hypercorn.protocol.h2", "trio")
"""What all cases need, and no mutant changes."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("VESPA_URL" in os.environ, reason="a real Vespa cannot be changed"),
]


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of the stand-in and its cases, to change and to run."""

    folder: Path
    pytest: ForkedPytest

    def run(self, *cases: str) -> Outcome:
        """Run cases up to the first that fails."""
        return self.pytest.run(
            *("-q", "-x", "-p", "no:cacheprovider", "--assert=plain"),
            *(word for plugin in PLUGINS for word in ("-p", plugin)),
            *(f"tests/contract/vespa/{case}" for case in cases),
        )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Copy]:
    """Give a copy of the stand-in and its cases, without the fixtures of other tests: they take long to import."""
    folder = tmp_path_factory.mktemp("mutants")
    for name in ("vespa", "contract/vespa"):
        shutil.copytree(
            TESTS / name, folder / "tests" / name, ignore=shutil.ignore_patterns("__py*")
        )
    shutil.copy(TESTS / "__init__.py", folder / "tests")
    shutil.copy(TESTS.parent / "pyproject.toml", folder)
    # Compiled once, and compared by content: what a mutant changes is compiled anew.
    compile_dir(folder, quiet=1, invalidation_mode=PycInvalidationMode.CHECKED_HASH)
    environ = {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    with forked_pytest(
        folder, environ, seconds=TIME_LIMIT, modules=(*PLUGINS, *LIBRARIES)
    ) as process:
        yield Copy(folder, process)


def test_there_are_at_least_twenty() -> None:
    assert len({mutant.name for mutant in MUTANTS}) >= 20


def test_without_a_mutant_they_pass(copy: Copy) -> None:
    one_of_each_file = {mutant.case.partition("::")[0]: mutant.case for mutant in MUTANTS}
    done = copy.run(*one_of_each_file.values())
    assert done.status == PASSED, done.output
    assert " passed" in done.output


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: Mutant, copy: Copy) -> None:
    file = copy.folder / "tests" / "vespa" / mutant.file
    source = file.read_text()
    assert source.count(mutant.old) == 1, "the source was changed: change the mutant, too"
    file.write_text(source.replace(mutant.old, mutant.new))
    try:
        done = copy.run(mutant.case)
    finally:
        file.write_text(source)
    assert done.status == FAILED, done.output
    assert " failed" in done.output
