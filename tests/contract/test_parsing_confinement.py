"""What a parser process may not do, and what becomes of the next document when one tries."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from sercha.adapters.parsing.pool import ParserPool, open_parsers
from sercha.adapters.parsing.process import ParserLimits
from sercha.errors import ItemFailed, Unavailable
from tests.support import require as require_present
from tests.support.docs import ROOT

MODULE = "tests.support.misbehaving"
LIMITS = ParserLimits(seconds=20, memory_bytes=160 * 1024**2)
PROMPT = replace(LIMITS, seconds=0.5)
SECCOMP, LANDLOCK = "system calls (seccomp)", "files (landlock)"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
async def pool() -> AsyncIterator[ParserPool]:
    async with open_parsers(1, LIMITS, parsers=MODULE) as pool:
        yield pool


async def text_of(pool: ParserPool, kind: str, content: bytes | str | Path = b"") -> str:
    raw = content if isinstance(content, bytes) else str(content).encode()
    with trio.fail_after(30):
        return (await pool.parse(kind, "/a", raw, chars_max=10_000)).text


async def failure_of(pool: ParserPool, kind: str, content: bytes = b"") -> ItemFailed:
    with trio.fail_after(30), pytest.raises(ItemFailed) as caught:
        await pool.parse(kind, "/a", content, chars_max=10_000)
    return caught.value


async def pid_of(pool: ParserPool) -> int:
    with trio.fail_after(30):
        return int((await pool.parse("echo", "/a", b"", chars_max=10)).metadata["pid"])


def require(pool: ParserPool, measure: str) -> None:
    """Skip where the system has not what the test is about; doctor says so too."""
    reason = (pool.measures or {}).get(measure)
    require_present("confinement", not reason, f"{measure}: {reason}")


def is_gone(pid: int) -> bool:
    """Whether there is no such process, not even one that nobody has waited for."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("kind", "code", "word"),
    [
        ("memory", "parser-memory", "memory"),
        ("crash", "parser-crashed", "SIGSEGV"),
        ("abort", "parser-crashed", "SIG"),
        ("leave", "parser-crashed", "status 0"),
        ("garbage", "parser-crashed", "a frame of"),
        ("silence", "parser-crashed", "stopped talking"),
        ("unclean", "parser-crashed", "not clean"),
        ("bad-section", "parser-crashed", "out of bounds"),
        ("too-long", "parser-crashed", "a frame of"),
        ("unknown-code", "parser-crashed", "code"),
        ("deep", "too-deep", "deep"),
        ("raise", "broken", "KeyError"),
    ],
)
async def test_a_document_that_spoils_its_process_costs_itself_only(
    pool: ParserPool, kind: str, code: str, word: str
) -> None:
    error = await failure_of(pool, kind, b"words of the document")

    assert error.error_code == code
    assert word in error.message
    assert "words of the document" not in error.message
    assert await text_of(pool, "echo", "next") == "next"


@pytest.mark.parametrize("kind", ["loop", "sleep"])
async def test_a_document_without_an_end_is_killed_in_time(kind: str) -> None:
    async with open_parsers(1, PROMPT, parsers=MODULE) as pool:
        pid = await pid_of(pool)
        began = trio.current_time()
        error = await failure_of(pool, kind)

        assert error.error_code == "parser-timeout"
        assert trio.current_time() - began < 5
        assert await text_of(pool, "echo", "next") == "next"
        assert is_gone(pid)


@pytest.mark.parametrize("kind", ["connect", "socket-pair"])
async def test_a_parser_reaches_no_network(pool: ParserPool, kind: str) -> None:
    await pid_of(pool)
    require(pool, "no network")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert (await text_of(pool, kind, str(port))).startswith("refused: PermissionError")


