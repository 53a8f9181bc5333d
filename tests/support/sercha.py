"""Real Sercha processes for black-box tests: started, watched, stopped, killed with all their children."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

READY_SECONDS = 60
STOP_SECONDS = 45
REPOSITORY = Path(__file__).resolve().parents[2]


def command(*arguments: str) -> list[str]:
    """Return the command line of `sercha` with *arguments*, run by the same interpreter."""
    return [sys.executable, "-m", "sercha", *arguments]


def environment(home: Path, **variables: str) -> dict[str, str]:
    """Return an environment without anything of the caller's that Sercha reads."""
    keep = {"PATH", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH", "SERCHA_TEST_SEED"}
    base = {name: value for name, value in os.environ.items() if name in keep}
    path = os.pathsep.join(filter(None, [str(REPOSITORY), base.get("PYTHONPATH", "")]))
    return {
        **base,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_DATA_HOME": str(home / "data"),
        **variables,
    }


def run(arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        arguments, env=env, capture_output=True, text=True, timeout=300, check=False
    )


def deployment(database_url: str, home: Path, root: Path, **more: str) -> dict[str, str]:
    """Bring a database's schema up to date, and return what all processes on it share."""
    shared = {
        "DATABASE_URL": database_url,
        "JWT_SECRET": "s" * 16 + "t" * 32,
        "MASTER_KEY": "ab" * 32,
        "LOCALFS_ALLOWED_ROOTS": str(root),
        "HOST": "127.0.0.1",
        **more,
    }
    migrated = run(command("migrate"), environment(home, **shared))
    assert migrated.returncode == 0, migrated.stderr
    return shared


class Sercha:
    """One running `sercha up|api|worker|all`; its output is kept in `lines`."""

    prefix: tuple[str, ...] = ()
    """What starts it: a program that ends by executing its arguments."""

    def __init__(self, home: Path, *arguments: str, **variables: str) -> None:
        self.home = home
        self.variables = variables
        self.env = environment(home, **variables)
        self.lines: list[str] = []
        self._ready = threading.Event()
        self.process = subprocess.Popen(
            [*self.prefix, *command(*arguments)],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.lines.append(line.rstrip("\n"))
                if match := re.search(r"^ready: (\S+)", line):
                    self.url = match[1]
                    self._ready.set()
        self._ready.set()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_ready(self, seconds: float = READY_SECONDS) -> Sercha:
        """Wait for its ``ready:`` line."""
        assert self._ready.wait(seconds), f"not ready after {seconds} s:\n{self.output}"
        assert self.url, f"ended with {self.process.wait()}:\n{self.output}"
        return self

    def wait_line(self, pattern: str, seconds: float = READY_SECONDS) -> str:
        """Wait for a line that matches."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for line in list(self.lines):
                if re.search(pattern, line):
                    return line
            if self.process.poll() is not None and not self._reader.is_alive():
                break
            time.sleep(0.02)
        raise AssertionError(f"no line like {pattern!r}:\n{self.output}")

    def stop(self, number: int = signal.SIGTERM, seconds: float = STOP_SECONDS) -> int:
        """Send a signal to the process and return its exit status."""
        self.process.send_signal(number)
        return self.wait(seconds)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Return the exit status."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s:\n{self.output}") from None
        self._reader.join(5)
        return status

    def kill_tree(self) -> None:
        """Kill -9 everything that belongs to this home, at once, and wait for its end."""
        _kill_all(self.home)
        self.process.wait(10)
        self._reader.join(5)

    # HTTP and the command line

    def request(
        self, method: str, path: str, body: object = None, *, token: str | None = None
    ) -> tuple[int, Any]:
        """Make one request to ``/api/v1`` (or to the root with a leading ``//``)."""
        address = self.url + (path[1:] if path.startswith("//") else f"/api/v1{path}")
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(address, data, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, _parse(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _parse(error.read())

    def login(self, email: str, password: str) -> str:
        """Return an access token."""
        status, answer = self.request("POST", "/auth/login", {"email": email, "password": password})
        assert status == 200, answer
        return answer["token"]

    def cli(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a client command with this home's profile."""
        result = run(command(*arguments), self.env)
        assert not check or result.returncode == 0, result.stdout + result.stderr
        return result


def _parse(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")


def processes_of(home: Path) -> list[int]:
    """Return the pids of all processes that belong to *home*: by command line, environment or place.

    Under root PostgreSQL's cluster may live elsewhere; the data folder then says where.
    """
    mark = os.fsencode(home)
    places = (str(home), *map(str, clusters_of(home)))
    pids: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            status = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            belongs = (
                mark in (entry / "cmdline").read_bytes()
                or b"HOME=" + mark + b"\0" in (entry / "environ").read_bytes()
                or str((entry / "cwd").readlink()).startswith(places)
            )
        except (OSError, IndexError):
            continue
        if belongs and status != "Z":
            pids.append(int(entry.name))
    return pids


def clusters_of(home: Path) -> list[Path]:
    """Return the clusters of *home*'s data folders that live outside of it."""
    return [Path(note.read_text().strip()) for note in home.glob("*/postgres.path")]


def clean_up(home: Path) -> None:
    """Kill what is left of *home* and remove clusters outside of it."""
    _kill_all(home)
    for cluster in clusters_of(home):
        shutil.rmtree(cluster, ignore_errors=True)


def _kill_all(home: Path, seconds: float = 15) -> None:
    """Kill until nobody is left: while one is killed another may just be forking, and dying takes a moment."""
    deadline = time.monotonic() + seconds
    while left := processes_of(home):
        assert time.monotonic() < deadline, left
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def wait_gone(home: Path, seconds: float = 15) -> None:
    """Wait until no process of *home* is left."""
    deadline = time.monotonic() + seconds
    while left := processes_of(home):
        assert time.monotonic() < deadline, [
            (pid, Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")) for pid in left
        ]
        time.sleep(0.05)
