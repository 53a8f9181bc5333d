"""Checks and masks the address of Redis without ever connecting, reading a file or repeating a password.

What is accepted here `lockd.redis` understands too, which a test holds; importing that would bring asyncio along.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

FORM = (
    "a Redis address such as `redis://user:password@host:6379/0`, `rediss://` for TLS, or "
    "`redis+sentinel://:password@h1:26379,h2:26379/service/0`"
)

_SENTINEL = "+sentinel"
_SCHEMES = ("redis", "rediss", f"redis{_SENTINEL}", f"rediss{_SENTINEL}")
_TLS_OPTIONS = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs"}
)
_SHOWN = _TLS_OPTIONS | {"db"}


def parse_redis_url(text: str) -> str:
    """Return *text* when it is an address of Redis.

    Raises:
        ValueError: saying what is allowed, with no part of *text* that may be a password.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme and scheme[1].lower() not in _SCHEMES:
        raise ValueError(f"{FORM}; the scheme given is `{scheme[1]}`")
    parts, options = _split(text)
    allowed = {"db", *(_TLS_OPTIONS if parts.scheme.startswith("rediss") else ())}
    if parts.scheme.endswith(_SENTINEL):
        allowed.add("sentinel_password")
    for name, value in options.items():
        if name not in allowed:
            what = name if name.isidentifier() and len(name) < 30 else "of this name"
            raise ValueError(f"{FORM}; there is no option {what} for `{parts.scheme}://`")
        if name == "ssl_cert_reqs" and value not in {"required", "none"}:
            raise ValueError(f"{FORM}; `ssl_cert_reqs` is required or none")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError(f"{FORM}; `ssl_keyfile` goes with `ssl_certfile`")
    return text


def mask_redis_url(text: str) -> str:
    """Return *text* with ``***`` in place of the password."""
    try:
        parts, options = _split(text)
    except ValueError:
        return "***"
    user = quote(unquote(parts.username or ""), safe="")
    login = user + (":***" if parts.password else "")
    place = _places(parts)
    shown = [
        f"{name}={quote(value, safe='/') if name in _SHOWN else '***'}"
        for name, value in options.items()
    ]
    tail = f"?{'&'.join(shown)}" if shown else ""
    return f"{parts.scheme}://{login}{'@' if login else ''}{place}{parts.path}{tail}"


def _split(text: str) -> tuple[SplitResult, dict[str, str]]:
    """Take *text* apart; whoever writes a password with ``/`` or ``#`` in it has to quote that."""
    try:
        parts = urlsplit(_one_host(text))
        options = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        )
        service, number = "", parts.path
        if parts.scheme.endswith(_SENTINEL):
            service, _, number = parts.path.removeprefix("/").partition("/")
        database = options.get("db") or number.strip("/") or "0"
        places = _places(parts).split(",") if service else [parts.netloc]
        are_whole = all(_is_place(place) for place in places) and not parts.fragment
    except ValueError:
        raise ValueError(FORM) from None
    if parts.scheme not in _SCHEMES or not are_whole:
        raise ValueError(FORM)
    if parts.scheme.endswith(_SENTINEL) and not service:
        raise ValueError(f"{FORM}; what follows the hosts is the name of the service")
    if not (database.isascii() and database.isdecimal() and len(database) < 6):
        raise ValueError(f"{FORM}; what follows the host is the number of the database")
    return parts, options


def _one_host(text: str) -> str:
    """Hide the brackets in a list of Sentinels, which some releases of urlsplit take for a broken host."""
    is_list = f"{_SENTINEL}://" in text
    return text.replace("[", "%5B").replace("]", "%5D") if is_list else text


def _places(parts: SplitResult) -> str:
    """Return the host or hosts with their ports."""
    return parts.netloc.rpartition("@")[2].replace("%5B", "[").replace("%5D", "]")


def _is_place(text: str) -> bool:
    """Say whether this is a host with or without a port; raises `ValueError` for a port that is none."""
    parts = urlsplit(f"//{text}")
    return bool(parts.hostname) and (parts.port is None or parts.port > 0)
