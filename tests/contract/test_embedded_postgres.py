"""The embedded PostgreSQL on real clusters: its life, its locks, and what it does to other processes.

Run as root these tests go the way of root (a lent account, a home in the shelter); run as an ordinary user
they go the other way, which `test_embedded_postgres_places.py` also tests from root.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import trio

from sercha.adapters.embedded_postgres import cluster, embedded_postgres, installation
from sercha.adapters.embedded_servers import data_folder
from sercha.adapters.embedded_servers.serverlog import LOG_BYTES_MAX
from sercha.errors import Conflict, Rejected, SettingsError, Unavailable
from tests.support.embedded import (
    WAIT_SECONDS,
    answers,
    ask,
    is_running,
    line_of,
    processes_naming,
    running_child,
    send,
    wait_until,
)
from tests.support.postgres import PostgresServer, Room, run_as


@pytest.fixture
def child(shelter: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Give a Sercha in a process of its own, on `tmp_path/data`."""
    with running_child(tmp_path / "data", shelter) as process:
        yield process


@pytest.fixture
def stranger(postgres_room: Room) -> Iterator[subprocess.Popen[bytes]]:
    """Give a process of the server's account that is no server."""
    with subprocess.Popen(["sleep", "600"], **run_as(postgres_room.account)) as process:
        yield process
        process.kill()


async def test_data_of_the_first_start_is_there_at_the_second(tmp_path: Path, shelter: Path):
    with data_folder(tmp_path / "new" / "data") as folder:
        async with embedded_postgres(folder, shelter=shelter) as server:
            pid = server.pid
            ask(server.conninfo, "create table kept as select 'ß€😀' as word")
            ask(server.conninfo, "create extension vector")
        async with embedded_postgres(folder, shelter=shelter) as server:
            found = ask(server.conninfo, "select word, '[1,2]'::vector <-> '[1,3]' from kept")

    assert found == [("ß€😀", 1.0)]
    assert pid is not None
    assert not is_running(pid)


async def test_server_is_private_durable_and_out_of_reach_of_ctrl_c(tmp_path: Path, shelter: Path):
    with data_folder(tmp_path / "data") as folder:
        async with embedded_postgres(folder, shelter=shelter) as server:
            names = ("fsync", "data_checksums", "TimeZone", "server_encoding", "log_statement")
            shown = [ask(server.conninfo, f"show {name}")[0][0] for name in names]
            role = ask(server.conninfo, "select rolname from pg_roles where rolsuper")
            session = os.getsid(server.pid or 0)
            assert server.pid in processes_naming(folder.path)
            modes = [
                path.stat().st_mode & 0o777
                for path in (folder.path, server.data_dir, folder.path / "postgres.password")
            ]
            owner = server.data_dir.stat().st_uid
            wrong = server.conninfo.replace(":", ":x", 2).replace("postgresql:x", "postgresql:")
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(wrong)

    assert shown == ["on", "on", "UTC", "UTF8", "none"]
    assert role == [("sercha",)]
    assert session != os.getsid(0)
    assert modes == [0o700, 0o700, 0o600]
    assert owner != 0


@pytest.mark.parametrize(
    ("name", "has_socket"),
    [
        ("with space", True),
        ("quo'te\"s", True),
        ("Übung-数据", True),
        ("per%cent $HOME", True),
        ("com,ma", False),
        (b"no-utf8-\xff".decode("utf-8", "surrogateescape"), False),
        ("deep/" + "x" * 200, False),
    ],
)
async def test_any_path_will_do(
    shelter: Path,
    postgres_room: Room,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    has_socket: bool,
):
    # In a checkout that root keeps to itself the programs would be copied to the shelter, and initdb quotes its own
    # path wrongly. The room has them where the account reaches them.
    programs = installation.Installation(postgres_room.bin_dir.parent)
    monkeypatch.setattr(cluster, "find_installation", lambda: programs)
    # root's clusters live in the shelter, an ordinary user's in the data folder: give both the name
    with data_folder(shelter / "d" / name) as folder:
        async with embedded_postgres(folder, shelter=shelter / name) as server:
            found = ask(server.conninfo, "select current_user, inet_server_addr() is null")

    assert found == [("sercha", has_socket)]


async def test_copied_folder_does_not_share_a_running_cluster(
    tmp_path: Path, shelter: Path, as_root: None
):
    with data_folder(tmp_path / "data") as folder:
        async with embedded_postgres(folder, shelter=shelter) as server:
            copy = tmp_path / "copy"
            await trio.run_process(["cp", "-a", str(folder.path), str(copy)])
            with data_folder(copy) as other, pytest.raises(Conflict):
                async with embedded_postgres(other, shelter=shelter):
                    pass
            assert ask(server.conninfo, "select 1") == [(1,)]


