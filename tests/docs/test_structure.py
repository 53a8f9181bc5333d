"""Limits on files and functions, and what no file of the project may hold."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.docs import README, ROOT, blocks, committed_files

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60
PACKAGES = ("sercha", "lockd", "tests", "benchmarks")

# Put together here, so that this file does not hold them itself.
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("files", "pythonhosted", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("conda", "anaconda", "org"),
    )
)
MACHINE_PATHS = (re.compile(r"(?<![\w.])/" + "work" + r"/"),)


def python_files() -> list[Path]:
    return sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def long_functions(source: str) -> dict[str, int]:
    """Return the functions over the limit with their numbers of lines, decorators left out."""
    return {
        each.name: lines
        for each in functions(ast.parse(source))
        if (lines := (each.end_lineno or each.lineno) - each.lineno + 1) > FUNCTION_LINES_MAX
    }


def texts() -> Iterator[tuple[str, str]]:
    """Give the committed files that are text, by name."""
    for path in committed_files():
        content = path.read_bytes()
        if b"\0" not in content:
            yield str(path.relative_to(ROOT)), content.decode("utf-8", "replace")


def test_no_file_is_longer_than_400_lines() -> None:
    counts = {
        str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines())
        for path in python_files()
    }

    assert len(counts) > 100
    assert {name: lines for name, lines in counts.items() if lines > FILE_LINES_MAX} == {}


def test_no_function_is_longer_than_60_lines() -> None:
    found = {
        str(path.relative_to(ROOT)): long
        for path in python_files()
        if (long := long_functions(path.read_text("utf-8")))
    }

    assert found == {}


def test_a_planted_long_function_is_found() -> None:
    body = "\n".join("    x = 1" for _ in range(FUNCTION_LINES_MAX))

    assert long_functions(f"def f():\n{body}\n") == {"f": FUNCTION_LINES_MAX + 1}
    assert long_functions("class C:\n    async def f(self):\n        pass\n") == {}


def test_the_two_commands_of_the_readme_are_in_the_makefile() -> None:
    first = blocks("bash")[0]
    makefile = (ROOT / "Makefile").read_text("utf-8")

    assert first.page == README
    commands = [line.split("#")[0].split() for line in first.text.splitlines()]
    assert commands == [["make", "run"], ["make", "test"]]
    for _, target in commands:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_no_file_names_a_package_registry() -> None:
    found = {name: host for name, text in texts() for host in REGISTRIES if host in text}

    assert found == {}


def test_no_file_names_a_path_of_the_machine_it_was_written_on() -> None:
    found = {name for name, text in texts() for path in MACHINE_PATHS if path.search(text)}

    assert found == set()


def test_a_planted_path_is_found() -> None:
    assert MACHINE_PATHS[0].search("see " + "/wor" + "k/main/x")
    assert not MACHINE_PATHS[0].search("docs" + "/wor" + "k/x")


def test_lock_files_hold_no_addresses() -> None:
    files = sorted((ROOT / "requirements").glob("*.txt"))

    assert len(files) >= 2
    assert [path.name for path in files if "://" in path.read_text("utf-8")] == []


def test_every_requirement_is_pinned() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        loose = [
            line
            for line in path.read_text("utf-8").splitlines()
            if line and not line.startswith(("#", " ")) and "==" not in line
        ]
        assert loose == [], path.name
