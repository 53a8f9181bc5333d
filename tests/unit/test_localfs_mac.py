"""What is different on a Mac, faked: refusals for privacy, and the flags of files."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sercha.adapters.connectors import localfs_open, localfs_walk
from sercha.adapters.connectors.localfs import Localfs
from sercha.adapters.connectors.localfs_open import is_placeholder
from sercha.errors import Rejected, Transient


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Give a set of names; folders with these are refused as macOS does it, whatever their rights."""
    names: set[str] = set()
    scandir = os.scandir
    open_place = localfs_walk.open_place

    def refuse(name: str) -> None:
        if name in names:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def scan(path: Any) -> Any:
        if isinstance(path, str):
            refuse(os.path.basename(path))
        return scandir(path)

    def enter(place: localfs_open.Place, **options: Any) -> int:
        refuse(os.fsdecode(place.names[-1]))
        return open_place(place, **options)

    monkeypatch.setattr(localfs_open, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(os, "scandir", scan)
    monkeypatch.setattr(localfs_walk, "open_place", enter)
    return names


async def test_a_refusal_for_privacy_says_where_to_allow_it(
    tmp_path: Path, refused: set[str]
) -> None:
    root = tmp_path / "home"
    (root / "Documents").mkdir(parents=True)
    (root / "tea.md").write_text("tea")
    connector = Localfs([tmp_path])
    config: dict[str, object] = {"paths": [str(root)]}
    refused.add("Documents")

    (page,) = [page async for page in connector.pages(config, None)]

    assert [Path(item.external_id).name for item in page.items] == ["tea.md"]
    (issue,) = page.issues
    assert issue.code == "unreadable"
    assert "Full Disk Access" in issue.reason
    assert page.unknown_prefixes == (f"{root}/Documents/",)

    refused.add("home")
    with pytest.raises(Transient, match="Full Disk Access"):
        [page async for page in connector.pages(config, None)]
    with pytest.raises(Rejected, match="Full Disk Access"):
        await connector.validate(config)


@pytest.mark.parametrize(("flags", "is_away"), [(0, False), (0x20, False), (0x40000060, True)])
def test_the_flag_of_a_mac_tells_what_is_only_in_a_cloud(flags: int, *, is_away: bool) -> None:
    """Compressed files (0x20) have no blocks either, and are here."""
    status = SimpleNamespace(st_flags=flags, st_size=10, st_blocks=0)

    assert is_placeholder(cast("os.stat_result", status)) is is_away


def test_a_sparse_file_is_no_placeholder(tmp_path: Path) -> None:
    file = tmp_path / "sparse"
    file.touch()
    os.truncate(file, 1_000_000)

    assert not is_placeholder(file.stat())
