"""What a command imports: its own module, and for the health check next to nothing."""

from __future__ import annotations

import subprocess
import sys

import typer.main

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
