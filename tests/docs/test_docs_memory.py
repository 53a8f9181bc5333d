"""The page about search in memory says what happens, and its example runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import cast

from tests.support.docs import DOCS, blocks

PAGE = DOCS / "how-to" / "search-in-memory.md"


def example() -> Callable[[str], Awaitable[list[str]]]:
    [block] = [each for each in blocks("python") if each.page == PAGE]
    names: dict[str, object] = {"__name__": "example"}
    exec(compile(block.text, block.name, "exec"), names)
    return cast("Callable[[str], Awaitable[list[str]]]", names["main"])


async def test_example_finds_the_notes_and_marks_the_words() -> None:
    main = example()

    assert await main("green tea") == [
        "drinks/tea.md: # <mark>Tea</mark> Oolong is half oxidised, <mark>green</mark> <mark>tea</mark> is not.",
        "drinks/coffee.md: # Coffee Arabica grows on mountains, as <mark>tea</mark> does.",
    ]
    assert await main("plants") == [], "the filter leaves out what is elsewhere"


def test_network_that_fails_is_imported_without_the_index() -> None:
    program = (
        "import sys, sercha.testing as testing; assert testing.open_proxy;"
        "assert 'tantivy' not in sys.modules; assert testing.MemoryIndex; assert 'tantivy' in sys.modules"
    )

    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)
