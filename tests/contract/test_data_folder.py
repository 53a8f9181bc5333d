"""The data folder: one process at a time, closed to others, of a known format or untouched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sercha.adapters.embedded_servers import data_folder
from sercha.errors import Conflict, Rejected, SettingsError
from tests.support.embedded import line_of, running_child


@pytest.fixture
def child(shelter: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Give a Sercha in a process of its own, on `tmp_path/data`."""
    with running_child(tmp_path / "data", shelter) as process:
        yield process


def test_second_sercha_on_the_folder_is_told_who_holds_it(
    tmp_path: Path, child: subprocess.Popen[str]
):
    line_of(child, "folder")

    with (
        pytest.raises(Conflict, match=rf"{tmp_path}/data .*pid {child.pid}\)") as caught,
        data_folder(tmp_path / "data"),
    ):
        pass
    assert caught.value.error_code == "data-dir-in-use"


@pytest.mark.parametrize(
    "content",
    [
        '{"format": 0, "sercha": "0.0.1", "postgres": 18}',
        '{"format": 1, "sercha": "9.0", "postgres": 19}',
        "[]",
        "no json",
        "",
    ],
)
def test_folder_of_another_version_is_refused_and_untouched(tmp_path: Path, content: str):
    tmp_path.chmod(0o755)
    (tmp_path / "VERSION").write_text(content)
    (tmp_path / "lock").write_text("kept")

    with pytest.raises(Rejected, match="nothing was changed") as caught, data_folder(tmp_path):
        pass

    assert caught.value.error_code == "data-dir-version"
    assert (tmp_path / "VERSION").read_text() == content
    assert (tmp_path / "lock").read_text() == "kept"
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_folder_with_other_files_is_refused_and_untouched(tmp_path: Path):
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(Rejected, match="no data folder") as caught, data_folder(tmp_path):
        pass

    assert caught.value.error_code == "data-dir-foreign"
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_folder_that_cannot_be_is_a_clear_error(tmp_path: Path):
    (tmp_path / "file").touch()
    for path in (
        tmp_path / "file",
        tmp_path / "file" / "below",
        tmp_path / ("x" * 300),
        "\0",
        "a\nb",
    ):
        with pytest.raises(SettingsError, match="--data-dir"), data_folder(Path(path)):
            pass


def test_loose_folder_is_closed(tmp_path: Path):
    place = tmp_path / "data"
    place.mkdir()
    place.chmod(0o755)
    with data_folder(place):
        assert place.stat().st_mode & 0o777 == 0o700