async def test_cluster_of_another_major_is_refused_and_untouched(tmp_path: Path, shelter: Path):
    with data_folder(tmp_path / "data") as folder:
        async with embedded_postgres(folder, shelter=shelter) as server:
            version = server.data_dir / "PG_VERSION"
        version.write_text("16\n")
        with pytest.raises(Rejected, match="PostgreSQL 16") as caught:
            async with embedded_postgres(folder, shelter=shelter):
                pass

    assert caught.value.error_code == "data-dir-version"
    assert version.read_text() == "16\n"


async def test_lost_or_wrong_password_is_a_clear_error(tmp_path: Path, shelter: Path):
    with data_folder(tmp_path / "data") as folder:
        async with embedded_postgres(folder, shelter=shelter):
            pass
        for content in ("wrong\n", None):
            (folder.path / "postgres.password").unlink()
            if content:
                (folder.path / "postgres.password").write_text(content)
            with pytest.raises(Rejected, match=r"postgres\.password"):
                async with embedded_postgres(folder, shelter=shelter):
                    pass


async def test_missing_wheel_names_the_setting_and_the_extra(
    tmp_path: Path, shelter: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(installation, "PACKAGE", "no_such_package")
    with (
        data_folder(tmp_path / "data") as folder,
        pytest.raises(SettingsError, match=r"DATABASE_URL.*sercha\[embedded\]"),
    ):
        async with embedded_postgres(folder, shelter=shelter):
            pass


async def test_failed_start_quotes_the_log(tmp_path: Path, shelter: Path):
    with data_folder(tmp_path / "data") as folder, pytest.raises(Unavailable) as caught:
        async with embedded_postgres(folder, shelter=shelter, settings={"shared_buffers": "none"}):
            pass

    assert caught.value.error_code == "postgres-start"
    assert 'invalid value for parameter "shared_buffers"' in str(caught.value)


async def test_overgrown_log_is_put_aside(tmp_path: Path, shelter: Path):
    with data_folder(tmp_path / "data") as folder:
        with (folder.path / "postgres.log").open("wb") as file:
            file.truncate(LOG_BYTES_MAX + 1)
        async with embedded_postgres(folder, shelter=shelter) as server:
            assert server.log_file.stat().st_size < LOG_BYTES_MAX
            aside = (folder.path / "postgres.log.1").stat().st_size
    assert aside > LOG_BYTES_MAX


async def test_server_of_a_killed_sercha_is_taken_over(
    tmp_path: Path, shelter: Path, child: subprocess.Popen[str]
):
    left = line_of(child, "conninfo")
    ask(left["conninfo"], "create table kept as select 1 as one")
    child.kill()
    child.wait()
    stale = int(left["pid"])
    assert is_running(stale)

    with data_folder(tmp_path / "data") as folder:
        async with embedded_postgres(folder, shelter=shelter) as server:
            assert not is_running(stale)
            assert ask(server.conninfo, "select one from kept") == [(1,)]


@pytest.mark.parametrize("wait_seconds", [0.05, 0.3])
async def test_sercha_killed_while_it_makes_the_cluster_leaves_none(
    tmp_path: Path,
    shelter: Path,
    child: subprocess.Popen[str],
    wait_seconds: float,
):
    line_of(child, "folder")
    await trio.sleep(wait_seconds)
    child.kill()
    child.wait()

    with data_folder(tmp_path / "data") as folder:
        async with embedded_postgres(folder, shelter=shelter) as server:
            assert ask(server.conninfo, "select 1") == [(1,)]
            assert not list(server.data_dir.parent.glob("*making*"))


@pytest.mark.parametrize("wait_seconds", [0.2, 0.5])
async def test_cancelled_start_leaves_no_process_and_no_half_cluster(
    tmp_path: Path, shelter: Path, wait_seconds: float
):
    with data_folder(tmp_path / "data") as folder:
        with trio.move_on_after(wait_seconds):
            async with embedded_postgres(folder, shelter=shelter):
                await trio.sleep_forever()
        assert not processes_naming(tmp_path)
        assert not processes_naming(shelter)
        async with embedded_postgres(folder, shelter=shelter) as server:
            assert ask(server.conninfo, "select 1") == [(1,)]
            assert not list(server.data_dir.parent.glob("*making*"))


async def test_errors_of_the_block_come_out_as_they_are(tmp_path: Path, shelter: Path):
    cause = ValueError("why")
    pid = None
    with data_folder(tmp_path / "data") as folder, pytest.raises(KeyError) as caught:
        async with embedded_postgres(folder, shelter=shelter) as server:
            pid = server.pid
            raise KeyError("mine") from cause

    assert caught.value.__cause__ is cause
    assert pid is not None
    assert not is_running(pid)


async def test_cancelled_block_stops_the_server(tmp_path: Path, shelter: Path):
    pid = None
    with data_folder(tmp_path / "data") as folder, trio.CancelScope() as scope:
        async with embedded_postgres(folder, shelter=shelter) as server:
            pid = server.pid
            scope.cancel()
            await trio.sleep_forever()

    assert scope.cancelled_caught
    assert pid is not None
    assert not is_running(pid)


async def test_dead_server_is_started_again_on_the_same_address(tmp_path: Path, shelter: Path):
    with data_folder(tmp_path / "data") as folder:
        async with embedded_postgres(folder, shelter=shelter) as server:
            conninfo, first = server.conninfo, server.pid
            assert first is not None
            ask(conninfo, "create table kept as select 1 as one")
            # A busy backend notices the death of its postmaster late.
            busy = psycopg.connect(conninfo, autocommit=True)
            backend = busy.info.backend_pid
            send(busy, "select count(*) from generate_series(1, 20000000)")
            os.kill(first, signal.SIGKILL)
            with trio.fail_after(WAIT_SECONDS):
                while server.pid in (None, first):
                    await trio.sleep(0.02)
                while not await trio.to_thread.run_sync(answers, conninfo):
                    await trio.sleep(0.02)
            busy.close()

            assert not is_running(backend)
            assert ask(conninfo, "select one from kept") == [(1,)]
            assert server.statistics().restarts == 1


async def test_server_that_keeps_dying_cancels_the_block(
    tmp_path: Path, shelter: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sercha.adapters.embedded_postgres.server.RESTART_DELAY_SECONDS", 0.01)
    with data_folder(tmp_path / "data") as folder, pytest.raises(Unavailable) as caught:
        async with embedded_postgres(folder, shelter=shelter) as server:
            with trio.fail_after(WAIT_SECONDS):
                while True:
                    if server.pid is not None:
                        with suppress(ProcessLookupError):
                            os.kill(server.pid, signal.SIGKILL)
                    await trio.sleep(0.02)

    assert caught.value.error_code == "postgres-died"
    assert not processes_naming(server.data_dir)


async def test_pid_that_now_is_somebody_elses_is_left_alone(
    tmp_path: Path,
    shelter: Path,
    postgres_server: PostgresServer,
    stranger: subprocess.Popen[bytes],
):
    with data_folder(tmp_path / "data") as folder:
        async with embedded_postgres(folder, shelter=shelter) as server:
            pid_file = server.data_dir / "postmaster.pid"
            content = pid_file.read_text()
        for pid in (stranger.pid, postgres_server.pid, os.getpid(), os.getppid(), 1):
            pid_file.write_text(content.replace(content.split("\n")[0], str(pid), 1))
            pid_file.chmod(0o600)
            os.chown(pid_file, postgres_server.account.pw_uid, postgres_server.account.pw_gid)
            (server.data_dir / ".s.PGSQL.5432.lock").write_text(f"{pid}\n")
            async with embedded_postgres(folder, shelter=shelter) as server:
                assert ask(server.conninfo, "select 1") == [(1,)]

    assert stranger.poll() is None
    assert postgres_server.execute("select 1") == [(1,)]


async def test_server_run_by_hand_on_the_cluster_is_left_alone(
    tmp_path: Path, shelter: Path, postgres_room: Room
):
    with data_folder(tmp_path / "data") as folder:
        async with embedded_postgres(folder, shelter=shelter) as server:
            data = server.data_dir
        by_hand = subprocess.Popen(  # noqa: ASYNC220
            [postgres_room.bin_dir / "postgres", "-D", data, "-c", "listen_addresses="],
            cwd="/",
            stderr=subprocess.DEVNULL,
            **run_as(postgres_room.account),
        )
        try:
            wait_until((data / "postmaster.pid").exists, "the server by hand runs")
            with pytest.raises(Conflict, match=f"pid {by_hand.pid}"):
                async with embedded_postgres(folder, shelter=shelter):
                    pass
            assert by_hand.poll() is None
        finally:
            by_hand.send_signal(signal.SIGQUIT)
            by_hand.wait()
