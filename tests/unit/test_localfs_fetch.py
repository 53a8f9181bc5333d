"""Reading files and checking configurations: what may be read, and what the answer is when it may not."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from sercha.adapters.connectors import localfs, localfs_open
from sercha.adapters.connectors.localfs import TOGETHER_BYTES_MAX, Localfs
from sercha.errors import ItemFailed, Rejected, Transient
from sercha.services.ports import Item
from tests.support.syncing import read_one
from tests.unit.test_localfs import as_ordinary_user, fill, open_path, walk

__all__ = ["open_path"]


async def listed(connector: Localfs, root: Path) -> Item:
    return (await walk(connector, root))[0].items[0]


async def refused(connector: Localfs, item: Item) -> ItemFailed:
    with trio.fail_after(20), pytest.raises(ItemFailed) as caught:
        await read_one(connector.fetch, item)
    return caught.value


def item_of(path: Path) -> Item:
    return Item(str(path), str(path), "1", 1)


@pytest.mark.parametrize(
    "name", [b"new\nline", b"\xff\xfe", b"back\\slash", b"\\x41", "é".encode(), b" "]
)
async def test_files_with_odd_names_are_read(tmp_path: Path, name: bytes) -> None:
    (tmp_path / os.fsdecode(name)).write_bytes(b"content")
    connector = Localfs([tmp_path])
    item = await listed(connector, tmp_path)
    assert not set(map(ord, item.external_id)) & {*range(32), 127}
    assert await read_one(connector.fetch, item) == b"content"


async def test_empty_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    connector = Localfs([tmp_path])
    assert await read_one(connector.fetch, await listed(connector, tmp_path)) == b""


async def test_vanished_file_is_told_from_a_source_that_went_away(tmp_path: Path) -> None:
    fill(tmp_path, "root/deep/a")
    connector = Localfs([tmp_path])
    item = await listed(connector, tmp_path / "root")
    shutil.rmtree(tmp_path / "root/deep")
    assert (await refused(connector, item)).error_code == "vanished"
    shutil.rmtree(tmp_path / "root")
    with pytest.raises(Transient) as caught:
        await read_one(connector.fetch, item)
    assert caught.value.error_code == "source-away"


async def test_link_swapped_in_after_the_listing_is_not_followed(tmp_path: Path) -> None:
    fill(tmp_path, "root/deep/a", "outside/a")
    connector = Localfs([tmp_path / "root"])
    item = await listed(connector, tmp_path / "root")
    (tmp_path / "root/deep/a").unlink()
    (tmp_path / "root/deep/a").symlink_to(tmp_path / "outside/a")
    failure = await refused(connector, item)
    assert (failure.error_code, failure.is_skip) == ("not-a-file", True)
    shutil.rmtree(tmp_path / "root/deep")
    (tmp_path / "root/deep").symlink_to(tmp_path / "outside")
    assert (await refused(connector, item)).error_code == "vanished"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("../secret")])
async def test_what_is_swapped_in_between_look_and_open_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    fill(tmp_path, "root/a", "secret")
    connector = Localfs([tmp_path / "root"])
    item = await listed(connector, tmp_path / "root")
    real = localfs_open.status_of

    def swap(place: localfs_open.Place) -> os.stat_result:
        status = real(place)
        (tmp_path / "root/a").unlink()
        make(tmp_path / "root/a")
        return status

    monkeypatch.setattr(localfs_open, "status_of", swap)
    assert (await refused(connector, item)).error_code == "not-a-file"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
async def test_what_became_no_file_is_skipped(tmp_path: Path, make: Callable[[Path], None]) -> None:
    fill(tmp_path, "a")
    connector = Localfs([tmp_path])
    item = await listed(connector, tmp_path)
    (tmp_path / "a").unlink()
    make(tmp_path / "a")
    failure = await refused(connector, item)
    assert (failure.error_code, failure.is_skip) == ("not-a-file", True)


async def test_unreadable_file_is_a_failure(open_path: Path) -> None:
    fill(open_path, "a", "b")
    connector = Localfs([open_path])
    item = await listed(connector, open_path)
    await read_one(connector.fetch, item)
    (open_path / "a").chmod(0)
    with as_ordinary_user():
        failure = await refused(connector, item)
    assert (failure.error_code, failure.is_skip) == ("unreadable", False)


async def test_file_that_grew_over_the_limit_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100)
    connector = Localfs([tmp_path], file_bytes_max=100)
    item = await listed(connector, tmp_path)
    assert await read_one(connector.fetch, item) == b"x" * 100
    (tmp_path / "a").write_bytes(b"x" * 101)
    failure = await refused(connector, item)
    assert (failure.error_code, failure.is_skip) == ("too-large", True)


async def test_file_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"old")
    connector = Localfs([tmp_path], settle_seconds=0)
    item = await listed(connector, tmp_path)
    changes: Iterator[bytes] = iter([b"newer", b"newest of all"])
    real = os.read

    def write_first(descriptor: int, size: int) -> bytes:
        piece = real(descriptor, size)
        change = next(changes, None) if not piece else None
        if change:
            (tmp_path / "a").write_bytes(change)
        return piece

    monkeypatch.setattr(localfs_open.os, "read", write_first)
    assert (await read_one(connector.fetch, item)).startswith(b"newe")
    monkeypatch.undo()
    assert (await listed(connector, tmp_path)).fingerprint != item.fingerprint


async def test_only_allowed_files_outside_of_own_data_are_read(tmp_path: Path) -> None:
    fill(tmp_path, "root/a", "root/data/b", "root2/c")
    connector = Localfs([tmp_path / "root"], tmp_path / "root/data")
    assert (
        await refused(connector, item_of(tmp_path / "root2/c"))
    ).error_code == "path-not-allowed"
    assert (await refused(connector, item_of(tmp_path / "root/data/b"))).error_code == "own-data"
    assert (
        await refused(connector, item_of(tmp_path / "root/../root2/c"))
    ).error_code == "vanished"


async def test_allowed_roots_are_asked_anew(tmp_path: Path) -> None:
    fill(tmp_path, "root/a")
    allowed = [tmp_path]
    connector = Localfs(lambda: allowed)
    item = await listed(connector, tmp_path / "root")
    allowed.clear()
    with pytest.raises(Rejected, match="LOCALFS_ALLOWED_ROOTS"):
        await walk(connector, tmp_path / "root")
    assert (await refused(connector, item)).error_code == "path-not-allowed"


@pytest.mark.parametrize(
    ("config", "code", "words"),
    [
        ({}, "bad-field", "paths"),
        ({"paths": []}, "bad-field", "paths must not be empty"),
        ({"paths": "ROOT"}, "bad-field", "paths must be a list"),
        ({"paths": [5]}, "bad-field", "not int"),
        ({"paths": [""]}, "bad-field", "empty text"),
        ({"paths": ["relative"]}, "bad-field", "not absolute"),
        ({"paths": ["ROOT/a\0b"]}, "bad-field", "control"),
        ({"paths": ["ROOT/\udcff"]}, "bad-field", "UTF-8"),
        ({"paths": ["/" + "x" * 3_000]}, "bad-field", "3001 characters"),
        ({"paths": ["ROOT"] * 101}, "bad-field", "101 entries"),
        ({"paths": ["ROOT"], "path": "x"}, "bad-field", "'path' is unknown"),
        ({"paths": ["ROOT"], "include_hidden": "yes"}, "bad-field", "include_hidden"),
        ({"paths": ["ROOT"], "exclude": "*.log"}, "bad-field", "exclude must be a list"),
        ({"paths": ["ROOT"], "exclude": [None]}, "bad-field", "exclude"),
        ({"paths": ["ROOT/pipe"]}, "bad-field", "neither a folder nor a regular file"),
        ({"paths": ["ROOT/missing"]}, "path-missing", "does not exist"),
        ({"paths": ["ROOT/a/b"]}, "path-missing", "does not exist"),
        ({"paths": ["ROOT", "/etc"]}, "path-not-allowed", "/etc is outside"),
        ({"paths": ["ROOT/../outside"]}, "path-not-allowed", "outside"),
        ({"paths": ["ROOT/link"]}, "path-not-allowed", "outside"),
        ({"paths": ["ROOTS"]}, "path-not-allowed", "outside"),
        ({"paths": ["ROOT/data/deep"]}, "path-not-allowed", "own data"),
    ],
)
async def test_wrong_configuration_is_rejected(
    tmp_path: Path, config: dict[str, object], code: str, words: str
) -> None:
    fill(tmp_path, "root/a", "outside/b", "root/data/deep/x", "roots/c")
    (tmp_path / "root/link").symlink_to(tmp_path / "outside")
    os.mkfifo(tmp_path / "root/pipe")
    connector = Localfs([tmp_path / "root"], tmp_path / "root/data")

    def fill_in(value: object) -> object:
        if isinstance(value, str):
            return value.replace("ROOTS", f"{tmp_path}/roots").replace("ROOT", f"{tmp_path}/root")
        return [fill_in(each) for each in value] if isinstance(value, list) else value

    with pytest.raises(Rejected, match=words) as caught:
        await connector.validate({key: fill_in(value) for key, value in config.items()})
    assert caught.value.error_code == code


async def test_unreadable_path_is_rejected(open_path: Path) -> None:
    fill(open_path, "folder/a", "file")
    connector = Localfs([open_path])
    (open_path / "folder").chmod(0)
    (open_path / "file").chmod(0)
    for name in ("folder", "file"):
        config: dict[str, object] = {"paths": [f"{open_path}/{name}"]}
        with as_ordinary_user(), pytest.raises(Rejected) as caught:
            await connector.validate(config)
        assert caught.value.error_code == "path-unreadable"
    (open_path / "folder").chmod(0o755)


async def test_configuration_becomes_canonical(tmp_path: Path) -> None:
    fill(tmp_path, "a/b/c", "d", "z/x")
    (tmp_path / "link").symlink_to("z")
    connector = Localfs([tmp_path])
    paths = [
        f"{tmp_path}/link/",
        f"{tmp_path}/d",
        f"{tmp_path}/a/b/",
        f"{tmp_path}//a/./",
        f"{tmp_path}/a",
    ]
    config: dict[str, object] = {"paths": paths, "include_hidden": False, "exclude": ["*.log"]}
    canonical = await connector.validate(config)
    assert canonical == {
        "paths": [f"{tmp_path}/a", f"{tmp_path}/d", f"{tmp_path}/z"],
        "exclude": ["*.log"],
    }
    assert await connector.validate(canonical) == canonical


async def test_allowed_root_can_be_a_file_or_a_link(tmp_path: Path) -> None:
    fill(tmp_path, "real/a", "real/b")
    (tmp_path / "link").symlink_to("real")
    one = Localfs([tmp_path / "real/a"])
    assert await read_one(one.fetch, await listed(one, tmp_path / "real/a")) == b"This is real/a.\n"
    with pytest.raises(Rejected, match="outside"):
        await one.validate({"paths": [f"{tmp_path}/real"]})
    through_link = Localfs([tmp_path / "link"])
    config = await through_link.validate({"paths": [f"{tmp_path}/link"]})
    assert config == {"paths": [f"{tmp_path}/real"]}


async def test_without_allowed_roots_the_setting_is_named(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="set LOCALFS_ALLOWED_ROOTS"):
        await Localfs([]).validate({"paths": [str(tmp_path)]})


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    fill(tmp_path, "root/a/b", "root/data/c", "root/env/pyvenv.cfg", "root/d")
    (tmp_path / "root/link").symlink_to("/etc")
    connector = Localfs([tmp_path], tmp_path / "root/data")
    await walk(connector, tmp_path / "root")
    before = len(os.listdir("/dev/fd"))
    for page in await walk(connector, tmp_path / "root"):
        for item in page.items:
            await read_one(connector.fetch, item)
    for name in ("root/data/c", "root/link", "root/link/passwd", "root/missing", "root/a"):
        await refused(connector, item_of(tmp_path / name))
    assert len(os.listdir("/dev/fd")) == before


async def test_files_are_read_together_until_enough_is_held(tmp_path: Path) -> None:
    sizes = {"a": 10, "b": TOGETHER_BYTES_MAX - 10, "d": 5}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(name.encode() * size)
    connector = Localfs([tmp_path])
    items = [item_of(tmp_path / name) for name in ("a", "missing", "b", "d")]

    first, failed, second = await connector.fetch(items)

    assert (first, second) == (b"a" * 10, b"b" * sizes["b"])
    assert isinstance(failed, ItemFailed)
    assert failed.error_code == "vanished"
    assert await connector.fetch(items[3:]) == [b"d" * 5]


async def test_what_was_read_before_the_source_went_away_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "root/a", "root/b", "root/c")
    connector = Localfs([tmp_path])
    (page,) = await walk(connector, tmp_path / "root")
    read = localfs.read_place

    def read_and_remove(place: localfs_open.Place, *rest: Any) -> bytes:
        content = read(place, *rest)
        if place.path.endswith(b"/b"):
            shutil.rmtree(tmp_path / "root")
        return content

    monkeypatch.setattr(localfs, "read_place", read_and_remove)
    assert await connector.fetch(page.items) == [b"This is root/a.\n", b"This is root/b.\n"]
    with pytest.raises(Transient):
        await connector.fetch(page.items[2:])


async def test_cancelled_read_does_not_wait_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, "a")
    connector = Localfs([tmp_path])
    item = await listed(connector, tmp_path)
    token = trio.lowlevel.current_trio_token()
    hung = trio.Event()
    wake = threading.Event()
    real = localfs_open.status_of

    def hang(place: localfs_open.Place) -> os.stat_result:
        trio.from_thread.run_sync(hung.set, trio_token=token)
        wake.wait(20)
        return real(place)

    monkeypatch.setattr(localfs_open, "status_of", hang)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connector.fetch, [item])
            await hung.wait()
            nursery.cancel_scope.cancel()
    wake.set()
