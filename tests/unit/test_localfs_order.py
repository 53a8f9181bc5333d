"""The order of the walk and the encoding of names, for any names a disk can hold."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from sercha.adapters.connectors.localfs import Localfs
from sercha.adapters.connectors.localfs_rules import BUILD_FOLDERS
from sercha.adapters.connectors.path_encoding import decode_path, encode_path
from tests.unit.test_localfs import ids, walk

NAMES = st.one_of(
    st.binary(min_size=1, max_size=4).filter(lambda name: not set(name) & {0, 0x2F}),
    st.sampled_from(
        [b"a", b"a.b", b"a0", b"a-", b"A", b"\\", b"\xff", b"\n", "é".encode(), "漢".encode()]
    ),
).filter(lambda name: name not in (b".", b".."))


TREES = st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=15)


@given(st.lists(NAMES, min_size=1, max_size=5))
def test_encoded_paths_decode_to_themselves(parts: list[bytes]) -> None:
    path = b"/" + b"/".join(parts)
    encoded = encode_path(path)
    assert decode_path(encoded) == path
    assert not any(
        char < " " or "\x7f" <= char <= "\x9f" or "\ud800" <= char <= "\udfff" for char in encoded
    )


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "a",
        "/a/../b",
        "/./a",
        "/a//b",
        "/a/",
        "/a\\x2fb",
        "/\\x2e\\x2e/b",
        "/\\q",
        "/a\\",
        "/\\x41",
        "/a\nb",
        "/a\0",
    ],
)
def test_what_no_path_encodes_to_is_refused(encoded: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        decode_path(encoded)


def test_odd_names_are_safe_to_print() -> None:
    assert encode_path(b"/a\nb/\xff\\/\xc2\x9b/ok \xc3\xa9") == "/a\\x0ab/\\xff\\\\/\\xc2\\x9b/ok é"


def plant(root: bytes, tree: list[list[bytes]]) -> set[bytes]:
    """Make the files of *tree*, unless a name is taken by one of the other kind."""
    planted: set[bytes] = set()
    for parts in tree:
        path = os.path.join(root, *parts)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        except OSError:
            continue
        planted.add(path)
    return planted


@settings(max_examples=60, deadline=None)
@given(TREES, st.integers(1, 5))
def test_walk_lists_all_files_in_bytewise_order_and_resumes_anywhere(
    tree: list[list[bytes]], page_items: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.realpath(os.fsencode(folder))
        planted = plant(root, tree)
        connector = Localfs([Path(os.fsdecode(root))], page_items=page_items)

        async def main() -> None:
            path = Path(os.fsdecode(root))
            pages = await walk(connector, path, include_hidden=True)
            found = ids(pages)
            # Some names stay out whatever the settings are.
            expected = {path for path in planted if not is_left_out(path[len(root) + 1 :])}
            assert {decode_path(external_id) for external_id in found} == expected
            assert found == sorted(found, key=str.encode)
            for number, page in enumerate(pages):
                assert page.after == (pages[number - 1].through if number else None)
                assert (page.through is None) == (page is pages[-1]) == (page.cursor is None)
                assert len(page.items) <= page_items
                rest = await walk(connector, path, cursor=page.cursor, include_hidden=True)
                expected_rest = pages[number + 1 :] if page.cursor else pages
                assert ids(rest) == ids(expected_rest)

        trio.run(main)


def is_left_out(path: bytes) -> bool:
    *folders, name = path.split(b"/")
    is_leftover = name.endswith((b"~", b".swp", b".swo", b".swx")) or name[:1] == b"#" == name[-1:]
    return is_leftover or not BUILD_FOLDERS.isdisjoint(folders)
