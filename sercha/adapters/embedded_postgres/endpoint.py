"""How clients reach the embedded server: a socket in its own folder, or loopback where that cannot be.

Both ask for the password. A socket's path has a small limit, and libpq takes a comma for the next host.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from sercha.adapters.embedded_postgres.cluster import DATABASE, ROLE
from sercha.errors import Rejected

LOOPBACK = "127.0.0.1"
SOCKET_PORT = 5432
SOCKET_BYTES_MAX = 107 if sys.platform == "linux" else 103
CONNECT_SECONDS = 5
REFUSALS = ("password authentication failed", "no pg_hba.conf entry")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address: the socket's folder or 127.0.0.1, and a port."""

    host: str
    port: int

    @property
    def is_socket(self) -> bool:
        """Whether clients come over a socket."""
        return self.host.startswith("/")

    def conninfo(self, password: str, database: str = DATABASE) -> str:
        """Return the URL of a database there, for the superuser."""
        login = f"{ROLE}:{quote(password, safe='')}"
        if self.is_socket:
            host = quote(self.host, safe="")
            return f"postgresql://{login}@/{database}?host={host}&port={self.port}"
        return f"postgresql://{login}@{self.host}:{self.port}/{database}?sslmode=disable"

    def settings(self) -> dict[str, str]:
        """Return the settings that make the server listen here and nowhere else."""
        if self.is_socket:
            # The server stands in its data folder, so its own path is short and needs no quotes.
            place = {"listen_addresses": "", "unix_socket_directories": "."}
        else:
            place = {"listen_addresses": self.host, "unix_socket_directories": ""}
        return {"port": str(self.port), "unix_socket_permissions": "0700", **place}


def choose_endpoint(data: Path) -> Endpoint:
    """Return the socket in this data folder if clients can name it, else a free port of loopback."""
    path = os.fspath(data)
    length = len(os.fsencode(path)) + len(f"/.s.PGSQL.{SOCKET_PORT}")
    if length <= SOCKET_BYTES_MAX and "," not in path and _is_text(path):
        return Endpoint(path, SOCKET_PORT)
    with closing(socket.socket()) as probe:
        probe.bind((LOOPBACK, 0))
        return Endpoint(LOOPBACK, int(probe.getsockname()[1]))


def try_server(endpoint: Endpoint, password: str) -> bool:
    """Say whether the server answers, and see to it that the database exists; blocks for seconds.

    Raises `Rejected` (`data-dir-cluster`) when it refuses our password.
    """
    address = endpoint.conninfo(password, "postgres")
    try:
        with psycopg.connect(
            address, autocommit=True, connect_timeout=CONNECT_SECONDS
        ) as connection:
            found = connection.execute(
                "select 1 from pg_database where datname = %s", [DATABASE]
            ).fetchone()
            if found is None:
                connection.execute("create database sercha template template0 encoding 'UTF8'")
    except psycopg.OperationalError as error:
        if any(words in str(error) for words in REFUSALS):
            raise Rejected(
                "the embedded PostgreSQL refuses the password in postgres.password: bring the file "
                "of this cluster back, or choose another folder with --data-dir and index again",
                code="data-dir-cluster",
            ) from error
        return False
    return True


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return path.isprintable()
