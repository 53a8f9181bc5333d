"""Checks and masks the address of Redis without ever connecting, reading a file or repeating a password.

What is accepted here `lockd.redis` understands too, which a test holds; importing that would bring asyncio along.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

FORM = "a Redis address such as `redis://user:password@host:6379/0`, or `rediss://` for TLS"

_SCHEMES = ("redis", "rediss")
_TLS_OPTIONS = frozenset(
    {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "ssl_cert_reqs"}
)
_FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})


def parse_redis_url(text: str) -> str:
    """Return *text* when it is an address of Redis.

    Raises:
        ValueError: saying what is allowed, with no part of *text* that may be a password.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme and scheme[1].lower() not in _SCHEMES:
        raise ValueError(f"{FORM}; the scheme given is `{scheme[1]}`")
    parts, options = _split(text)
    for name, value in options.items():
        if name != "db" and (name not in _TLS_OPTIONS or parts.scheme != "rediss"):
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
    host = parts.hostname or ""
    place = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port else ""
    shown = [
        f"{name}={quote(value, safe='/') if name in {*_FILES, 'db'} or value.isalpha() else '***'}"
        for name, value in options.items()
        if name == "db" or name in _TLS_OPTIONS
    ]
    tail = f"?{'&'.join(shown)}" if shown else ""
    return f"{parts.scheme}://{login}{'@' if login else ''}{place}{port}{parts.path}{tail}"


def _split(text: str) -> tuple[SplitResult, dict[str, str]]:
    """Take *text* apart; whoever writes a password with ``/`` or ``#`` in it has to quote that."""
    try:
        parts = urlsplit(text)
        options = dict(
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        )
        database = options.get("db") or parts.path.strip("/") or "0"
        is_whole = (parts.port is None or parts.port > 0) and not parts.fragment
    except ValueError:
        raise ValueError(FORM) from None
    if parts.scheme not in _SCHEMES or not parts.hostname or not is_whole:
        raise ValueError(FORM)
    if not (database.isascii() and database.isdecimal() and len(database) < 6):
        raise ValueError(f"{FORM}; what follows the host is the number of the database")
    return parts, options
