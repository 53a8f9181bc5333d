"""`sercha source`: the places documents come from."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sercha.cli.api import PAGE_MAX, is_loopback, open_api
from sercha.cli.bounds import within
from sercha.cli.confirm import Yes, confirm
from sercha.cli.exits import run_async
from sercha.cli.follow import follow_syncs
from sercha.cli.show import print_json, print_table, safe
from sercha.cli.survey import print_survey
from sercha.cli.sync import (
    WAIT_HELP,
    find_source,
    list_sources,
    request_sync,
    run_sync,
    status_of_syncs,
)
from sercha.errors import WrongUsage

app = typer.Typer(
    help="Add, list, sync, pause, resume and remove sources.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name = Annotated[str, typer.Argument(help="Name or id of the source.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Wait = Annotated[bool, typer.Option("--wait", help=WAIT_HELP)]


@app.command()
def add(
    paths: Annotated[list[Path], typer.Argument(help="Folders or files on the workers' machines.")],
    name: Annotated[
        str | None,
        typer.Option("--name", help="By default the name of the first folder.", show_default=False),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude", help="Pattern of names to leave out; may be given several times."
        ),
    ] = None,
    include_hidden: Annotated[
        bool, typer.Option("--include-hidden", help="Also files and folders that begin with a dot.")
    ] = False,
    wait: Wait = False,
    no_sync: Annotated[
        bool, typer.Option("--no-sync", help="Do not ask for the first sync.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add folders as a source and ask for its first sync."""
    absolute = [_portable(path) for path in paths]
    config: dict[str, object] = {"paths": absolute}
    if exclude:
        config["exclude"] = exclude
    if include_hidden:
        config["include_hidden"] = True
    name = name or Path(absolute[0]).name or "files"
    body: dict[str, object] = {"name": name, "provider_type": "localfs", "config": config}
    run_async(partial(_add, body, is_synced=not no_sync, wait=wait, as_json=as_json))


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List all sources."""
    run_async(partial(_list, as_json=as_json))


@app.command()
def sync(name: Name, wait: Wait = False, as_json: Json = False) -> None:
    """Ask for a sync of a source; the same as `sercha sync NAME`."""
    run_async(partial(run_sync, name, wait=wait, as_json=as_json))


@app.command()
def pause(name: Name) -> None:
    """Stop syncing a source, also in the middle of a sync; its documents stay and are found."""
    run_async(partial(_with_source, name, "/disable", "paused"))


@app.command()
def resume(name: Name) -> None:
    """Let a paused source be synced again, and ask for a sync."""
    run_async(partial(_with_source, name, "/enable", "resumed"))


@app.command()
def issues(
    name: Name,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", callback=within(1, PAGE_MAX), help="Most issues to show (1 to 100)."
        ),
    ] = PAGE_MAX,
    as_json: Json = False,
) -> None:
    """List what could not be read, or only in part, with the reasons."""
    run_async(partial(_issues, name, limit, as_json=as_json))


@app.command()
def remove(name: Name, yes: Yes = False) -> None:
    """Remove a source with its documents; the files themselves are not touched."""
    question = f"Remove {safe(name)} and all its documents from the index?"
    confirm("source remove", question, yes)
    run_async(partial(_remove, name))


async def _add(
    body: dict[str, object], *, is_synced: bool, wait: bool, as_json: bool
) -> int | None:
    async with open_api() as api:
        source = await api.post("/sources", body)
        if as_json:
            print_json(source)
        else:
            print(f"{safe(source['name'])}: added ({source['id']})")
        if not is_synced:
            return None
        if not as_json and is_loopback(api.url):
            await print_survey(source["name"], source["config"])
        followed = await request_sync(api, source)
        ends = await follow_syncs(api, [followed]) if wait else []
        return status_of_syncs(ends)


async def _list(*, as_json: bool) -> None:
    async with open_api() as api:
        sources = await list_sources(api)
    if as_json:
        print_json(sources)
        return
    print_table(
        ["name", "type", "state", "documents", "last sync", "id"],
        [
            [
                each["name"],
                each["provider_type"],
                each["sync_status"] if each["enabled"] else "paused",
                each["document_count"],
                each.get("last_sync_at", "never"),
                each["id"],
            ]
            for each in sources
        ],
        empty="no sources: add one with `sercha source add FOLDER`",
    )


async def _issues(name: str, limit: int, *, as_json: bool) -> None:
    async with open_api() as api:
        source = await find_source(api, name)
        answer = await api.get(f"/sources/{source['id']}/issues", limit=limit)
    if as_json:
        print_json(answer["issues"])
        return
    rows = [
        [each["external_id"], each["kind"], each["code"], each["reason"]]
        for each in answer["issues"]
    ]
    print_table(["item", "kind", "code", "reason"], rows, empty="everything could be read")


async def _with_source(name: str, action: str, done: str) -> None:
    async with open_api() as api:
        source = await find_source(api, name)
        await api.post(f"/sources/{source['id']}{action}")
    print(f"{safe(source['name'])}: {done}")


async def _remove(name: str) -> None:
    async with open_api() as api:
        source = await find_source(api, name)
        await api.delete(f"/sources/{source['id']}")
    print(f"{safe(source['name'])}: removed")


def _portable(path: Path) -> str:
    text = str(path.expanduser().absolute())
    try:
        text.encode()
    except UnicodeEncodeError:
        raise WrongUsage(
            f"{text!r}: the name is not valid UTF-8: give the folder above it instead"
        ) from None
    return text
