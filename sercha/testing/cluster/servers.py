"""PostgreSQL and Valkey, as members: their programs come from the wheels of ``sercha[embedded]``."""

from __future__ import annotations

import os
import secrets
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

import trio

from sercha.adapters.embedded_postgres.installation import (
    Installation,
    find_installation,
    usable_installation,
)
from sercha.adapters.embedded_redis.place import find_program, usable_program
from sercha.adapters.embedded_servers.account import ENVIRONMENT, Account, choose_account
from sercha.adapters.embedded_servers.shelter import SHELTER
from sercha.testing.cluster.member import Host, Member

POSTGRES_PORT, REDIS_PORT = 5432, 6379
CONNECTIONS_MAX = 200


@dataclass(frozen=True, slots=True)
class Place:
    """Where servers live: a folder that their account may use."""

    folder: Path
    account: Account

    def subfolder(self, name: str) -> Path:
        """Make a folder of the servers' account."""
        folder = self.folder / name
        folder.mkdir(mode=0o700)
        self.account.give(folder)
        return folder


def make_place() -> Place:
    """Make the folder; in memory where there is room, since every commit is flushed."""
    memory = Path("/dev/shm")  # noqa: S108  not a file of ours: a place in memory
    base = memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())
    folder = Path(tempfile.mkdtemp(prefix=f"sercha-cluster-{os.getpid()}-", dir=base))
    folder.chmod(0o755)
    return Place(folder, choose_account(os.geteuid()))


@dataclass(frozen=True, slots=True)
class Postgres:
    """PostgreSQL with flushed commits; its socket is how the test itself gets to it, whatever the network does."""

    member: Member
    folder: Path
    password: str

    @property
    def local_url(self) -> str:
        """The address over its socket."""
        return f"postgresql://postgres:{self.password}@/postgres?host={self.folder}"

    def url(self, host: str, port: int = POSTGRES_PORT) -> str:
        """The address over the network."""
        return f"postgresql://postgres:{self.password}@{host}:{port}/postgres?connect_timeout=3"


async def make_postgres(place: Place, host: Host) -> Postgres:
    """Make a cluster of PostgreSQL, not started."""
    installation = await trio.to_thread.run_sync(
        usable_installation, find_installation(), place.account, SHELTER
    )
    folder = place.subfolder("postgres")
    password = secrets.token_urlsafe(16)
    data = folder / "data"
    await _init(installation, place, data, folder / "password", password)
    settings = {
        "port": str(POSTGRES_PORT),
        "unix_socket_directories": str(folder),
        "max_connections": str(CONNECTIONS_MAX),
        "shared_buffers": "64MB",
        "fsync": "on",
        "synchronous_commit": "on",
        "timezone": "UTC",
    }
    with (data / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    with (data / "pg_hba.conf").open("a") as file:
        file.write("host all all all scram-sha-256\n")
    member = Member(
        name="postgres",
        host=host,
        command=lambda at: [
            installation.program("postgres"),
            "-D",
            str(data),
            "-c",
            f"listen_addresses={at.address}",
        ],
        log_file=place.folder / "postgres.log",
        environment=lambda _: ENVIRONMENT,
        is_usable=_postgres_answers,
        account=place.account,
        stop_signal=signal.SIGINT,
    )
    return Postgres(member, folder, password)


async def _init(
    installation: Installation, place: Place, data: Path, secret: Path, password: str
) -> None:
    _write_secret(secret, password, place.account)
    await trio.run_process(
        [
            installation.program("initdb"),
            f"--pgdata={data}",
            "--username=postgres",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ],
        capture_stdout=True,
        cwd="/",
        env=ENVIRONMENT,
        **place.account.identity(),
    )
    await trio.Path(secret).unlink()


def _write_secret(file: Path, content: str, account: Account) -> None:
    file.touch(mode=0o600)
    file.write_text(content)
    account.give(file)


async def _postgres_answers(member: Member) -> bool:
    return member.has_said("ready to accept connections")


@dataclass(frozen=True, slots=True)
class Redis:
    """Valkey with an append-only file."""

    member: Member
    folder: Path
    password: str

    def url(self, host: str, port: int = REDIS_PORT) -> str:
        """The address over the network."""
        return f"redis://:{self.password}@{host}:{port}/0"

    async def wipe(self) -> None:
        """Kill it, throw its data away, and start it empty."""
        await self.member.kill()
        for file in self.folder.rglob("*.aof*"):
            file.unlink()
        await self.member.start()


async def make_redis(place: Place, host: Host) -> Redis:
    """Make a Valkey, not started."""
    program = await trio.to_thread.run_sync(usable_program, find_program(), place.account, SHELTER)
    folder = place.subfolder("redis")
    password = secrets.token_urlsafe(16)
    settings = {
        "port": str(REDIS_PORT),
        "requirepass": password,
        "dir": str(folder),
        "appendonly": "yes",
        "save": '""',
        "maxmemory-policy": "noeviction",
        "unixsocket": str(folder / "redis.sock"),
    }
    file = folder / "valkey.conf"
    content = "".join(f"{name} {value}\n" for name, value in settings.items())
    _write_secret(file, content, place.account)
    member = Member(
        name="redis",
        host=host,
        command=lambda at: [str(program), str(file), "--bind", at.address],
        log_file=place.folder / "redis.log",
        environment=lambda _: ENVIRONMENT,
        is_usable=_redis_answers,
        account=place.account,
    )
    return Redis(member, folder, password)


async def _redis_answers(member: Member) -> bool:
    return member.has_said("Ready to accept connections")
