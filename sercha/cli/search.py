"""`sercha search`: prints what was found, with the matches in bold."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from functools import partial
from typing import Annotated, Any

import typer
from rich.text import Text

from sercha.cli.api import open_api
from sercha.cli.bounds import within
from sercha.cli.exits import run_async
from sercha.cli.show import Output, highlighted, is_terminal, print_json, safe
from sercha.cli.sync import find_source
from sercha.domain.filters import parse_instant
from sercha.domain.query import LIMIT_MAX, WINDOW_MAX
from sercha.errors import WrongUsage

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_PLACES_SHOWN = 3


def _instant(value: str | None) -> str | None:
    """Check a date or an instant; a date is its first moment here, where the command runs."""
    if value is None:
        return None
    try:
        return _local_midnight(value) or parse_instant(value).isoformat()
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{value!r} is neither a date such as 2026-11-01 nor an instant such as 2026-11-01T09:30:00Z"
        ) from None


def _local_midnight(value: str) -> str | None:
    if not _DATE.fullmatch(value):
        return None
    return datetime.combine(date.fromisoformat(value), time.min).astimezone(UTC).isoformat()


Types = Annotated[
    list[str] | None,
    typer.Option(
        "--type",
        help="Only documents of this type, such as text/markdown or 'text/*'; may be given several times.",
    ),
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        callback=_instant,
        help="Only documents changed since then: 2026-11-01 (midnight here) or 2026-11-01T09:30:00Z.",
        show_default=False,
    ),
]
Before = Annotated[
    str | None,
    typer.Option(
        "--before",
        callback=_instant,
        help="Only documents changed before then, written likewise.",
        show_default=False,
    ),
]
Path = Annotated[
    str | None,
    typer.Option(
        "--path", help="Only documents in this folder, written as in results.", show_default=False
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("search")(search)


def search(
    query: Annotated[
        list[str], typer.Argument(help='Words; "a phrase" in quotes; +must; after `--` also -not.')
    ],
    limit: Annotated[
        int,
        typer.Option(
            "--limit", callback=within(1, LIMIT_MAX), help="Most results to show (1 to 100)."
        ),
    ] = 10,
    offset: Annotated[
        int,
        typer.Option(
            "--offset",
            callback=within(0, WINDOW_MAX - 1),
            help="Results to leave out at the start (offset and limit: up to 10000 together).",
        ),
    ] = 0,
    source: Annotated[
        list[str] | None,
        typer.Option("--source", help="Only this source; may be given several times."),
    ] = None,
    types: Types = None,
    modified_from: From = None,
    modified_before: Before = None,
    path: Path = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's answer.")] = False,
) -> None:
    """Find documents."""
    if offset + limit > WINDOW_MAX:
        raise WrongUsage(
            f"--offset: {offset} is outside 0 to {WINDOW_MAX - limit} "
            f"(--offset and --limit may reach {WINDOW_MAX} together)"
        )
    body: dict[str, object] = {"query": " ".join(query), "limit": limit, "offset": offset}
    filters = {
        "types": types,
        "modified_from": modified_from,
        "modified_before": modified_before,
        "path": path and _as_in_results(path),
    }
    body |= {name: value for name, value in filters.items() if value}
    run_async(partial(_search, body, source or [], as_json=as_json))


def _as_in_results(path: str) -> str:
    """Spell bytes that are no UTF-8 as the paths of documents do."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


async def _search(body: dict[str, object], sources: list[str], *, as_json: bool) -> None:
    async with open_api() as api:
        if sources:
            body["source_ids"] = [(await find_source(api, name))["id"] for name in sources]
        page = await api.post("/search", body)
    if as_json:
        print_json(page)
    else:
        _print_page(page, first=int(str(body["offset"])) + 1)


def _place(result: dict[str, Any]) -> str:
    """Say where in a document the passage is; a text shows its headings itself."""
    heading = result["chunk"].get("heading")
    is_text = str(result["document"].get("mime_type", "")).startswith("text/")
    return f" ({safe(heading)})" if heading and not is_text else ""


def _other_places(places: list[dict[str, Any]]) -> Iterator[str]:
    """Say where the same content is too: some paths, and how many more."""
    for each in places[:_PLACES_SHOWN]:
        yield f"also: {safe(each['path'])}"
    if len(places) > _PLACES_SHOWN:
        yield f"also: {len(places) - _PLACES_SHOWN} more"


def _print_page(page: dict[str, Any], *, first: int) -> None:
    console = Output(highlight=False, soft_wrap=True)
    results = page["results"]
    for number, result in enumerate(results, first):
        document = result["document"]
        title, path = safe(document.get("title", "")), safe(document["path"])
        heading = Text(f"{number}. ") + Text(
            title or path, style="bold blue" if is_terminal() else ""
        )
        console.print(heading)
        place = _place(result)
        if place or (title and title != path):
            console.print(Text(f"   {path}{place}", style="green" if is_terminal() else ""))
        for line in _other_places(result.get("also_at") or []):
            console.print(Text(f"   {line}", style="dim" if is_terminal() else ""))
        for snippet in result["highlights"][:1]:
            console.print(Text("   ") + highlighted(snippet))
    last = first + len(results) - 1
    took = page["took"] / 1e6
    shown = f"{first} to {last} of {page['total_count']}" if results else "nothing found"
    if not results and page["total_count"]:
        shown = f"no results from {first} on, {page['total_count']} in all"
    console.print(Text(f"{shown} ({took:.0f} ms)", style="dim" if is_terminal() else ""))
    if page.get("degraded"):
        note = f"Only {page['coverage']} % of the documents could be searched: there may be more."
        console.print(Text(note, style="yellow" if is_terminal() else ""))
