"""A deployment by Docker Compose, as the files in ``docker/`` describe it, with a project of its own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import trio

from tests.support.postgres import free_port

ROOT = Path(__file__).parents[2]
IMAGE = "sercha:under-test"
EMAIL, PASSWORD = "ada@example.org", secrets.token_urlsafe(12)
HEALTHY_TIME = 180.0
COMMAND_TIME = 300.0
REQUEST_TIME = 60.0
SERVICES = ("sercha-api-1", "sercha-api-2", "sercha-worker-1", "sercha-worker-2")


def has_engine() -> bool:
    """Whether a Docker engine answers, and Compose is there."""
    if shutil.which("docker") is None:
        return False
    commands = (["docker", "info"], ["docker", "compose", "version"])
    return all(not subprocess.run(c, capture_output=True, check=False).returncode for c in commands)


def docker(*arguments: str, stdin: bytes | None = None) -> str:
    """Run the command and return what it printed.

    Raises:
        AssertionError: its status was not 0; with what it said.
    """
    return run(["docker", *arguments], stdin=stdin)


def run(
    command: Sequence[str], *, stdin: bytes | None = None, **options: Mapping[str, str] | Path
) -> str:
    """Run a command to its end and return its stdout as text."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        timeout=COMMAND_TIME,
        check=False,
        **options,  # type: ignore[arg-type]
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{list(command)}: {output}{done.stderr.decode(errors='replace')}"
    return output


@dataclass
class Deployment:
    """A copy of ``docker/`` and ``nginx/`` in *folder*, and the containers that were made from it."""

    folder: Path
    files: tuple[str, ...]
    overrides: tuple[Path, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    port: int = field(default_factory=free_port)
    token: str = ""
    """Of the administrator, once `set_up` was called."""
    seconds_to_healthy: float = 0.0
    """From ``docker compose up -d`` to the last container that became healthy."""

    def __post_init__(self) -> None:
        for name in ("docker", "nginx"):
            shutil.copytree(ROOT / name, self.folder / name, ignore=lambda *_: [".env"])
        self.project = f"sercha-test-{os.getpid()}-{self.port}"

    @property
    def home(self) -> Path:
        """Where a user gives the commands."""
        return self.folder / "docker"

    @property
    def documents(self) -> Path:
        """The folder that the containers see as ``/documents``."""
        return self.home / "documents"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """What is set in the user's shell; the commands themselves are those of the manual."""
        return {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            **{name: value for name, value in os.environ.items() if name.startswith("DOCKER_")},
            "COMPOSE_PROJECT_NAME": self.project,
            "COMPOSE_FILE": ":".join([*self.files, *map(str, self.overrides)]),
            "SERCHA_PORT": str(self.port),
            "SERCHA_IMAGE": IMAGE,
            **self.settings,
        }

    def compose(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run ``docker compose`` where the user would."""
        return run(["docker", "compose", *arguments], stdin=stdin, env=self.environ, cwd=self.home)

    def make_secrets(self) -> dict[str, str]:
        """Write ``.env`` as the manual says, and return what is in it."""
        run(["./make-secrets"], cwd=self.home, env=self.environ)
        return self.secrets()

    def secrets(self) -> dict[str, str]:
        """Return what is in ``.env``."""
        lines = (self.home / ".env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")

    def up(self, *arguments: str) -> float:
        """``docker compose up -d``, and wait until every container is healthy; returns the seconds."""
        began = time.monotonic()
        self.compose("up", "-d", *arguments)
        self.wait_healthy()
        return time.monotonic() - began

    def wait_healthy(self, *services: str, seconds: float = HEALTHY_TIME) -> None:
        """Wait until the containers of these services are healthy; by default all, and ``migrate`` has ended well."""
        until = time.monotonic() + seconds
        while True:
            states = self.states(*services)
            if states and all(state in ("healthy", "exited 0") for state in states.values()):
                return
            assert time.monotonic() < until, f"{states}\n{self.compose('logs', '--tail', '20')}"
            time.sleep(0.5)  # the engine tells nobody: it is asked

    def states(self, *services: str) -> dict[str, str]:
        """Return the state of each container by its name."""
        states: dict[str, str] = {}
        for _, service, name, status in self._containers():
            if services and service not in services:
                continue
            found = re.search(r"\((healthy|unhealthy|health: starting)\)", status)
            ended = re.match(r"Exited \((\d+)\)", status)
            states[name] = found[1] if found else f"exited {ended[1]}" if ended else status
        return states

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        return next(found for found, name, *_ in self._containers() if name == service)

    def _containers(self) -> list[list[str]]:
        """Return id, service, name and status of each container, by a command that costs little: it is asked often."""
        labels = (f"project={self.project}", "oneoff=False")
        filters = [f"--filter=label=com.docker.compose.{label}" for label in labels]
        columns = '{{.ID}}\t{{.Label "com.docker.compose.service"}}\t{{.Names}}\t{{.Status}}'
        lines = docker("ps", "--all", "--no-trunc", *filters, "--format", columns).splitlines()
        return [line.split("\t") for line in lines]

    def address(self, service: str, network: str) -> str:
        """Return the address of a service's container in one of the networks."""
        template = f'{{{{(index .NetworkSettings.Networks "{self.project}_{network}").IPAddress}}}}'
        return docker("inspect", "-f", template, self.container(service)).strip()

    def down(self) -> None:
        """End and remove everything of the project, volumes too."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "20")

    def sercha(self, *arguments: str, stdin: str = "", service: str = "sercha-api-1") -> str:
        """Run the command line inside a container."""
        return self.compose("exec", "-T", service, "sercha", *arguments, stdin=stdin.encode())

    def set_up(self) -> None:
        """Make the administrator from inside of a container, and log in from outside."""
        self.sercha("setup", "--email", EMAIL, "--password-stdin", stdin=f"{PASSWORD}\n")
        self.log_in()

    def log_in(self) -> None:
        """Get a token for `client`."""
        account = {"email": EMAIL, "password": PASSWORD}
        answer = httpx.post(f"{self.url}/api/v1/auth/login", json=account, timeout=REQUEST_TIME)
        self.token = answer.raise_for_status().json()["token"]

    def client(self, *, connections: int = 20) -> httpx.AsyncClient:
        """Return a client of nginx's port on this machine, with the administrator's token."""
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return httpx.AsyncClient(
            base_url=self.url, headers=headers, timeout=REQUEST_TIME, limits=limits
        )

    async def query(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Ask PostgreSQL."""

        def ask() -> list[tuple[object, ...]]:
            with psycopg.connect(
                host=self.address("postgres", "data"),
                user="sercha",
                dbname="sercha",
                password=self.secrets()["POSTGRES_PASSWORD"],
                autocommit=True,
            ) as connection:
                cursor = connection.execute(statement.encode(), parameters or None)
                return cursor.fetchall() if cursor.description else []

        return await trio.to_thread.run_sync(ask)
