"""PgBouncer before a test's PostgreSQL server, in transaction mode."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.postgres import PostgresServer, free_port, run_as

START_SECONDS = 20


def pgbouncer_program() -> str | None:
    """Return the path of the program, or None where it is not installed."""
    return shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


@contextmanager
def pgbouncer(server: PostgresServer, *, pool_size: int = 2) -> Iterator[int]:
    """Run it under the server's account, since it refuses root; gives its port on 127.0.0.1.

    Whoever connects is the superuser `postgres`. *pool_size* is the number of connections to the server.
    """
    program = pgbouncer_program()
    assert program is not None
    port = free_port()
    lines = [
        "[databases]",
        f"* = host={server.socket_dir} port={server.port} user=postgres",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = any",
        "pool_mode = transaction",
        f"default_pool_size = {pool_size}",
    ]
    conf = server.put_file(f"pgbouncer-{port}.ini", "\n".join([*lines, ""]).encode())
    log = conf.with_suffix(".log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [program, str(conf)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            **run_as(server.account),
        )
    try:
        _wait_ready(process, port, log)
        yield port
    finally:
        process.kill()
        process.wait()


def _wait_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            psycopg.connect(address(port, "postgres"), connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            has_failed = process.poll() is not None or time.monotonic() > deadline
            assert not has_failed, f"no PgBouncer:\n{log.read_text()}"
        time.sleep(0.02)


def address(port: int, database: str) -> str:
    """Return the address of a database through the pooler."""
    return f"postgresql://postgres@127.0.0.1:{port}/{database}"
