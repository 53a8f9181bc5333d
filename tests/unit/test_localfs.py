"""The walk over folders: order, pages, what is left out, and what is recorded instead of read."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from sercha.adapters.connectors import localfs_walk
from sercha.adapters.connectors.localfs import Localfs
from sercha.domain.source import IssueKind
from sercha.errors import Transient
from sercha.services.ports import ItemPage

NOBODY = 65534


async def walk(
    connector: Localfs, *paths: Path, cursor: str | None = None, **fields: object
) -> list[ItemPage]:
    config: dict[str, object] = {"paths": [str(path) for path in paths], **fields}
    pages: AsyncIterator[ItemPage] = connector.pages(config, cursor)
    return [page async for page in pages]


def ids(pages: list[ItemPage]) -> list[str]:
    return [item.external_id for page in pages for item in page.items]


def issues(pages: list[ItemPage]) -> dict[str, str]:
    return {Path(issue.external_id).name: issue.code for page in pages for issue in page.issues}


def names(pages: list[ItemPage], root: Path) -> list[str]:
    return [external_id.removeprefix(f"{root}/") for external_id in ids(pages)]


def fill(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"This is {name}.\n")


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Run the block without root's right to read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Give a folder that every user can reach, unlike ``tmp_path``."""
    path = Path(tempfile.mkdtemp()).resolve()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


async def test_paths_are_walked_in_the_order_of_their_ids(tmp_path: Path) -> None:
    fill(tmp_path, "a/x", "a.b/y", "a0/z", "c.txt")
    connector = Localfs([tmp_path], page_items=1)
    pages = await walk(
        connector, tmp_path / "a0", tmp_path / "c.txt", tmp_path / "a", tmp_path / "a.b"
    )
    assert names(pages, tmp_path) == ["a.b/y", "a/x", "a0/z", "c.txt"]


async def test_resuming_does_not_open_the_folders_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a/1", "a/deep/2", "b/3", "b/4", "c/5")
    connector = Localfs([tmp_path], page_items=3)
    cursor = (await walk(connector, tmp_path))[0].cursor
    opened: list[bytes] = []
    real = localfs_walk.open_place

    def spy(place: localfs_walk.Place, **options: object) -> int:
        opened.append(place.names[-1])
        return real(place, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(localfs_walk, "open_place", spy)
    assert names(await walk(connector, tmp_path, cursor=cursor), tmp_path) == ["b/4", "c/5"]
    assert opened == [os.fsencode(tmp_path.name), b"b", b"c"]


@pytest.mark.parametrize("cursor", ["", "nonsense", "[]", '{"after": 5}', '{"after": "\\ud800"}'])
async def test_cursor_that_cannot_be_read_means_from_the_start(tmp_path: Path, cursor: str) -> None:
    fill(tmp_path, "a", "b")
    assert names(await walk(Localfs([tmp_path]), tmp_path, cursor=cursor), tmp_path) == ["a", "b"]


async def test_hidden_and_built_files_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "keep.txt", ".hidden", ".git/config", "node_modules/x.js", "p/__pycache__/x.pyc")
    fill(
        tmp_path,
        "env/pyvenv.cfg",
        "env/lib/x.py",
        "target/debug",
        "notes~",
        ".notes.swp",
        "build/doc",
    )
    fill(tmp_path, "faked/file")
    (tmp_path / "target/CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    (tmp_path / "faked/CACHEDIR.TAG").write_text("no signature\n")
    connector = Localfs([tmp_path])
    kept = ["build/doc", "faked/CACHEDIR.TAG", "faked/file", "keep.txt"]
    assert names(await walk(connector, tmp_path), tmp_path) == kept
    pages = await walk(connector, tmp_path, include_hidden=True)
    assert names(pages, tmp_path) == [".hidden", *kept]
    # What is named by hand is not left out.
    assert names(await walk(connector, tmp_path / "target"), tmp_path / "target") == [
        "CACHEDIR.TAG",
        "debug",
    ]


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("*.log", ["a/b/c.txt", "d.txt", "logs/x.txt"]),
        ("logs", ["a/b/c.txt", "a/e.log", "d.txt", "f.log"]),
        ("logs/", ["a/b/c.txt", "a/e.log", "d.txt", "f.log"]),
        ("f.log/", ["a/b/c.txt", "a/e.log", "d.txt", "f.log", "logs/x.txt"]),
        ("/d.txt", ["a/b/c.txt", "a/e.log", "f.log", "logs/x.txt"]),
        ("a/*.txt", ["a/b/c.txt", "a/e.log", "d.txt", "f.log", "logs/x.txt"]),
        ("a/**/*.txt", ["a/e.log", "d.txt", "f.log", "logs/x.txt"]),
        ("**", []),
        ("*a*a*a*a*a*a*a*a*a*a*b", ["a/b/c.txt", "a/e.log", "d.txt", "f.log", "logs/x.txt"]),
    ],
)
async def test_excluded_patterns_are_left_out(
    tmp_path: Path, pattern: str, left: list[str]
) -> None:
    fill(tmp_path, "a/b/c.txt", "a/e.log", "d.txt", "f.log", "logs/x.txt")
    pages = await walk(Localfs([tmp_path]), tmp_path, exclude=[pattern])
    assert names(pages, tmp_path) == left


