"""Asking before something that cannot be undone."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from sercha.errors import WrongUsage

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def confirm(command: str, question: str, yes: bool) -> None:
    """Return when somebody at the terminal agrees, or has with ``--yes``.

    Raises:
        WrongUsage: there is nobody to ask.
        typer.Abort: they do not.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise WrongUsage(f"{command}: nobody can be asked here: confirm with --yes")
    typer.confirm(question, abort=True, err=True)
