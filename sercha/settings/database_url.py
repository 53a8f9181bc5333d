"""Checks and masks the address of PostgreSQL without ever connecting or repeating a password."""

from __future__ import annotations

import re
from urllib.parse import quote

FORM = (
    "a PostgreSQL address such as `postgresql://user:password@host:5432/database` "
    "or `host=... dbname=...`"
)
_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": (
        "any",
        "read-write",
        "read-only",
        "primary",
        "standby",
        "prefer-standby",
    ),
}
_SECRETS = frozenset({"password", "sslpassword"})
_IN_URL = frozenset({"user", "password", "host", "port", "dbname"})


def parse_database_url(text: str) -> str:
    """Return *text* when libpq understands it.

    Raises:
        ValueError: saying what is allowed; what libpq says itself may hold the password and is left out.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme and scheme[1].lower() not in {"postgresql", "postgres"}:
        raise ValueError(f"{FORM}; the scheme given is `{scheme[1]}`")
    parts = _parts(text)
    ports = parts.get("port", "").split(",") if parts.get("port") else []
    if any(port and not (port.isdecimal() and 1 <= int(port) <= 65535) for port in ports):
        raise ValueError(f"{FORM}; a port is a number from 1 to 65535")
    hosts = parts.get("host", "").split(",")
    if len(ports) > 1 and len(ports) != len(hosts):
        raise ValueError(f"{FORM}; there are {len(hosts)} hosts and {len(ports)} ports")
    for name, allowed in _CHOICES.items():
        if name in parts and parts[name] not in allowed:
            raise ValueError(f"{FORM}; `{name}` is one of {', '.join(allowed)}")
    if not parts.get("connect_timeout", "0").isdecimal():
        raise ValueError(f"{FORM}; `connect_timeout` is a whole number of seconds")
    return text


def mask_database_url(text: str) -> str:
    """Return *text* as a URL with ``***`` in place of each password."""
    try:
        parts = _parts(text)
    except ValueError:
        return "***"
    hosts = parts.get("host", "").split(",")
    ports = parts.get("port", "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = [
        _host(host) + (f":{port}" if port else "") for host, port in zip(hosts, ports, strict=False)
    ]
    user = quote(parts.get("user", ""), safe="")
    login = user + (":***" if parts.get("password") else "")
    options = "&".join(
        f"{name}={'***' if name in _SECRETS else quote(value, safe='/')}"
        for name, value in sorted(parts.items())
        if name not in _IN_URL
    )
    address = f"{login}@" if login else ""
    database = quote(parts.get("dbname", ""), safe="")
    return f"postgresql://{address}{','.join(places)}/{database}" + (
        f"?{options}" if options else ""
    )


def _host(host: str) -> str:
    if ":" in host:
        return f"[{host}]"
    return quote(host, safe="")


def _parts(text: str) -> dict[str, str]:
    # Imported late: with it comes the whole driver, which no command needs that only asks a running Sercha.
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        return {name: str(value) for name, value in conninfo_to_dict(text).items()}
    except ProgrammingError as error:
        option = re.search(r'invalid URI query parameter: "(\w+)"', str(error))
        hint = f"; there is no option `{option[1]}`" if option else ""
        raise ValueError(f"{FORM}{hint}") from None
