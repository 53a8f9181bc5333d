"""`sercha tasks`: what is queued, running and done; ask for one, put one back, cancel one."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from sercha.cli.api import PAGE_MAX, open_api
from sercha.cli.bounds import within
from sercha.cli.exits import run_async
from sercha.cli.show import print_json, print_table, safe
from sercha.cli.sync import find_source
from sercha.domain.task import TaskKind, TaskState

app = typer.Typer(
    help="Look at tasks, ask for some, retry and cancel them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

TaskId = Annotated[str, typer.Argument(help="Id of a task.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class GeneralKind(StrEnum):
    """Tasks that concern all of Sercha."""

    SYNC_ALL = TaskKind.SYNC_ALL
    REINDEX = TaskKind.REINDEX
    PRUNE = TaskKind.PRUNE


@app.command("list")
def list_(
    state: Annotated[
        TaskState | None,
        typer.Option("--state", help="Only tasks in this state.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only tasks of this kind.", show_default=False)
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--source", help="Only tasks of the source with this name or id.", show_default=False
        ),
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(
            "--before", help="Only tasks older than the one with this id.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", callback=within(1, PAGE_MAX), help="Most tasks to show (1 to 100)."
        ),
    ] = 20,
    as_json: Json = False,
) -> None:
    """List tasks, the newest first."""
    chosen: dict[str, object] = {"state": state, "kind": kind, "before": before, "limit": limit}
    run_async(partial(_list, chosen, source, as_json=as_json))


@app.command()
def show(task_id: TaskId, as_json: Json = False) -> None:
    """Show one task."""
    run_async(partial(_show, task_id, as_json=as_json))


@app.command()
def add(
    kind: Annotated[GeneralKind, typer.Argument(help="What is to be done.")], as_json: Json = False
) -> None:
    """Ask for a task that concerns all sources, all copies of the index, or the ledger itself."""
    run_async(partial(_add, kind, as_json=as_json))


@app.command()
def retry(task_id: TaskId, as_json: Json = False) -> None:
    """Put a dead or cancelled task back into the queue, with all its tries."""
    run_async(partial(_retry, task_id, as_json=as_json))


@app.command()
def cancel(task_id: TaskId) -> None:
    """Cancel a task that waits or runs; what it has done so far stays."""
    run_async(partial(_cancel, task_id))


async def _list(chosen: dict[str, object], source: str | None, *, as_json: bool) -> None:
    async with open_api() as api:
        if source is not None:
            chosen = {**chosen, "source_id": (await find_source(api, source))["id"]}
        answer = await api.get("/tasks", **chosen)
    if as_json:
        print_json(answer)
        return
    print_table(
        ["id", "kind", "state", "attempt", "created", "error"],
        [
            [
                task["id"],
                task["kind"],
                task["state"],
                task["attempt"],
                task["created_at"],
                task.get("last_error"),
            ]
            for task in answer["tasks"]
        ],
        empty="no tasks",
    )


async def _show(task_id: str, *, as_json: bool) -> None:
    async with open_api() as api:
        task = await api.get(f"/tasks/{task_id}")
    if as_json:
        print_json(task)
        return
    for name, value in task.items():
        print(f"{name}: {safe(value)}")


async def _add(kind: GeneralKind, *, as_json: bool) -> None:
    async with open_api() as api:
        answer = await api.post("/tasks", {"kind": kind})
    if as_json:
        print_json(answer)
    else:
        print(f"{kind}: asked for (task {safe(answer['task_id'])})")


async def _retry(task_id: str, *, as_json: bool) -> None:
    async with open_api() as api:
        answer = await api.post(f"/tasks/{task_id}/retry")
    if as_json:
        print_json(answer)
    elif answer["task_id"] == task_id.lower():
        print(f"{safe(task_id)}: queued")
    else:
        print(f"{safe(task_id)}: task {safe(answer['task_id'])} waits in its place")


async def _cancel(task_id: str) -> None:
    async with open_api() as api:
        await api.post(f"/tasks/{task_id}/cancel")
    print(f"{safe(task_id)}: cancelled")
