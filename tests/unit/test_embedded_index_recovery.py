"""A copy on disk across restarts, neighbours, damage, full disks, kills and cancellations."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import tantivy
import trio

from sercha.adapters.embedded_index import EmbeddedIndex, open_embedded_index
from sercha.adapters.embedded_index.engine import EngineFailure, guarded
from sercha.adapters.embedded_index.entries import build_schema
from sercha.adapters.embedded_index.storage import SLOTS_MAX, claim_slot
from sercha.domain.document import TEAM, Chunk, DocumentId, IndexedDocument
from sercha.domain.query import parse_query
from sercha.errors import Transient
from sercha.services.ports import Change, FeedPosition

EVERYONE = frozenset({TEAM})


def added(number: int, text: str) -> Change:
    document = IndexedDocument(
        DocumentId(number), uuid.UUID(int=1), f"p{number}", "t", "text/plain", text,
        (Chunk(0, 0, len(text)),), (TEAM,), 1, None,
    )  # fmt: skip
    return Change(document.id, document)


def at(index: EmbeddedIndex, snapshot: str) -> FeedPosition:
    return FeedPosition(index.consumer_id, snapshot, "7301:1", "a mark")


async def total(index: EmbeddedIndex, text: str) -> int:
    return (await index.search(parse_query(text), EVERYONE)).total


async def fill(directory: Path) -> Path:
    """A closed copy with two segments and a deletion; gives the folder of its files."""
    async with open_embedded_index(directory) as index:
        await index.apply([added(n, f"red word{n}") for n in range(1, 60)], None)
        await index.apply([added(n, f"red word{n}") for n in range(50, 80)], at(index, "5:5:"))
        return directory / index.generation / "0" / "files"


async def test_restart_keeps_documents_position_and_identity(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with open_embedded_index(tmp_path) as index:
        first = index.consumer_id
        assert await index.position() == at(index, "5:5:")
        assert await total(index, "red") == 79

    async with open_embedded_index(tmp_path) as index:
        assert index.consumer_id == first


async def test_neighbours_get_copies_and_identities_of_their_own(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with open_embedded_index(tmp_path) as one, open_embedded_index(tmp_path) as two:
        assert one.consumer_id != two.consumer_id
        assert one.generation == two.generation
        assert await two.position() is None
        await two.apply([added(1, "blue")], at(two, "6:6:"))
        assert (await total(one, "blue"), await total(one, "red")) == (0, 79)
        kept = two.consumer_id

    async with open_embedded_index(tmp_path), open_embedded_index(tmp_path) as two:
        assert two.consumer_id == kept
        assert await total(two, "blue") == 1


async def test_slot_is_free_again_when_the_block_is_cancelled(tmp_path: Path) -> None:
    for _ in range(2):
        with trio.CancelScope() as scope:
            async with open_embedded_index(tmp_path) as index:
                scope.cancel()
                await trio.sleep_forever()

    assert sorted(it.name for it in (tmp_path / index.generation).iterdir()) == ["0"]


def test_no_free_slot_and_no_usable_folder_are_clear_errors(tmp_path: Path) -> None:
    slots = [claim_slot(tmp_path, "embedded-x") for _ in range(SLOTS_MAX)]

    with pytest.raises(Transient, match="slots of the index folder"):
        claim_slot(tmp_path, "embedded-x")

    for slot in slots:
        slot.release()
    (tmp_path / "file").touch()
    with pytest.raises(Transient, match="cannot be used"):
        claim_slot(tmp_path / "file" / "index", "embedded-x")


def test_copies_of_other_generations_go_when_nobody_holds_them(tmp_path: Path) -> None:
    held = claim_slot(tmp_path, "embedded-old")
    claim_slot(tmp_path, "embedded-older").release()
    (tmp_path / "something-else").mkdir()

    claim_slot(tmp_path, "embedded-new").release()
    assert {it.name for it in tmp_path.iterdir() if it.is_dir()} == {
        "embedded-old", "embedded-new", "something-else",
    }  # fmt: skip

    held.release()
    claim_slot(tmp_path, "embedded-new").release()
    assert not (tmp_path / "embedded-old").exists()


async def test_copied_folder_becomes_another_consumer_and_starts_empty(tmp_path: Path) -> None:
    await fill(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    async with open_embedded_index(tmp_path / "a") as one:
        async with open_embedded_index(tmp_path / "b") as two:
            assert one.consumer_id != two.consumer_id
            assert await two.position() is None
            assert await total(two, "red") == 0
        assert await total(one, "red") == 79


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x40
    path.write_bytes(content)


def _truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("harm", [_flip, _truncate, _empty, Path.unlink])
@pytest.mark.parametrize(
    "name", ["meta.json", "*.idx", "*.pos", "*.term", "*.store", "*.fast", "*.fieldnorm", "*.del"]
)
async def test_damaged_copy_is_thrown_away_at_the_start(
    tmp_path: Path, harm: object, name: str
) -> None:
    files = await fill(tmp_path)
    victim = min(files.glob(name))
    if harm is _flip and name == "meta.json":
        victim.write_bytes(victim.read_bytes().replace(b'"document_id"', b'"dXcument_id"'))
    else:
        assert callable(harm)
        harm(victim)

    async with open_embedded_index(tmp_path) as index:
        assert await index.position() is None
        assert await total(index, "red") == 0
        await index.apply([added(1, "red")], at(index, "6:6:"))

    async with open_embedded_index(tmp_path) as index:
        assert await index.position() == at(index, "6:6:")
        assert await total(index, "red") == 1


async def test_copy_without_any_file_is_a_new_one(tmp_path: Path) -> None:
    shutil.rmtree(await fill(tmp_path))

    async with open_embedded_index(tmp_path) as index:
        assert await index.position() is None


async def test_copy_damaged_while_it_runs_says_so_until_it_is_replaced(tmp_path: Path) -> None:
    await fill(tmp_path)
    async with open_embedded_index(tmp_path) as index:
        for path in (tmp_path / index.generation / "0" / "files").glob("*.term"):
            with path.open("r+b") as file:  # in place: the files are mapped
                file.write(b"\xff" * path.stat().st_size)

        for _ in range(2):
            with pytest.raises(Transient) as caught:
                await total(index, "red")
            assert caught.value.error_code == "index-damaged"
        assert await index.position() is None
        with pytest.raises(Transient) as caught:
            await index.apply([added(1, "red")], at(index, "6:6:"))
        assert caught.value.error_code == "index-damaged"

        async def refill() -> AsyncIterator[list[Change]]:
            yield [added(1, "red")]
            with pytest.raises(Transient):  # no answer is better than an empty one
                await total(index, "red")

        with trio.CancelScope() as scope:
            scope.cancel()
            await index.replace(refill(), at(index, "7:7:"))
        with pytest.raises(Transient):
            await index.apply([added(1, "red")], at(index, "7:7:"))
        await index.replace(refill(), at(index, "7:7:"))
        assert await total(index, "red") == 1
        assert await index.position() == at(index, "7:7:")


async def test_cancelled_batch_leaves_nothing_for_the_next_commit(tmp_path: Path) -> None:
    async with open_embedded_index(tmp_path) as index:
        await index.apply([added(1, "red")], at(index, "5:5:"))
        batch = [added(n, f"blue {n} " * 500) for n in range(2, 3_000)]
        with trio.move_on_after(0.15) as scope:
            await index.apply(batch, at(index, "6:6:"))
        assert scope.cancelled_caught
        assert await index.position() == at(index, "5:5:")

        await index.apply([added(4_000, "red")], at(index, "7:7:"))

        assert (await total(index, "red"), await total(index, "blue")) == (2, 0)


async def test_batches_from_several_tasks_are_written_one_after_the_other(tmp_path: Path) -> None:
    async with open_embedded_index(tmp_path) as index:
        async with trio.open_nursery() as nursery:
            for n in range(1, 21):
                nursery.start_soon(index.apply, [added(n, "red")], None)
                nursery.start_soon(total, index, "red")

        assert await total(index, "red") == 20
        assert (await index.statistics()).commits == 20


def test_panic_in_the_engine_is_an_ordinary_failure() -> None:
    schema = build_schema()

    with pytest.raises(EngineFailure, match="testing: "), guarded("testing"):
        tantivy.Query.phrase_query(schema, "words", ["x"])


def test_cancellation_passes_the_border_of_the_engine_unchanged() -> None:
    with pytest.raises(KeyboardInterrupt), guarded("testing"):
        raise KeyboardInterrupt


CHILD = """
import resource, sys, trio
from pathlib import Path
from sercha.errors import Transient
from sercha.adapters.embedded_index import open_embedded_index
from tests.unit.test_embedded_index_recovery import added, at, total
"""


def child(program: str, directory: Path, **options: object) -> subprocess.Popen[str]:
    code = CHILD + textwrap.dedent(program) + "\ntrio.run(main, Path(sys.argv[1]))"
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", code, str(directory)], cwd=root, text=True, stdout=subprocess.PIPE,
        **options,  # type: ignore[call-overload]
    )  # fmt: skip


def test_full_disk_is_transient_and_the_last_commit_still_answers(tmp_path: Path) -> None:
    """Given a limit on the size of files, which fails writes as a full disk does."""
    program = """
    async def main(directory):
        async with open_embedded_index(directory) as index:
            await index.apply([added(1, "red")], at(index, "5:5:"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, resource.RLIM_INFINITY))
            big = [added(n, " ".join(f"blue{n}x{k}" for k in range(900))) for n in range(2, 40)]
            for _ in range(2):
                try:
                    await index.apply(big, at(index, "6:6:"))
                except Transient as error:
                    print("said:", error.error_code)
                assert await total(index, "red") == 1
                assert await total(index, "blue3x3") == 0
                assert await index.position() == at(index, "5:5:")
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            await index.apply(big, at(index, "7:7:"))
            print("said:", await total(index, "blue3x3"), await index.position() == at(index, "7:7:"))
    """
    process = child(program, tmp_path, stderr=subprocess.DEVNULL)
    output, _ = process.communicate(timeout=60)

    said = [line.split()[1:] for line in output.splitlines() if line.startswith("said:")]
    assert said == [["index-failed"], ["index-failed"], ["1", "True"]]


async def test_killed_process_leaves_a_copy_that_matches_its_position(tmp_path: Path) -> None:
    """Kill a writer at moments of its own making; each commit adds one document and says so."""
    program = """
    async def main(directory):
        async with open_embedded_index(directory) as index:
            position = await index.position()
            done = int(position.snapshot) if position else 0
            print(done, flush=True)
            for n in range(done + 1, 10_000):
                await index.apply([added(n, "red " * 50)], at(index, str(n)))
                print(n, flush=True)
    """
    committed = 0
    for kills_after in (1, 9, 14):
        process = child(program, tmp_path)
        assert process.stdout is not None
        for _ in range(kills_after + 1):
            committed = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = process.communicate(timeout=30)[0].split()
        committed = max([committed, *map(int, rest)])

        async with open_embedded_index(tmp_path) as index:
            position = await index.position()
            assert position is not None
            assert await total(index, "red") == int(position.snapshot) >= committed
            assert (tmp_path / index.generation / "0").is_dir()
            assert not (tmp_path / index.generation / "1").exists()
