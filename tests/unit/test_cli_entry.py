"""What a command imports: its own module, and for the health check next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer.main

from sercha.cli.docs import commands
from sercha.cli.examples import EXAMPLES
from sercha.cli.main import MODULES, make_app

HEAVY = ("typer", "rich", "trio", "httpx", "psycopg", "pydantic")


def names(app: typer.Typer) -> set[str]:
    return set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_each_command_is_in_the_module_that_the_table_names() -> None:
    assert names(make_app()) == set(MODULES)
    for name in MODULES:
        assert name in names(make_app([name])), name


def test_a_command_alone_brings_only_those_of_its_module() -> None:
    assert names(make_app(["healthcheck"])) == {"status", "healthcheck", "version"}


def test_a_health_check_imports_next_to_nothing() -> None:
    script = (
        "import sys, sercha.cli.entry, sercha.cli.healthcheck;"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_garbage_is_collected_again_once_everything_is_imported() -> None:
    script = (
        "import gc\n"
        "import sercha.cli.main\n"
        "from sercha.cli import entry, exits\n"
        "said = []\n"
        "async def main(): said.append(gc.isenabled())\n"
        "def run(): said.append(gc.isenabled()); exits.run_async(main)\n"
        "sercha.cli.main.main = run\n"
        "entry.main()\n"
        "print(said, gc.get_freeze_count() > 10_000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[False, True] True"


def test_each_command_has_an_example_of_itself() -> None:
    for name, command in commands():
        words = name.removeprefix("sercha ")
        assert EXAMPLES[words].startswith(name), name
        assert command.epilog == f"Such as: {EXAMPLES[words]}"
    assert {name.removeprefix("sercha ") for name, _ in commands()} == set(EXAMPLES)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sercha sea", {"search"}),
        ("sercha source a", {"add"}),
        ("sercha tasks re", {"retry"}),
        ("sercha tasks list --st", {"--state"}),
    ],
)
def test_the_shell_completes_commands_and_options(words: str, expected: set[str]) -> None:
    environ = {
        **os.environ,
        "_SERCHA_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "sercha"], env=environ, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) == expected
