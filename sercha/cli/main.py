"""The command ``sercha``: puts the groups together and turns every end into an exit status."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from sercha.cli import (
    config,
    database,
    doctor,
    events,
    index,
    leases,
    login,
    run,
    schedules,
    search,
    source,
    status,
    sync,
    tasks,
    users,
    vespa,
)
from sercha.cli.exits import Status, status_of
from sercha.version import __version__

app = typer.Typer(
    name="sercha",
    help="Self-hosted team search that stays up.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"sercha {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Self-hosted team search that stays up."""


for group in (run, database, login, search, sync, status, events, config, doctor):
    group.register(app)
app.add_typer(source.app, name="source")
app.add_typer(index.app, name="index")
app.add_typer(tasks.app, name="tasks")
app.add_typer(schedules.app, name="schedules")
app.add_typer(leases.app, name="lease")
app.add_typer(users.app, name="user")
app.add_typer(vespa.app, name="vespa")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status; see ``docs/reference/cli.md``."""
    sys.exit(_status(sys.argv[1:] if arguments is None else arguments))


def _status(arguments: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name of a file must never end a command because the terminal lacks a character.
            stream.reconfigure(errors="backslashreplace")
    try:
        ended: object = app(list(arguments), prog_name="sercha", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001, ASYNC103 - here every error becomes an exit status
        return status_of(error)
    return ended if isinstance(ended, int) else Status.DONE
