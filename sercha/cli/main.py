"""The command ``sercha``: puts the groups together and turns every end into an exit status."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Annotated

import typer

from sercha.cli.examples import EXAMPLES
from sercha.cli.exits import Status, status_of
from sercha.version import __version__

MODULES = {
    "up": "run",
    "api": "run",
    "worker": "run",
    "all": "run",
    "run": "run",
    "migrate": "database",
    "setup": "login",
    "login": "login",
    "logout": "login",
    "search": "search",
    "sync": "sync",
    "status": "status",
    "healthcheck": "status",
    "version": "status",
    "events": "events",
    "config": "config",
    "doctor": "doctor",
    "source": "source",
    "index": "index",
    "tasks": "tasks",
    "schedules": "schedules",
    "lease": "leases",
    "user": "users",
    "vespa": "vespa",
}
"""Which module of this package has a command or a group of commands. Only that one is imported: a health check that
runs all day must not cost what all of them need."""


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"sercha {__version__}")
        raise typer.Exit


def make_app(names: Iterable[str] = MODULES) -> typer.Typer:
    """Make the command line with these commands and groups; with all of them by default."""
    app = typer.Typer(
        name="sercha",
        help="Self-hosted team search that stays up.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    for name in dict.fromkeys(MODULES[name] for name in names):
        module = import_module(f"sercha.cli.{name}")
        if hasattr(module, "register"):
            module.register(app)
        else:
            group = next(word for word, where in MODULES.items() if where == name)
            app.add_typer(module.app, name=group)
            _add_examples(module.app, f"{group} ")
    _add_examples(app)
    return app


def _add_examples(app: typer.Typer, group: str = "") -> None:
    for command in app.registered_commands:
        assert command.callback is not None, "typer makes no command without one"
        name = command.name or command.callback.__name__.rstrip("_")
        command.epilog = f"Such as: {EXAMPLES[group + name]}"


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Self-hosted team search that stays up."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status; see ``docs/reference/cli.md``."""
    sys.exit(_status(sys.argv[1:] if arguments is None else arguments))


def _status(arguments: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A name of a file must never end a command because the terminal lacks a character.
            stream.reconfigure(errors="backslashreplace")
    asked = next((word for word in arguments if not word.startswith("-")), "")
    app = make_app([asked] if asked in MODULES else MODULES)
    try:
        ended: object = app(list(arguments), prog_name="sercha", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001, ASYNC103 - here every error becomes an exit status
        return status_of(error)
    return ended if isinstance(ended, int) else Status.DONE
