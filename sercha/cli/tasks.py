"""`sercha tasks`: what is queued, running and done."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from sercha.cli.api import PAGE_MAX, open_api
from sercha.cli.bounds import within
from sercha.cli.exits import run_async
from sercha.cli.show import print_json, print_table, safe
from sercha.domain.task import TaskState

app = typer.Typer(help="Look at tasks.", no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(
    state: Annotated[
        TaskState | None,
        typer.Option("--state", help="Only tasks in this state.", show_default=False),
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", callback=within(1, PAGE_MAX), help="Most tasks to show (1 to 100)."
        ),
    ] = 20,
    as_json: Json = False,
) -> None:
    """List the latest tasks."""
    run_async(partial(_list, state, limit, as_json=as_json))


@app.command()
def show(
    task_id: Annotated[str, typer.Argument(help="Id of a task.")], as_json: Json = False
) -> None:
    """Show one task."""
    run_async(partial(_show, task_id, as_json=as_json))


async def _list(state: TaskState | None, limit: int, *, as_json: bool) -> None:
    async with open_api() as api:
        answer = await api.get("/tasks", state=state, limit=limit)
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
