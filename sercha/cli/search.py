"""`sercha search`: prints what was found, with the matches in bold."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer
from rich.text import Text

from sercha.cli.api import open_api
from sercha.cli.bounds import within
from sercha.cli.exits import run_async
from sercha.cli.show import Output, highlighted, is_terminal, print_json, safe
from sercha.cli.sync import find_source
from sercha.domain.query import LIMIT_MAX, WINDOW_MAX
from sercha.errors import WrongUsage


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
    as_json: Annotated[bool, typer.Option("--json", help="Print the API's answer.")] = False,
) -> None:
    """Find documents."""
    if offset + limit > WINDOW_MAX:
        raise WrongUsage(
            f"--offset: {offset} is outside 0 to {WINDOW_MAX - limit} "
            f"(--offset and --limit may reach {WINDOW_MAX} together)"
        )
    body: dict[str, object] = {"query": " ".join(query), "limit": limit, "offset": offset}
    run_async(partial(_search, body, source or [], as_json=as_json))


async def _search(body: dict[str, object], sources: list[str], *, as_json: bool) -> None:
    async with open_api() as api:
        if sources:
            body["source_ids"] = [(await find_source(api, name))["id"] for name in sources]
        page = await api.post("/search", body)
    if as_json:
        print_json(page)
    else:
        _print_page(page, first=int(str(body["offset"])) + 1)


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
        if title and title != path:
            console.print(Text(f"   {path}", style="green" if is_terminal() else ""))
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
