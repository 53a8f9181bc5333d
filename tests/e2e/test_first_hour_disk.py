"""Little shared memory and a full disk, with `sercha up`: as root, in a mount namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sercha import Sercha, clean_up, processes_of, wait_gone

DATA_BYTES = 220 * 1024**2
NOBODY = 65534
_MOUNT = 'mount -t tmpfs -o size="$1",uid="$2",mode=700 tmpfs "$0" && shift 2 && exec "$@"'

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("as_root")]


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    clean_up(folder)
    shutil.rmtree(folder, ignore_errors=True)


def start(home: Path, mounted: Path, size: int, owner: int, *arguments: str) -> Sercha:
    """Start `sercha up` with a small file system at *mounted* that only its processes see."""

    class Confined(Sercha):
        prefix = ("unshare", "-m", "sh", "-c", _MOUNT, str(mounted), str(size), str(owner))

    return Confined(
        home, "up", "--data-dir", str(home / "data"), "--port", "0", *arguments
    ).wait_ready()


def write_notes(folder: Path, word: str, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        text = " ".join(f"{word}{number}x{k}" for k in range(2_000))
        (folder / f"{word}{number}.txt").write_text(text)


def found(sercha: Sercha, query: str) -> list[str]:
    answer = json.loads(sercha.cli("search", query, "--json").stdout)
    return [Path(result["document"]["path"]).name for result in answer["results"]]


@pytest.mark.proof
def test_postgres_starts_with_little_shared_memory(home: Path) -> None:
    write_notes(home / "notes", "red", 3)
    sercha = start(home, Path("/dev/shm"), 64 * 1024, 0, "--index", str(home / "notes"))
    sercha.cli("sync", "--all", "--wait")

    assert found(sercha, "red1x7") == ["red1.txt"]
    shown = os.statvfs(f"/proc/{sercha.process.pid}/root/dev/shm")
    assert shown.f_blocks * shown.f_frsize == 64 * 1024
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in processes_of(home)]
    assert any(b"dynamic_shared_memory_type=mmap" in line for line in lines)
    assert sercha.stop() == 0, sercha.output


@pytest.mark.proof
def test_a_full_disk_is_named_and_its_end_is_enough(home: Path) -> None:
    data, notes = home / "data", home / "notes"
    data.mkdir()
    write_notes(notes, "red", 3)
    sercha = start(home, data, DATA_BYTES, NOBODY, "--index", str(notes))
    sercha.cli("sync", "--all", "--wait")
    assert found(sercha, "red1x7") == ["red1.txt"]
    ballast = Path(f"/proc/{sercha.process.pid}/root{data}/ballast")
    fill_up(ballast)

    write_notes(notes, "blue", 60)
    sercha.cli("sync", "--all")
    sercha.wait_line("(?i)no space left|no room")
    assert sercha.process.poll() is None, sercha.output
    ballast.unlink()

    sercha.cli("sync", "--all", "--wait")
    assert found(sercha, "blue59x7") == ["blue59.txt"]
    assert found(sercha, "red1x7") == ["red1.txt"]
    report = json.loads(sercha.cli("index", "verify", "--json").stdout)
    assert (report["checked"], report["missing"], report["ghost"]) == (63, 0, 0)
    assert sercha.stop() == 0, sercha.output
    wait_gone(home)


def fill_up(ballast: Path) -> None:
    """Write until there is no room at all."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1024**2, 4096):
            try:
                while file.write(b"\0" * size):
                    pass
            except OSError:
                continue
