"""`sercha index`: compares an API's copy of the index with PostgreSQL, or makes it anew."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from sercha.cli.api import open_api
from sercha.cli.exits import Status, run_async
from sercha.cli.show import print_json, safe

PATIENCE = 660.0
"""Seconds; both commands read the whole truth, and the server gives up before."""

app = typer.Typer(help="Look after the index.", no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def verify(as_json: Json = False) -> None:
    """Count the differences between the index and PostgreSQL; exit status 1 if there are any."""
    run_async(partial(_verify, as_json=as_json))


@app.command()
def rebuild(as_json: Json = False) -> None:
    """Make the index anew from PostgreSQL; the old one answers meanwhile."""
    run_async(partial(_rebuild, as_json=as_json))


async def _verify(*, as_json: bool) -> int:
    async with open_api() as api:
        report = await api.post("/admin/index/verify", patience=PATIENCE)
    counts = {name: int(report[name]) for name in ("checked", "missing", "stale", "ghost")}
    differences = counts["missing"] + counts["stale"] + counts["ghost"]
    if as_json:
        print_json(report)
    else:
        print(", ".join(f"{count} {name}" for name, count in counts.items()))
        for example in report.get("examples", []):
            print(f"  {safe(example)}")
        print("the index and PostgreSQL agree" if not differences else f"{differences} differences")
    return Status.FAILED if differences else Status.DONE


async def _rebuild(*, as_json: bool) -> None:
    async with open_api() as api:
        answer = await api.post("/admin/index/rebuild", patience=PATIENCE)
    if as_json:
        print_json(answer)
    else:
        print("the index was rebuilt")
