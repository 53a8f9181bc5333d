"""Counting before reading: what a home folder shows of itself before its first sync."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from sercha.adapters.connectors import localfs_walk
from sercha.adapters.connectors.localfs import Localfs
from sercha.adapters.connectors.localfs_survey import Survey
from sercha.cli.progress import Pace
from sercha.cli.survey import describe, print_survey

HOME = [
    ".ssh/id_rsa",
    ".bashrc",
    "code/node_modules/a/index.js",
    "code/.git/config",
    "code/env/pyvenv.cfg",
    "code/main.py",
    "notes/tea.md",
    "notes/tea.md~",
    "notes/private/diary.md",
    "data/index",
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in HOME:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x" * 500)
    os.truncate(tmp_path / "notes/tea.md", 17_000_000)
    (tmp_path / "notes/out").symlink_to("/etc")
    os.mkfifo(tmp_path / "notes/pipe")
    (tmp_path / "music.mp3").write_text("x" * 500)
    return tmp_path


async def test_a_home_folder_is_counted_and_every_reason_is_shown(home: Path) -> None:
    config: dict[str, object] = {"paths": [str(home)], "exclude": ["private/"]}

    survey = await Localfs([home], home / "data").survey(config, seconds=30)

    assert (survey.files, survey.bytes, survey.is_whole) == (2, 1_000, True)
    assert survey.left_out == {
        "hidden": 2,
        "of tools": 3,
        "left by editors": 1,
        "excluded": 1,
        "too large": 1,
        "links out of the folder": 1,
        "no files": 1,
    }
    assert next(iter(survey.left_out)) == "of tools"


async def test_counting_agrees_with_the_sync(home: Path) -> None:
    connector = Localfs([home], home / "data", page_items=1)
    config: dict[str, object] = {"paths": [str(home)]}

    survey = await connector.survey(config, seconds=30)

    assert survey.files == await connector.count(config, limit=1_000) == 3


async def test_a_slow_drive_is_not_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wake = threading.Event()
    next_page = localfs_walk.Walk.next_page
    seen = 0

    def slow(walk: localfs_walk.Walk, items_max: int) -> Any:
        nonlocal seen
        seen += 1
        if seen > 1:
            wake.wait(20)
        return next_page(walk, items_max)

    monkeypatch.setattr(localfs_walk.Walk, "next_page", slow)
    with trio.fail_after(10):
        survey = await Localfs([home], page_items=1).survey({"paths": [str(home)]}, seconds=0.3)
    wake.set()

    assert (survey.files, survey.is_whole) == (1, False)
    assert describe(survey).startswith("more than 1 files")


async def test_the_line_says_all_of_it(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await print_survey("home", {"paths": [str(home)]}, home / "data")

    line = capsys.readouterr().err
    assert line.startswith("home: 3 files to read (1.5 kB), 9 left out: 3 of tools, 2 hidden, ")
    assert "1 too large" in line


async def test_a_folder_of_other_machines_is_not_spoken_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await print_survey("there", {"paths": [str(tmp_path / "nowhere")]})

    assert capsys.readouterr() == ("", "")


def test_an_empty_folder_leaves_nothing_out() -> None:
    assert describe(Survey(0, 0, {}, is_whole=True)) == "0 files to read (0.0 kB)"


def test_the_estimate_follows_the_pace() -> None:
    pace = Pace()

    assert pace.left("a", "items", 100, 1_000, now=10.0) == ""
    assert pace.left("a", "items", 200, 1_000, now=20.0) == ", about 1 min left"
    assert pace.left("a", "items", 600, 1_000, now=30.0) == ", about 16 s left"
    assert pace.left("a", "items", 600, None, now=30.0) == ""
    assert pace.left("b", "items", 0, 1_000_000, now=0.0) == ""
    assert pace.left("b", "items", 100, 1_000_000, now=10.0) == ", about 28 h left"
