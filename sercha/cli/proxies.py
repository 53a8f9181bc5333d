"""The proxies that the environment names, as `httpx` reads it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
PROXY_SCHEMES = ("http://", "https://")
"""What a proxy's address may begin with; others need packages that Sercha does not bring."""


def proxy_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of *environ* that name a proxy, in either case, with their values."""
    names = (form for name in _VARIABLES for form in (name, name.lower()))
    return {name: environ[name] for name in names if environ.get(name)}


def proxy_variable(url: str, environ: Mapping[str, str]) -> str | None:
    """Return the name of the variable by whose proxy *url* is asked; None: it is asked directly."""
    parts = urlsplit(url)
    no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    host = f".{parts.hostname}"
    if any(
        name == "*" or (name and host.endswith("." + name.lstrip(".")))
        for name in map(str.strip, no_proxy.lower().split(","))
    ):
        return None
    given = proxy_variables(environ)
    names = (f"{parts.scheme}_proxy", "all_proxy")
    return next((form for name in names for form in (name, name.upper()) if form in given), None)
