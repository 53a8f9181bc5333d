"""From a connection string to the attempts to make, in order, without ever blocking the loop on a name.

libpq would look up names itself, and block. So each host of the string becomes an attempt of its own with its
addresses found by Trio; what libpq can do without blocking (TLS, ``target_session_attrs``) is left to it.
"""

# pyright: reportPrivateUsage=false
# psycopg keeps its parsing of several hosts half private; the version is pinned and a test holds each name.

from __future__ import annotations

import random
import socket

import trio
from psycopg import ProgrammingError
from psycopg._conninfo_utils import get_param, get_param_def, is_ip_address, split_attempts
from psycopg.abc import ConnDict

CONNECT_TIMEOUT = 10.0
"""Seconds for one attempt when the string has no ``connect_timeout``."""

DEFAULTS: dict[str, str | int] = {
    # A vanished peer is noticed within about 11 s while we wait for it, and within 10 s while we send.
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    # Looking for Kerberos tickets can block on a network.
    "gssencmode": "disable",
}
"""Parameters that hold unless the string or a ``PG*`` variable has its own."""


def with_defaults(params: ConnDict) -> ConnDict:
    """Add `DEFAULTS` where neither *params* nor the environment say anything."""
    missing = {name: value for name, value in DEFAULTS.items() if get_param(params, name) is None}
    return {**missing, **params}


def connect_timeout(params: ConnDict) -> float:
    """Seconds for one attempt: at least 2 as with libpq, `CONNECT_TIMEOUT` when not given or not above 0."""
    text = get_param(params, "connect_timeout")
    if text is None:
        return CONNECT_TIMEOUT
    try:
        seconds = float(text)
    except ValueError:
        raise ProgrammingError(
            f"connect_timeout must be a number of seconds, not {text!r}"
        ) from None
    return max(seconds, 2.0) if seconds > 0 else CONNECT_TIMEOUT


def plan(params: ConnDict) -> list[ConnDict]:
    """Split *params* into one set for each host to try, in order."""
    attempts = split_attempts(params)
    if get_param(params, "load_balance_hosts") == "random":
        random.shuffle(attempts)
    if get_param(params, "target_session_attrs") == "prefer-standby":
        # One host at a time cannot prefer anything: standbys first, then whatever there is.
        standbys = [{**each, "target_session_attrs": "standby"} for each in attempts]
        attempts = standbys + [{**each, "target_session_attrs": "any"} for each in attempts]
    return attempts


async def resolve(params: ConnDict) -> list[ConnDict]:
    """Find the addresses of the host in *params*; one set of parameters for each.

    ``host`` stays beside ``hostaddr``: TLS checks the certificate against it.

    Raises:
        OSError: the name is not known.
    """
    host = get_param(params, "host")
    if not host or host.startswith(("/", "@")) or get_param(params, "hostaddr"):
        return [params]
    if is_ip_address(host):
        return [{**params, "hostaddr": host}]
    default = get_param_def("port")
    port = get_param(params, "port") or (default and default.compiled) or "5432"
    found = await trio.socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    addresses = dict.fromkeys(str(entry[4][0]) for entry in found)
    return [{**params, "hostaddr": address} for address in addresses]
