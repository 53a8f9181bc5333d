"""The way of a document and of a query, as its page tells it, is the way that they take."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import httpx
import pytest
import structlog
import trio

from sercha.adapters.postgres.migrate import migrate
from sercha.adapters.postgres.pool import open_pool
from tests.support.connections import until
from tests.support.docs import DOCS, ROOT, blocks, rows, section
from tests.support.truth import open_truth

PAGE = DOCS / "explanation" / "the-way-of-a-document-and-a-query.md"
SVG = DOCS / "explanation" / "rooms.svg"
EXAMPLE_PAGE = DOCS / "how-to" / "embed-the-worker.md"
PATH = re.compile(r"`((?:sercha|lockd|docs|tests)/[\w./-]+)`")
NAME = re.compile(r"`(\w+(?:\.\w+)*)\(\)`")


@cache
def defined_names() -> frozenset[str]:
    """Return all functions, and methods with their class in front too; SQL functions as well."""
    names: set[str] = set()
    for package in ("sercha", "lockd"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    names.add(node.name)
                elif isinstance(node, ast.ClassDef):
                    names |= {
                        f"{node.name}.{child.name}"
                        for child in node.body
                        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                    }
    for path in (ROOT / "sercha").rglob("*.sql"):
        names |= set(re.findall(r"CREATE FUNCTION (\w+)", path.read_text("utf-8")))
    return frozenset(names)


def missing_in(text: str) -> list[str]:
    """Return the paths and functions in a text that do not exist."""
    paths = [path for path in PATH.findall(text) if not (ROOT / path).exists()]
    functions = [f"{name}()" for name in NAME.findall(text) if name not in defined_names()]
    return paths + functions


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.name)
def test_every_path_and_function_that_a_page_names_exists(page: Path) -> None:
    assert missing_in(page.read_text("utf-8")) == []


def test_the_check_of_names_finds_planted_ones() -> None:
    text = "`sercha/nowhere.py` and `no_such_thing()` and `Worker.fly()` and `Worker.run()`"

    assert missing_in(text) == ["sercha/nowhere.py", "no_such_thing()", "Worker.fly()"]


def test_the_trace_names_enough_to_be_one() -> None:
    text = PAGE.read_text("utf-8")

    assert len(set(PATH.findall(text))) >= 20
    assert len(set(NAME.findall(text))) >= 25


def test_the_picture_names_real_rooms() -> None:
    words = re.findall(r">([^<>]+)<", SVG.read_text("utf-8"))
    paths = [word for text in words for word in re.findall(r"sercha/[\w./]+", text)]

    assert len(paths) >= 8
    assert [path for path in paths if not (ROOT / path.rstrip("/")).exists()] == []


def example(number: int = 0) -> dict[str, object]:
    """Return what an example of the how-to page defines: that of both roles, or that of tasks of one's own."""
    found = [each for each in blocks("python") if each.page == EXAMPLE_PAGE]
    assert len(found) == 2
    block = found[number]
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(block.text, block.name, "exec"), names)
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "notes"
    place.mkdir()
    (place / "tea.md").write_text("# Tea\n\nOolong is half oxidised.\n")
    (place / "coffee.md").write_text("# Coffee\n\nArabica grows on mountains.\n")
    return place


@pytest.fixture
def settings(
    postgres_url: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Put the settings of the example into the environment; gives the database's address."""
    for name, value in {
        "DATABASE_URL": postgres_url,
        "JWT_SECRET": "s" * 40,
        "MASTER_KEY": "0f" * 32,
        "DATA_DIR": str(tmp_path / "data"),
        "LOCALFS_ALLOWED_ROOTS": str(folder),
    }.items():
        monkeypatch.setenv(name, value)
    return postgres_url


def events_of(actor: str, listed: list[str], logged: list[dict[str, object]]) -> list[str]:
    """Return what was logged of the *listed* events, as the page writes them, in order."""
    found: list[str] = []
    for event in logged:
        name = str(event["event"])
        if name == "request.finished":
            name = f"{name} {event['method']} {event['route']} {event['status']}"
        if name in listed:
            found.append(name)
    assert found, f"nothing was logged by the {actor}"
    return found


async def test_a_real_document_and_query_log_what_the_page_lists(
    settings: str, folder: Path
) -> None:
    """The embedding example, run as it stands; the page's tables list the events of each actor in order."""
    main = example()["main"]
    async with open_pool(settings) as pool:
        await migrate(pool)
    text = section(PAGE, "What the log shows")
    expected: dict[str, list[str]] = {}
    for actor, event, *_ in rows(text):
        expected.setdefault(actor, []).append(event.strip("`"))
    assert set(expected) == {"API", "worker"}

    with structlog.testing.capture_logs() as logged:
        with trio.fail_after(90):
            paths = await main(str(folder), "oolong")  # type: ignore[operator]

    assert paths == [str(folder / "tea.md")]
    for actor, listed in expected.items():
        assert events_of(actor, listed, logged) == listed  # type: ignore[arg-type]


async def test_what_the_page_says_commits_together_does(settings: str, folder: Path) -> None:
    """Documents, chunks and their entries in the change feed carry the number of one transaction."""
    main = example()["main"]
    async with open_truth(settings) as truth:
        await truth.feed.register("a consumer that never advances, so that nothing is trimmed")
        with trio.fail_after(90):
            await main(str(folder), "oolong")  # type: ignore[operator]

        numbers = await truth.value(
            """SELECT array_agg(DISTINCT number) FROM (
                   SELECT xmin::text FROM document UNION ALL SELECT xmin::text FROM chunk
                   UNION ALL SELECT (xid::text::bigint %% 4294967296)::text FROM change
               ) AS written (number)"""
        )

        assert isinstance(numbers, list)
        assert len(numbers) == 1
        assert await truth.value("SELECT count(*) FROM document") == 2
        assert await truth.value("SELECT count(*) FROM change") == 2
        assert await truth.value("SELECT state FROM task") == "completed"
        assert await truth.value("SELECT status FROM sync_state") == "completed"
        assert await truth.value("SELECT cursor FROM sync_state") is None
        assert await truth.value("SELECT owner FROM task") is None
        assert await truth.value("SELECT count(*) FROM heartbeat WHERE expires_at > now()") == 0


@pytest.mark.parametrize("with_redis", [False, True])
async def test_the_example_of_tasks_of_ones_own_does_each_once(
    settings: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, with_redis: bool
) -> None:
    if with_redis:
        monkeypatch.setenv("REDIS_URL", redis_url)
    names = [f"name {number}" for number in range(30)]
    async with open_truth(settings) as truth:
        with trio.fail_after(90):
            greeted = await example(1)["main"](names)  # type: ignore[operator]

        assert sorted(greeted) == sorted(names)
        assert await truth.value("SELECT array_agg(DISTINCT state) FROM task") == ["completed"]
        assert await truth.value("SELECT count(*) FROM task") == len(names)


async def test_the_example_leaves_no_port_and_no_connection_behind(
    settings: str, folder: Path
) -> None:
    names = example()
    seen: list[str] = []
    inner = names["index_and_search"]

    async def spy(url: str, *arguments: str) -> list[str]:
        seen.append(url)
        return await inner(url, *arguments)  # type: ignore[operator]

    names["index_and_search"] = spy
    async with open_truth(settings) as truth:
        with trio.fail_after(90):
            await names["main"](str(folder), "arabica")  # type: ignore[operator]

        async def is_alone() -> bool:
            query = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                       AND application_name IN ('sercha api', 'sercha worker')"""
            return await truth.value(query) == 0

        await until(is_alone)  # a server's process ends a moment after its connection
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{seen[0]}/health")
