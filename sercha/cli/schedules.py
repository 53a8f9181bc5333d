"""`sercha schedules`: what runs when."""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Annotated, Any, cast
from uuid import UUID

import typer

from sercha.cli.api import PAGE_MAX, Api, open_api
from sercha.cli.bounds import within
from sercha.cli.confirm import Yes, confirm
from sercha.cli.exits import run_async
from sercha.cli.show import print_json, print_table, safe
from sercha.cli.sync import find_source
from sercha.domain.schedule import CatchUp
from sercha.errors import NotFound, WrongUsage

app = typer.Typer(help="What runs when.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="Name or id of the schedule.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Every = Annotated[
    str | None,
    typer.Option("--every", help="A duration such as 15m, 6h or 1d.", show_default=False),
]
Cron = Annotated[
    str | None,
    typer.Option("--cron", help="Five fields, such as '0 3 * * *'.", show_default=False),
]
Zone = Annotated[
    str | None,
    typer.Option("--tz", help="Time zone of --cron, such as Europe/Berlin.", show_default=False),
]
Anchor = Annotated[
    str | None,
    typer.Option(
        "--anchor",
        help="Instant from which --every counts, such as 2026-01-01T00:00:00Z.",
        show_default=False,
    ),
]
Priority = Annotated[
    int | None,
    typer.Option("--priority", help="From -9 to 9; higher runs first.", show_default=False),
]
Missed = Annotated[
    CatchUp | None,
    typer.Option("--catch-up", help="What becomes of slots that were missed.", show_default=False),
]
RunsMax = Annotated[
    int | None,
    typer.Option(
        "--runs-max", help="With --catch-up all: most missed slots that run.", show_default=False
    ),
]
MaxLate = Annotated[
    int | None,
    typer.Option(
        "--max-late",
        help="With --catch-up skip: seconds after which a slot is skipped.",
        show_default=False,
    ),
]


@app.command("list")
def list_(
    source: Annotated[
        str | None, typer.Option("--source", help="Only those of this source.", show_default=False)
    ] = None,
    limit: Annotated[
        int,
        typer.Option("--limit", callback=within(1, PAGE_MAX), help="Most to show (1 to 100)."),
    ] = PAGE_MAX,
    as_json: Json = False,
) -> None:
    """List schedules by name."""
    run_async(partial(_list, source, limit, as_json=as_json))


@app.command()
def show(
    name: Name,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", callback=within(1, PAGE_MAX), help="Most slots to show (1 to 100)."
        ),
    ] = 10,
    as_json: Json = False,
) -> None:
    """Show a schedule, its next slots, and what became of the latest ones."""
    run_async(partial(_show, name, limit, as_json=as_json))


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A name for it.")],
    task: Annotated[
        str, typer.Option("--task", help="sync_source, sync_all, reindex or prune.")
    ] = "sync_source",
    source: Annotated[
        str | None,
        typer.Option("--source", help="The source to sync, by name or id.", show_default=False),
    ] = None,
    every: Every = None,
    cron: Cron = None,
    tz: Zone = None,
    anchor: Anchor = None,
    priority: Priority = None,
    catch_up: Missed = None,
    runs_max: RunsMax = None,
    max_late: MaxLate = None,
    paused: Annotated[bool, typer.Option("--paused", help="Add it, but do not begin.")] = False,
    as_json: Json = False,
) -> None:
    """Add a schedule."""
    body = _fields(every, cron, tz, anchor, priority, catch_up, runs_max, max_late)
    if "kind" not in body:
        raise WrongUsage("schedules add: say when with --every or --cron")
    if (source is not None) != (task == "sync_source"):
        raise WrongUsage("schedules add: --source goes with --task sync_source, and with no other")
    body |= {"name": name, "task_kind": task, "enabled": not paused}
    run_async(partial(_add, body, source, as_json=as_json))


@app.command()
def edit(
    name: Name,
    rename: Annotated[
        str | None, typer.Option("--name", help="Another name.", show_default=False)
    ] = None,
    every: Every = None,
    cron: Cron = None,
    tz: Zone = None,
    anchor: Anchor = None,
    priority: Priority = None,
    catch_up: Missed = None,
    runs_max: RunsMax = None,
    max_late: MaxLate = None,
    as_json: Json = False,
) -> None:
    """Change what is given of a schedule; slots that are due already run as before."""
    body = _fields(every, cron, tz, anchor, priority, catch_up, runs_max, max_late)
    if rename is not None:
        body["name"] = rename
    if not body:
        raise WrongUsage("schedules edit: say what to change")
    run_async(partial(_edit, name, body, as_json=as_json))


@app.command()
def pause(name: Name) -> None:
    """Let none of its slots run from now on."""
    run_async(partial(_act, name, "pause", "paused"))


@app.command()
def resume(name: Name) -> None:
    """Go on with the next slot; those since the pause are not made up for."""
    run_async(partial(_act, name, "resume", "resumed"))


