"""`sercha user`: the team's users."""

from __future__ import annotations

import secrets
import sys
from functools import partial
from typing import Annotated

import typer

from sercha.cli.api import open_api
from sercha.cli.exits import run_async
from sercha.cli.login import PasswordStdin, read_password
from sercha.cli.show import print_json, print_table, safe
from sercha.domain.account import Role

app = typer.Typer(help="Add and list users.", no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def add(
    email: Annotated[str, typer.Argument(help="Address to log in with.")],
    name: Annotated[
        str | None,
        typer.Option("--name", help="By default the part before the @.", show_default=False),
    ] = None,
    role: Annotated[Role, typer.Option("--role", help="What the user may do.")] = Role.MEMBER,
    password_stdin: PasswordStdin = False,
    as_json: Json = False,
) -> None:
    """Add a user. Without a terminal and --password-stdin a password is made up and printed once."""
    is_made_up = not password_stdin and not sys.stdin.isatty()
    password = (
        secrets.token_urlsafe(12)
        if is_made_up
        else read_password(from_stdin=password_stdin, is_new=True)
    )
    body = {
        "email": email,
        "name": name or email.partition("@")[0],
        "role": role,
        "password": password,
    }
    run_async(partial(_add, body, shown=password if is_made_up else None, as_json=as_json))


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List all users."""
    run_async(partial(_list, as_json=as_json))


async def _add(body: dict[str, str], *, shown: str | None, as_json: bool) -> None:
    async with open_api() as api:
        user = await api.post("/users", body)
    if as_json:
        print_json({**user, "password": shown} if shown else user)
        return
    print(f"{safe(user['email'])}: added as {user['role']}")
    if shown:
        print(f"password: {shown}")


async def _list(*, as_json: bool) -> None:
    async with open_api() as api:
        users = await api.get("/users")
    if as_json:
        print_json(users)
        return
    print_table(
        ["email", "name", "role", "last log-in", "id"],
        [
            [
                each["email"],
                each["name"],
                each["role"],
                each.get("last_login_at", "never"),
                each["id"],
            ]
            for each in users
        ],
        empty="no users",
    )
