"""A DATABASE_URL that PostgreSQL does not let in: one clear error at the first start, patience afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from tests.support.postgres import PostgresServer
from tests.support.sercha import Sercha, clean_up, command, environment, run

START_SECONDS = 20


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    clean_up(tmp_path)


def settings(home: Path, url: str) -> dict[str, str]:
    return {
        "DATABASE_URL": url,
        "JWT_SECRET": "q8Zk" * 10,
        "MASTER_KEY": "a1" * 32,
        "DATA_DIR": str(home / "copy"),
        "HOST": "127.0.0.1",
        "PORT": "0",
    }


def refused_urls(server: PostgresServer) -> dict[str, tuple[str, str]]:
    """Return an address and words of the error for each reason."""
    password = quote(server.password, safe="")
    return {
        "password": (server.tcp_url.replace(password, "Hunter2"), "password authentication failed"),
        "no password": (server.tcp_url.replace(f":{password}", ""), "no password supplied"),
        "user": (server.url.replace("postgres@", "nobody@"), 'role "nobody" does not exist'),
        "database": (server.url_for("missing", tcp=True), 'database "missing" does not exist'),
    }


@pytest.mark.parametrize(
    ("role", "reason"),
    [
        *(("api", reason) for reason in ("password", "no password", "user", "database")),
        *(("up", reason) for reason in ("password", "database")),
        *((role, "password") for role in ("worker", "all", "migrate")),
    ],
)
def test_a_log_in_that_is_refused_ends_the_first_start(
    home: Path, postgres_server: PostgresServer, role: str, reason: str
) -> None:
    url, words = refused_urls(postgres_server)[reason]

    sercha = Sercha(home, role, **settings(home, url))

    assert sercha.wait(START_SECONDS) == 2, sercha.output
    (error,) = [line for line in sercha.lines if line.startswith("sercha: error: ")]
    assert error.startswith("sercha: error: DATABASE_URL: ")
    assert words in error
    assert "Hunter2" not in sercha.output
    assert postgres_server.password not in sercha.output
    assert "Traceback" not in sercha.output


def test_a_log_in_that_is_refused_later_is_waited_for(
    home: Path, postgres_server: PostgresServer, postgres_url: str
) -> None:
    """As after a failover to a server whose users are just being made."""
    database = str(psycopg.conninfo.conninfo_to_dict(postgres_url)["dbname"])
    postgres_server.execute("CREATE ROLE wanderer LOGIN SUPERUSER PASSWORD 'first'")
    url = postgres_server.url_for(database, tcp=True).replace(
        f"postgres:{quote(postgres_server.password, safe='')}", "wanderer:first"
    )
    variables = settings(home, url)
    try:
        migrated = run(command("migrate"), environment(home, **variables))
        assert migrated.returncode == 0, migrated.stderr
        sercha = Sercha(home, "all", **variables).wait_ready()
        postgres_server.execute("ALTER ROLE wanderer PASSWORD 'second'")
        postgres_server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'wanderer'"
        )
        sercha.wait_line("refuses the log-in")
        status, health = sercha.request("GET", "//health")
        assert status == 503, health
        assert "refuses the log-in" in json.dumps(health)

        postgres_server.execute("ALTER ROLE wanderer PASSWORD 'first'")
        deadline = time.monotonic() + START_SECONDS
        while sercha.request("GET", "//health")[0] != 200:
            assert time.monotonic() < deadline, sercha.output
            time.sleep(0.1)
        assert sercha.stop() == 0, sercha.output
    finally:
        clean_up(home)
        postgres_server.execute("DROP OWNED BY wanderer CASCADE", database)
        postgres_server.execute("DROP ROLE wanderer")
