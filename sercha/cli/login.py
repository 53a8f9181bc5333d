"""Who we are: `setup`, `login`, `logout`."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Annotated

import typer

from sercha.cli.api import Access, find_access, open_api, with_tokens
from sercha.cli.exits import run_async
from sercha.cli.profile import (
    Profile,
    load_profile,
    lock_profile,
    profile_path,
    save_profile,
)
from sercha.cli.show import safe
from sercha.errors import Rejected, SerchaError, WrongUsage
from sercha.settings import Role, load_settings
from sercha.settings.parsing import parse_http_url

Url = Annotated[
    str | None, typer.Option("--url", help="Address of Sercha. [SERCHA_URL]", show_default=False)
]
PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to *app*."""
    for command in (setup, login, logout):
        app.command()(command)


def setup(
    email: Annotated[str, typer.Option("--email", help="Address to log in with.")],
    name: Annotated[str, typer.Option("--name", help="Name that others see.")] = "Administrator",
    url: Url = None,
    setup_token: Annotated[
        str | None,
        typer.Option(
            "--setup-token", help="Where the server demands one. [SETUP_TOKEN]", show_default=False
        ),
    ] = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Make the first administrator of a fresh Sercha and log in."""
    address = _address(url)
    settings = load_settings(os.environ, role=Role.CLIENT)
    password = read_password(from_stdin=password_stdin, is_new=True)
    body = {"email": email, "name": name, "password": password}
    if token := setup_token or settings.setup_token:
        body["setup_token"] = token
    run_async(partial(_setup, address, body))


def login(
    email: Annotated[str, typer.Option("--email", help="Address to log in with.", prompt=True)],
    url: Url = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Log in and keep the log-in in the profile."""
    address = _address(url)
    password = read_password(from_stdin=password_stdin, is_new=False)
    run_async(partial(_login, address, email, password))


def logout() -> None:
    """End the session and forget its tokens."""
    run_async(_logout)


def read_password(*, from_stdin: bool, is_new: bool) -> str:
    """Ask for a password, or take the first line of stdin.

    Raises:
        WrongUsage: nobody is there to be asked.
    """
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif not sys.stdin.isatty():
        raise WrongUsage("there is no terminal to ask for the password: use --password-stdin")
    else:
        password = str(
            typer.prompt("Password", hide_input=True, confirmation_prompt=is_new, err=True)
        )
    if not password:
        raise WrongUsage("the password is empty")
    return password


async def _setup(url: str, body: dict[str, str]) -> None:
    async with open_api(Access(url)) as api:
        await api.post("/setup", body)
    await _login(url, body["email"], body["password"])


async def _login(url: str, email: str, password: str) -> None:
    async with open_api(Access(url)) as api:
        answer = await api.post("/auth/login", {"email": email, "password": password})
    path = profile_path(os.environ)
    async with lock_profile(path):
        save_profile(path, with_tokens(Profile(url, email=email), answer))
    print(f"logged in at {url} as {safe(email)}")


async def _logout() -> None:
    path = profile_path(os.environ)
    profile = load_profile(path)
    if profile is None:
        raise Rejected("nobody is logged in", code="no-profile")
    try:
        async with open_api(Access(profile.url, profile_path=path)) as api:
            await api.post("/auth/logout")
    except SerchaError as error:
        # The tokens are forgotten here in any case.
        print(f"sercha: warning: {safe(error.message)}", file=sys.stderr)
    async with lock_profile(path):
        save_profile(path, Profile(profile.url, data_dir=profile.data_dir))
    print(f"logged out of {profile.url}")


def _address(url: str | None) -> str:
    if url is None:
        return find_access(os.environ).url
    try:
        return parse_http_url(url)
    except ValueError as error:
        raise WrongUsage(f"--url: {url!r} is not allowed; allowed: {error}") from None