async def test_own_data_folder_is_never_listed(tmp_path: Path) -> None:
    fill(tmp_path, "a", "data/secret", "data/deep/secret", "z")
    connector = Localfs([tmp_path], tmp_path / "data")
    assert names(await walk(connector, tmp_path, include_hidden=True), tmp_path) == ["a", "z"]


async def test_what_is_no_file_is_recorded_and_never_opened(open_path: Path) -> None:
    fill(open_path, "file")
    os.mkfifo(open_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{open_path}/socket")
    expected = {"pipe": "not-a-file", "socket": "not-a-file"}
    try:
        os.mknod(open_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pass  # only root makes devices
    else:
        expected["null"] = "not-a-file"
    with trio.fail_after(20):
        pages = await walk(Localfs([open_path]), open_path)
    assert names(pages, open_path) == ["file"]
    assert issues(pages) == expected


async def test_links_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    fill(tmp_path, "root/deep/file", "outside/secret")
    (root / "to-file").symlink_to("deep/file")
    (root / "to-folder").symlink_to(root / "deep")
    (root / "deep/up").symlink_to("..")
    (root / "out-file").symlink_to(tmp_path / "outside/secret")
    (root / "out-folder").symlink_to("../outside")
    (root / "broken").symlink_to("nothing")
    (root / "loop").symlink_to("loop")
    pages = await walk(Localfs([tmp_path]), root)
    assert names(pages, root) == ["deep/file"]
    assert issues(pages) == {
        "broken": "broken-link",
        "loop": "broken-link",
        "out-file": "link-outside",
        "out-folder": "link-outside",
    }


async def test_unreadable_folder_leaves_its_documents_unknown(open_path: Path) -> None:
    fill(open_path, "a", "locked/1", "locked/2", "z")
    connector = Localfs([open_path], page_items=1)
    await walk(connector, open_path)  # what Python imports late is imported now
    (open_path / "locked").chmod(0)
    prefix = f"{open_path}/locked/"
    with as_ordinary_user():
        pages = await walk(connector, open_path)
        resumed = await walk(connector, open_path, cursor=pages[1].cursor)
        within = await walk(connector, open_path, cursor=f'{{"after": "{prefix}1"}}')
    (open_path / "locked").chmod(0o755)
    assert names(pages, open_path) == ["a", "z"]
    (issue,) = [issue for page in pages for issue in page.issues]
    assert (issue.external_id, issue.kind, issue.code) == (prefix, IssueKind.FAILED, "unreadable")
    for page in pages:
        reaches_beyond = page.through is None or page.through >= prefix
        starts_within = (page.after or "") <= prefix
        assert (prefix in page.unknown_prefixes) == (reaches_beyond and starts_within)
    assert resumed[0].unknown_prefixes == within[0].unknown_prefixes == (prefix,)


async def test_folder_whose_files_cannot_be_looked_at_is_unknown(open_path: Path) -> None:
    fill(open_path, "list-only/1", "z")
    connector = Localfs([open_path])
    await walk(connector, open_path)
    (open_path / "list-only").chmod(0o444)
    with as_ordinary_user():
        pages = await walk(connector, open_path)
    (open_path / "list-only").chmod(0o755)
    assert names(pages, open_path) == ["z"]
    assert pages[0].unknown_prefixes == (f"{open_path}/list-only/",)


async def test_source_that_is_away_raises_and_lists_nothing(open_path: Path) -> None:
    fill(open_path, "root/a", "root/b", "other/c")
    connector = Localfs([open_path], page_items=1)
    root = open_path / "root"
    pages = connector.pages({"paths": [str(root)]}, None)
    assert ids([await anext(pages)]) == [f"{root}/a"]
    root.rename(open_path / "moved")
    for again in (pages, connector.pages({"paths": [str(root)]}, None)):
        with pytest.raises(Transient, match="stay as they are") as caught:
            await anext(again)
        assert caught.value.error_code == "source-away"


async def test_root_replaced_during_the_walk_is_away(tmp_path: Path) -> None:
    fill(tmp_path, "root/a", "root/b")
    connector = Localfs([tmp_path], page_items=1)
    pages = connector.pages({"paths": [f"{tmp_path}/root"]}, None)
    await anext(pages)
    (tmp_path / "root").rename(tmp_path / "moved")
    (tmp_path / "root").mkdir()
    with pytest.raises(Transient, match="replaced or unmounted"):
        await anext(pages)


async def test_root_without_permission_is_away(open_path: Path) -> None:
    fill(open_path, "root/a")
    connector = Localfs([open_path])
    await walk(connector, open_path)
    (open_path / "root").chmod(0)
    with as_ordinary_user(), pytest.raises(Transient, match="is away"):
        await walk(connector, open_path / "root")
    (open_path / "root").chmod(0o755)


async def test_empty_folder_of_an_unmounted_drive_is_away(tmp_path: Path) -> None:
    connector = Localfs([tmp_path])
    (tmp_path / "drive").mkdir()
    drive = tmp_path / "drive"
    with pytest.raises(Transient, match="not mounted"):
        await walk(connector, drive, mount_points=[str(drive)])
    assert [page.items for page in await walk(connector, drive)] == [()]
    fill(drive, "a")
    assert names(await walk(connector, drive, mount_points=[str(drive)]), drive) == ["a"]


async def test_paths_too_long_for_an_index_are_recorded_once(tmp_path: Path) -> None:
    fill(tmp_path, "a/fine", "z")
    deep = os.open(tmp_path / "a", os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=deep)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        os.close(os.open("file", os.O_CREAT, dir_fd=below))
        deep = below
    os.close(deep)
    pages = await walk(Localfs([tmp_path]), tmp_path)
    found = ids(pages)
    assert 5 < len(found) < 15
    assert all(len(external_id) <= 2_000 for external_id in found)
    (issue,) = [issue for page in pages for issue in page.issues]
    assert issue.code == "path-too-long"
    assert len(issue.external_id) <= 2_000


async def test_large_files_are_recorded(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 101)
    (tmp_path / "fits").write_bytes(b"x" * 100)
    pages = await walk(Localfs([tmp_path], file_bytes_max=100), tmp_path)
    assert names(pages, tmp_path) == ["fits"]
    assert issues(pages) == {"large": "too-large"}


async def test_fingerprint_changes_with_the_file_and_only_then(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    connector = Localfs([tmp_path], settle_seconds=0)
    (before,) = (await walk(connector, tmp_path))[0].items
    (same,) = (await walk(connector, tmp_path))[0].items
    status = (tmp_path / "a").stat()
    (tmp_path / "a").write_text("That is a.\n\n")
    os.utime(tmp_path / "a", ns=(status.st_atime_ns, status.st_mtime_ns))
    (after,) = (await walk(connector, tmp_path))[0].items
    assert before.fingerprint == same.fingerprint != after.fingerprint
    assert (before.size, before.path) == (11, str(tmp_path / "a"))


async def test_file_just_changed_is_never_taken_for_unchanged(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    changed_ns = (tmp_path / "a").stat().st_ctime_ns
    now_ns = iter([changed_ns + 10, changed_ns + 20, changed_ns + 10**10, changed_ns + 10**11])
    connector = Localfs([tmp_path], now_ns=lambda: next(now_ns))
    prints = [(await walk(connector, tmp_path))[0].items[0].fingerprint for _ in range(4)]
    assert len(set(prints)) == 3
    assert prints[2] == prints[3]


async def test_count_is_exact_up_to_the_limit(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b/c", "b/d", ".hidden")
    connector = Localfs([tmp_path], page_items=1)
    config: dict[str, object] = {"paths": [str(tmp_path)]}
    assert await connector.count(config, limit=3) == 3
    assert await connector.count(config, limit=2) is None
