"""`sercha sync`: asks for syncs and follows them to their end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import typer

from sercha.cli.api import Api, open_api
from sercha.cli.exits import Status, run_async
from sercha.cli.follow import Followed, SyncEnd, follow_syncs
from sercha.cli.show import print_json, safe
from sercha.errors import NotFound, Rejected, WrongUsage

WAIT_HELP = "Return when searches find what the sync brought, or when it has failed."


def register(app: typer.Typer) -> None:
    """Add the command to *app*."""
    app.command("sync")(sync)


def sync(
    name: Annotated[str | None, typer.Argument(help="Name or id of a source.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All sources that are not paused.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help=WAIT_HELP)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask for a sync of one source, or of all of them."""
    if (name is None) is not all_:
        raise WrongUsage("sync: give the name of a source, or --all")
    run_async(partial(run_sync, name, wait=wait, as_json=as_json))


async def run_sync(name: str | None, *, wait: bool, as_json: bool) -> int:
    """Ask for the syncs; with *wait*, return when they have ended and are searchable."""
    async with open_api() as api:
        if name is None:
            sources = [each for each in await list_sources(api) if each["enabled"]]
        else:
            sources = [await find_source(api, name)]
        followed = [await request_sync(api, source) for source in sources]
        if not wait:
            _print_accepted(followed, as_json=as_json)
            return Status.DONE
        ends = await follow_syncs(api, followed)
        if as_json:
            print_json([summary(end) for end in ends])
        return status_of_syncs(ends)


def status_of_syncs(ends: Sequence[SyncEnd]) -> Status:
    """Return the exit status of a command that waited: done when searches find all of it."""
    return Status.DONE if all(end.is_searchable for end in ends) else Status.FAILED


async def list_sources(api: Api) -> list[dict[str, Any]]:
    """Return all sources with their counters beside their own fields."""
    return [
        {**{key: value for key, value in each.items() if key != "source"}, **each["source"]}
        for each in await api.get("/sources")
    ]


async def find_source(api: Api, name: str) -> dict[str, Any]:
    """Return the source with this name or id.

    Raises:
        NotFound: there is none; the message lists what there is.
    """
    sources = await list_sources(api)
    for source in sources:
        if name in {source["name"], source["id"]}:
            return source
    names = ", ".join(sorted(source["name"] for source in sources)) or "none"
    raise NotFound(f"source {name}: there is none; known: {names}", code="source-not-found")


async def request_sync(api: Api, source: dict[str, Any]) -> Followed:
    """Ask for the sync of a source."""
    answer = await api.post(f"/sources/{source['id']}/sync")
    return Followed(source["id"], source["name"], answer["task_id"])


def summary(end: SyncEnd) -> dict[str, object]:
    """Return what ``--json`` prints of one sync."""
    return {
        "source_id": end.followed.source_id,
        "name": end.followed.name,
        "task_id": end.followed.task_id,
        "completed": end.is_done,
        "searchable": end.is_searchable,
        "message": end.message,
        "state": end.state,
    }


def _print_accepted(followed: Sequence[Followed], *, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {"source_id": each.source_id, "name": each.name, "task_id": each.task_id}
                for each in followed
            ]
        )
        return
    for each in followed:
        print(f"{safe(each.name)}: sync asked for (task {each.task_id})")
    if not followed:
        raise Rejected(
            "there is no source to sync: add one with `sercha source add`", code="no-source"
        )
