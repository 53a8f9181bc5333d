"""`sercha config`: shows all settings; needs neither a server nor a database."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer

from sercha.cli.exits import say_error
from sercha.cli.show import print_json, print_table
from sercha.errors import SettingsError
from sercha.settings import Role, Settings, describe, load_settings, unknown_variables

RoleOption = Annotated[
    Role | None,
    typer.Option("--role", help="For which process. [RUN_MODE, else up]", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("config")(config)


def config(
    role: RoleOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every setting, where it comes from and its default; secrets are masked."""
    settings = load_settings(os.environ, role=role or likely_role(os.environ))
    rows = describe(settings)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_table(
            ["setting", "value", "source", "default"],
            [[row.name, row.value or "-", row.source, row.default or "-"] for row in rows],
            empty="",
        )
    for unknown in unknown_variables(os.environ):
        nearest = f"; did you mean {unknown.nearest}?" if unknown.nearest else ""
        say_error(f"{unknown.name}: there is no such setting{nearest}")


def likely_role(environ: Mapping[str, str]) -> Role:
    """Guess which process the settings of this environment are for."""
    try:
        settings: Settings = load_settings(environ, role=Role.CLIENT)
    except SettingsError:
        return Role.UP
    return settings.run_mode if environ.get("RUN_MODE", "").strip() else Role.UP