@pytest.mark.parametrize("kind", ["write", "append", "remove", "rename", "mode", "folder"])
async def test_a_parser_changes_no_file(pool: ParserPool, kind: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    if kind not in ("write", "folder"):
        victim.write_text("untouched")

    assert (await text_of(pool, kind, victim)).startswith("refused:")
    assert not victim.exists() or victim.read_text() == "untouched"
    assert set(os.listdir(tmp_path)) <= {"victim"}


@pytest.mark.parametrize("kind", ["read", "list"])
async def test_a_parser_reads_nothing_but_code(pool: ParserPool, kind: str, tmp_path: Path) -> None:
    await pid_of(pool)
    require(pool, LANDLOCK)
    (tmp_path / "secret").write_text("secret")
    places = [tmp_path / "secret" if kind == "read" else tmp_path, Path("/proc/self/environ")]
    places += [ROOT / "README.md" if kind == "read" else ROOT]

    for place in places:
        assert (await text_of(pool, kind, place)).startswith("refused:"), place


@pytest.mark.parametrize("kind", ["run", "replace", "fork", "thread"])
async def test_a_parser_starts_nothing(pool: ParserPool, kind: str) -> None:
    await pid_of(pool)
    require(pool, "no processes")

    assert (await text_of(pool, kind)).startswith("refused:")


@pytest.mark.parametrize("kind", ["kill", "unlimit"])
async def test_a_parser_cannot_touch_its_worker_or_its_limits(pool: ParserPool, kind: str) -> None:
    await pid_of(pool)
    require(pool, SECCOMP)

    assert (await text_of(pool, kind, str(os.getpid()))).startswith("refused:")


async def test_a_parser_knows_none_of_our_secrets(
    pool: ParserPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_KEY", "secret")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:p@h/d")
    names = (await text_of(pool, "environment")).split("\n")

    assert "MASTER_KEY" not in names
    assert "DATABASE_URL" not in names


async def test_what_a_library_prints_is_lost_and_harmless(pool: ParserPool) -> None:
    assert await text_of(pool, "prints", "quiet") == "quiet"


async def test_a_process_is_used_again_and_replaced_after_some_documents() -> None:
    async with open_parsers(1, replace(LIMITS, files_max=3), parsers=MODULE) as pool:
        pids = [await pid_of(pool) for _ in range(7)]

    assert pids[0] == pids[1] == pids[2] != pids[3]
    assert pids[3] == pids[5] != pids[6]
    assert all(map(is_gone, pids))


async def test_a_process_that_has_grown_is_replaced() -> None:
    limits = ParserLimits(kept_bytes_max=100 * 1024**2)
    async with open_parsers(1, limits, parsers=MODULE) as pool:
        before = await pid_of(pool)
        assert await pid_of(pool) == before
        await text_of(pool, "bloat")

        assert await pid_of(pool) != before


async def test_a_process_that_died_idle_costs_no_document(pool: ParserPool) -> None:
    pid = await pid_of(pool)
    os.kill(pid, signal.SIGKILL)
    with trio.fail_after(10):
        while not _is_zombie(pid):
            await trio.sleep(0.01)

    assert await pid_of(pool) != pid
    assert is_gone(pid)


async def test_whoever_gives_up_takes_the_process_along_and_nobody_else(pool: ParserPool) -> None:
    pid = await pid_of(pool)
    with trio.move_on_after(0.3) as scope:
        await pool.parse("sleep", "/a", b"", chars_max=10)

    assert scope.cancelled_caught
    assert await text_of(pool, "echo", "next") == "next"
    assert is_gone(pid)


async def test_documents_are_parsed_side_by_side_and_wait_for_a_free_process() -> None:
    async with open_parsers(2, LIMITS, parsers=MODULE) as pool:
        texts: list[str] = []

        async def one(number: int) -> None:
            texts.append(await text_of(pool, "echo", str(number)))

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(one, number)

    assert sorted(map(int, texts)) == list(range(40))


async def test_nothing_is_left_when_the_block_ends_in_the_middle_of_a_document() -> None:
    before = children()
    async with trio.open_nursery() as nursery:
        async with open_parsers(2, LIMITS, parsers=MODULE) as pool:
            pids = {await pid_of(pool)}
            nursery.start_soon(_give_up, pool)
            await trio.testing.wait_all_tasks_blocked(0.05)
        assert all(map(is_gone, pids))
    assert children() <= before


async def _give_up(pool: ParserPool) -> None:
    with pytest.raises(Unavailable, match="stopping"):
        await pool.parse("sleep", "/a", b"", chars_max=10)


def children() -> set[int]:
    """Return our child processes, zombies too."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return set(map(int, listed.split()))


@pytest.fixture(autouse=True)
def _no_child_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before


async def test_a_process_that_cannot_be_started_is_named_and_tried_again() -> None:
    async with open_parsers(1, LIMITS, parsers="tests.support.no_such_module") as pool:
        with trio.fail_after(20), pytest.raises(Unavailable) as caught:
            await pool.parse("echo", "/a", b"", chars_max=10)

    assert caught.value.error_code == "parser-start"


async def test_processes_end_with_a_worker_that_is_killed() -> None:
    program = (
        "import trio\n"
        "from sercha.adapters.parsing.pool import open_parsers\n"
        "async def main():\n"
        f"    async with open_parsers(1, parsers={MODULE!r}) as pool:\n"
        "        found = await pool.parse('echo', '/a', b'', chars_max=10)\n"
        "        print(found.metadata['pid'], flush=True)\n"
        "        await pool.parse('loop', '/a', b'', chars_max=10)\n"
        "trio.run(main)\n"
    )
    with _started(program) as worker:
        assert worker.stdout is not None
        pid = int(worker.stdout.readline())
        worker.kill()
        worker.wait()
        with trio.fail_after(10):
            while not is_gone(pid) and not _is_zombie(pid):
                await trio.sleep(0.01)


def _started(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def _is_zombie(pid: int) -> bool:
    """Whether it has ended; who adopted it may not have noticed yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except FileNotFoundError:
        return True