@app.command()
def run(name: Name, as_json: Json = False) -> None:
    """Enqueue its task now, besides its slots."""
    run_async(partial(_run, name, as_json=as_json))


@app.command()
def remove(name: Name, yes: Yes = False) -> None:
    """Remove a schedule with its history; its tasks stay."""
    confirm("schedules remove", f"Remove the schedule {safe(name)}?", yes)
    run_async(partial(_remove, name))


def _fields(
    every: str | None,
    cron: str | None,
    tz: str | None,
    anchor: str | None,
    priority: int | None,
    catch_up: CatchUp | None,
    runs_max: int | None,
    max_late: int | None,
) -> dict[str, object]:
    if every is not None and cron is not None:
        raise WrongUsage("give --every or --cron, not both")
    given = {
        "kind": "interval" if every is not None else "cron" if cron is not None else None,
        "spec": every if every is not None else cron,
        "tz": tz,
        "anchor": anchor,
        "priority": priority,
        "catch_up": catch_up,
        "runs_max": runs_max,
        "max_late": max_late,
    }
    return {name: value for name, value in given.items() if value is not None}


async def _list(source: str | None, limit: int, *, as_json: bool) -> None:
    async with open_api() as api:
        source_id = (await find_source(api, source))["id"] if source is not None else None
        answer = await api.get("/schedules", source_id=source_id, limit=limit)
    if as_json:
        print_json(answer)
        return
    rows = [
        [
            each["name"],
            each["task_kind"],
            _when(each),
            "on" if each["enabled"] else f"paused {each.get('paused_reason', '')}".strip(),
            each.get("next_slot", "never"),
            each["id"],
        ]
        for each in answer["schedules"]
    ]
    print_table(
        ["name", "task", "when", "state", "next slot", "id"],
        rows,
        empty="no schedules: add one with `sercha schedules add`",
    )
    if answer["total"] > len(rows):
        print(f"{answer['total'] - len(rows)} more are not shown", file=sys.stderr)


async def _show(name: str, limit: int, *, as_json: bool) -> None:
    async with open_api() as api:
        found = await _find(api, name)
        schedule = await api.get(f"/schedules/{found['id']}")
        slots = (await api.get(f"/schedules/{found['id']}/slots", limit=limit))["slots"]
    if as_json:
        print_json({**schedule, "slots": slots})
        return
    for field, value in schedule.items():
        shown = json.dumps(value) if isinstance(value, dict | list) else value
        print(f"{field}: {safe(shown)}")
    print_table(
        ["slot", "until", "outcome", "task"],
        [
            [
                each["slot"],
                each["last"] if each["last"] != each["slot"] else "",
                each["outcome"],
                each.get("task_id"),
            ]
            for each in slots
        ],
        empty="no slot has come yet",
    )


async def _add(body: dict[str, object], source: str | None, *, as_json: bool) -> None:
    async with open_api() as api:
        if source is not None:
            body["payload"] = {"source_id": (await find_source(api, source))["id"]}
        schedule = await api.post("/schedules", body)
    _print(schedule, "added", as_json=as_json)


async def _edit(name: str, body: dict[str, object], *, as_json: bool) -> None:
    async with open_api() as api:
        found = await _find(api, name)
        body["version"] = found["version"]
        schedule = await api.put(f"/schedules/{found['id']}", body)
    _print(schedule, "changed", as_json=as_json)


async def _act(name: str, action: str, done: str) -> None:
    async with open_api() as api:
        found = await _find(api, name)
        await api.post(f"/schedules/{found['id']}/{action}")
    print(f"{safe(found['name'])}: {done}")


async def _run(name: str, *, as_json: bool) -> None:
    async with open_api() as api:
        found = await _find(api, name)
        answer = await api.post(f"/schedules/{found['id']}/run")
    if as_json:
        print_json(answer)
    else:
        print(f"{safe(found['name'])}: task {answer['task_id']}")


async def _remove(name: str) -> None:
    async with open_api() as api:
        found = await _find(api, name)
        await api.delete(f"/schedules/{found['id']}")
    print(f"{safe(found['name'])}: removed")


async def _find(api: Api, name: str) -> dict[str, Any]:
    """Return a schedule by its name, else by its id."""
    found = (await api.get("/schedules", name=name, limit=1))["schedules"]
    if found:
        return cast("dict[str, Any]", found[0])
    try:
        schedule_id = UUID(name)
    except ValueError:
        raise NotFound(
            f"schedule {safe(name)}: there is none with this name", code="schedule-not-found"
        ) from None
    return cast("dict[str, Any]", await api.get(f"/schedules/{schedule_id}"))


def _when(schedule: dict[str, Any]) -> str:
    if schedule["kind"] == "interval":
        return f"every {schedule['spec']}"
    return f"{schedule['spec']} ({schedule['tz']})"


def _print(schedule: dict[str, Any], done: str, *, as_json: bool) -> None:
    if as_json:
        print_json(schedule)
    else:
        print(f"{safe(schedule['name'])}: {done}; next slot {schedule.get('next_slot', 'never')}")
