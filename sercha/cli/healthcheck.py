"""`sercha healthcheck`: what containers run every few seconds, so it imports next to nothing."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from typing import cast

from sercha.errors import Unavailable, WrongUsage
from sercha.settings.load import load_setting
from sercha.settings.model import Role

PATIENCE = 4.0
"""Seconds; `/health` itself gives each of its components less."""
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound, only compared


def healthcheck() -> None:
    """Ask the process of this machine for its health; exit status 1 when it is unhealthy."""
    sys.exit(check(os.environ))


def check(environ: Mapping[str, str]) -> int:
    """Print what the process with these settings says of itself; return 0 where it answers 200, else 1.

    Raises:
        SettingsError: ``PORT`` or ``HOST`` has a value that is not allowed.
        WrongUsage: ``PORT`` is 0, so nobody knows.
        Unavailable: nothing answers there.
    """
    host, port = local_address(
        load_setting(environ, "HOST", role=Role.CLIENT),
        load_setting(environ, "PORT", role=Role.CLIENT),
    )
    connection = HTTPConnection(host, port, timeout=PATIENCE)
    try:
        connection.request("GET", "/health")
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, HTTPException) as error:
        url = local_url(host, port)
        raise Unavailable(f"nothing answers at {url}: {error}", code="no-answer") from None
    finally:
        connection.close()
    word = f"answered {answer.status}"
    try:
        said: object = json.loads(content)
        if isinstance(said, dict):
            word = str(cast("dict[str, object]", said).get("status", word))
    except ValueError:
        pass  # no Sercha, or a broken one: its status says enough
    print(word if word.isprintable() else f"answered {answer.status}")
    return 0 if answer.status == 200 else 1


def local_address(host: str, port: int | None) -> tuple[str, int]:
    """Return where a process with these settings answers on this machine.

    Raises:
        WrongUsage: *port* is 0 or none, so nobody knows.
    """
    if not port:
        raise WrongUsage("PORT: is 0 or not set: there is no port to ask")
    return _ANY_ADDRESS.get(host, host).strip("[]"), port


def local_url(host: str, port: int | None) -> str:
    """Return the address of `local_address` as a URL."""
    host, port = local_address(host, port)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
