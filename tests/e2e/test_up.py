"""`sercha up`, as a person uses it: one command, a log-in, a search, Ctrl-C, and again."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.sercha import Sercha, clean_up, processes_of, wait_gone

also_as_root = pytest.mark.root
"""For what root's private servers, which run under another account, may do differently."""

Up = Callable[..., Sercha]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    clean_up(tmp_path)


@pytest.fixture
def notes(home: Path) -> Path:
    folder = home / "notes"
    folder.mkdir()
    (folder / "tea.md").write_text("# Tea\n\nOolong is **half** oxidised <script>.\n")
    (folder / "coffee.md").write_text("# Coffee\n\nArabica grows on mountains.\n")
    return folder


@pytest.fixture
def up(home: Path) -> Up:
    def start(*arguments: str, **variables: str) -> Sercha:
        data_dir = str(home / "data dir with spaces")
        return Sercha(home, "up", "--data-dir", data_dir, "--port", "0", *arguments, **variables)

    return start


def search(sercha: Sercha, query: str) -> list[str]:
    found = json.loads(sercha.cli("search", query, "--json").stdout)
    return [Path(result["document"]["path"]).name for result in found["results"]]


@also_as_root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_start_indexes_answers_and_ends_without_a_trace(
    up: Up, notes: Path, home: Path, number: int
) -> None:
    sercha = up("--index", str(notes)).wait_ready()
    sercha.cli("sync", "--all", "--wait")

    assert search(sercha, "oolong") == ["tea.md"]
    assert search(sercha, "arabica mountains") == ["coffee.md"]
    (found,) = json.loads(sercha.cli("search", "oolong", "--json").stdout)["results"]
    assert "<mark>Oolong</mark>" in found["highlights"][0]
    assert "&lt;script&gt;" in found["highlights"][0]
    assert sercha.stop(number) == 0, sercha.output
    wait_gone(home)
    assert "Traceback" not in sercha.output


@also_as_root
def test_a_second_start_finds_everything_and_sees_changes(up: Up, notes: Path, home: Path) -> None:
    first = up("--index", str(notes)).wait_ready()
    first.cli("sync", "--all", "--wait")
    assert "password " in first.wait_line("log in:")
    assert first.stop() == 0
    wait_gone(home)

    (notes / "tea.md").unlink()
    (notes / "mate.txt").write_text("yerba from the south")
    second = up().wait_ready()

    assert search(second, "oolong") == ["tea.md"]
    second.cli("sync", "--all", "--wait")
    assert search(second, "oolong") == []
    assert search(second, "yerba") == ["mate.txt"]
    report = json.loads(second.cli("index", "verify", "--json").stdout)
    assert (report["checked"], report["missing"], report["stale"], report["ghost"]) == (2, 0, 0, 0)
    second.cli("index", "rebuild")
    assert search(second, "yerba") == ["mate.txt"]
    assert second.stop() == 0
    wait_gone(home)


def test_a_second_up_on_the_same_folder_is_refused_and_harms_nothing(up: Up, notes: Path) -> None:
    first = up("--index", str(notes)).wait_ready()
    second = up()

    assert second.wait() != 0
    assert "data dir with spaces" in second.output
    assert "Traceback" not in second.output
    first.cli("sync", "--all", "--wait")
    assert search(first, "oolong") == ["tea.md"]
    assert first.stop() == 0


def test_a_port_in_use_names_the_flag_and_leaves_no_process(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sercha = Sercha(home, "up", "--data-dir", str(home / "d"), "--port", str(port))

        assert sercha.wait() == 2
        assert str(port) in sercha.output
        assert "--port" in sercha.output
    wait_gone(home)


def test_a_missing_index_path_is_refused_before_anything_is_made(up: Up, home: Path) -> None:
    sercha = up("--index", str(home / "nowhere"))

    assert sercha.wait() == 2
    assert "nowhere" in sercha.output
    assert not (home / "data dir with spaces").exists()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("fifo", "neither a folder nor a regular file"),
        ("device", "neither a folder nor a regular file"),
        ("inside the data folder", "own data folder"),
        ("line\nbreak", "control characters"),
        ("unreadable", "is not readable"),
    ],
)
def test_an_index_path_that_can_be_no_source_is_refused_before_anything_is_made(
    up: Up, notes: Path, home: Path, kind: str, reason: str
) -> None:
    if kind == "unreadable" and os.geteuid() == 0:
        pytest.skip("root reads everything")
    data_dir, path = home / "data dir with spaces", home / kind
    if kind == "device":
        path = Path("/dev/null")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "inside the data folder":
        path = data_dir / "index"
        path.mkdir(parents=True)
    else:
        path.mkdir(mode=0 if kind == "unreadable" else 0o755)
    before = sorted(data_dir.rglob("*"))

    sercha = up("--index", str(notes), "--index", str(path))

    assert sercha.wait() == 2
    assert "sercha: error: " in sercha.output
    assert "--index" in sercha.output
    assert reason in sercha.output
    assert "Traceback" not in sercha.output
    assert sorted(data_dir.rglob("*")) == before
    assert data_dir.exists() is (kind == "inside the data folder")
    assert not (home / "config").exists()


def test_an_allowed_root_that_is_missing_is_one_warning(up: Up, notes: Path, home: Path) -> None:
    sercha = up(LOCALFS_ALLOWED_ROOTS=f"{notes}:{home}/nowhere").wait_ready()

    line = sercha.wait_line("setting.folder_missing")
    assert "LOCALFS_ALLOWED_ROOTS" in line
    assert f"{home}/nowhere" in line
    assert sercha.stop() == 0
    assert sercha.output.count("setting.folder_missing") == 1


@also_as_root
def test_secrets_and_folders_are_private(up: Up, notes: Path, home: Path) -> None:
    sercha = up("--index", str(notes)).wait_ready()
    sercha.wait_line("log in:")
    data_dir = home / "data dir with spaces"

    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    for file in ("admin-password", "secrets.json"):
        assert stat.S_IMODE((data_dir / file).stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "config/sercha/profile.json").stat().st_mode) == 0o600
    assert sercha.stop() == 0


@also_as_root
def test_kill_9_of_sercha_alone_is_healed_by_the_next_start(
    up: Up, notes: Path, home: Path
) -> None:
    first = up("--index", str(notes)).wait_ready()
    first.cli("sync", "--all", "--wait")
    first.process.kill()
    first.wait()
    assert processes_of(home)  # PostgreSQL lives on: it has a session of its own

    second = up().wait_ready()

    assert search(second, "oolong") == ["tea.md"]
    assert second.stop() == 0
    wait_gone(home)


@also_as_root
def test_ctrl_c_in_the_terminal_drains_before_postgres_stops(
    up: Up, notes: Path, home: Path
) -> None:
    """A terminal sends SIGINT to the whole process group: PostgreSQL must not be in it."""
    sercha = up("--index", str(notes)).wait_ready()

    os.killpg(sercha.process.pid, signal.SIGINT)

    assert sercha.wait() == 0, sercha.output
    assert "postgres.restarted" not in sercha.output
    wait_gone(home)
