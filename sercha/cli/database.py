"""`sercha migrate`: brings the schema of the database up to date."""

from __future__ import annotations

import sys
from functools import partial
from typing import Annotated

import typer

from sercha.cli.exits import Status, run_async
from sercha.cli.run import start
from sercha.cli.show import print_json
from sercha.settings import Role, Settings


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("migrate")(migrate)


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit status 1 if something is missing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring the schema of DATABASE_URL up to date; safe to run from many places at once."""
    settings = start(Role.MIGRATE, {})
    run_async(partial(_migrate, settings, is_check=check, as_json=as_json))


async def _migrate(settings: Settings, *, is_check: bool, as_json: bool) -> int:
    from sercha.adapters.postgres.errors import first_contact
    from sercha.adapters.postgres.migrate import migrate, schema_state
    from sercha.adapters.postgres.pool import open_pool

    assert settings.database_url is not None
    async with open_pool(
        settings.database_url, max_open=2, application_name="sercha migrate"
    ) as pool:
        with first_contact():
            names = (await schema_state(pool)).pending if is_check else await migrate(pool)
    if as_json:
        print_json({"pending" if is_check else "applied": list(names)})
    else:
        for name in names:
            print(f"{'pending' if is_check else 'applied'}: {name}")
        if not names:
            print("the schema is up to date", file=sys.stderr)
    return Status.FAILED if is_check and names else Status.DONE
